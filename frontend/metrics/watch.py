"""What the links of a process have to tell: turns that ended, responses that changed hands, and, with every heartbeat,
how the process is and which workers are there."""

import os
import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from frontend.messages import Charge
from frontend.metrics import catalogue
from frontend.metrics.pacing import Pace
from frontend.metrics.sheet import Sheet, exact
from frontend.reading import Reading
from frontend.workers import Worker

_TURNS_REMEMBERED: Final = 1000
"""Turns that were told last: of several sessions that see a turn end at the same time, the first one counts."""
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """One process's, counting on `sheet`; `charge` is called once for every turn that has ended, to charge its key."""

    def __init__(self, sheet: Sheet, charge: Callable[[Charge], None]) -> None:
        self._sheet = sheet
        self._charge = charge
        self._ended: dict[tuple[str, int], None] = {}
        self._cpu = sheet.count(catalogue.CPU)
        self._memory = sheet.count(catalogue.MEMORY)
        self._lag = sheet.distribution(catalogue.LOOP_LAG)
        self._lost = sheet.count(catalogue.WORKERS_LOST)
        self._there: dict[str, str | None] = {}
        """The incarnations of the workers that are there, by name."""
        self._due: float | None = None
        sheet.count(catalogue.PROCESSES).put(1)
        sheet.count(catalogue.PROCESS_STARTS).add()

    def __repr__(self) -> str:
        return f"<Watch {len(self._ended)} turns, {len(self._there)} workers>"

    def turn_ended(self, charge: Charge) -> None:
        """A session has seen a turn end; others may, too."""
        turn = (charge.response_id, charge.turn)
        if turn in self._ended:
            return
        self._ended[turn] = None
        if len(self._ended) > _TURNS_REMEMBERED:
            del self._ended[next(iter(self._ended))]
        self._charge(charge)
        usage, model, count = charge.usage, charge.model, self._sheet.count
        count(catalogue.TURNS, model, charge.reason).add()
        count(catalogue.INPUT_TOKENS, model).add(usage.input_tokens)
        count(catalogue.CACHED_TOKENS, model).add(usage.cached_tokens)
        count(catalogue.OUTPUT_TOKENS, model).add(usage.output_tokens)
        count(catalogue.REASONING_TOKENS, model).add(usage.reasoning_tokens)

    def adopted(self) -> None:
        """A response whose owner was lost is ours."""
        self._sheet.count(catalogue.ADOPTIONS).add()

    def moved(self, readers: int) -> None:
        """Readers follow their responses to another worker."""
        self._sheet.count(catalogue.MOVES).add(readers)

    def beat(self, workers: Collection[Worker], readings: Mapping[int, object], now: float, due: float) -> None:
        """Look at this process, the workers, and the `readings` (by number) that wait there; the next one is `due`.

        Times are monotonic seconds.
        """
        if self._due is not None:
            self._lag.observe(max(0.0, now - self._due))
        self._due = due
        self._sheet.settle()
        self._cpu.put(exact(time.process_time()))
        self._memory.put(_resident_bytes())
        there = {worker.name: worker.incarnation for worker in workers if not worker.lost}
        self._lost.add(sum(there.get(name) != incarnation for name, incarnation in self._there.items()))
        self._there = there
        for number in [number for worker in workers for number in worker.queue]:
            match readings.get(number):
                case Reading(pace=Pace() as pace):
                    pace.queued(now)
                case _:
                    pass


def _resident_bytes() -> int:
    """Resident memory of this process (proc(5): the second field of statm, in pages); 0 where there is no /proc."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
