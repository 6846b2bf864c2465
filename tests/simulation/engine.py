"""An engine that says words which no other process would, so that whatever is said twice or in two places shows."""

import random
from functools import partial
from typing import TYPE_CHECKING

from engine_worker.engines.interface import EngineLoad, Turn, TurnPrepared, TurnRecord
from engine_worker.mailbox import Emitted, TurnQueued, TurnRefused
from protocol.records import ErrorDetail, Step, TextDelta, TurnFinished, TurnStarted, Usage

if TYPE_CHECKING:
    from tests.simulation.worker import WorkerProcess

STEP_S = 0.5


class Engine:
    """Runs turns for one worker: a step of all of them now and then, in words that no other process would say."""

    def __init__(self, worker: "WorkerProcess", chance: random.Random) -> None:
        self._worker = worker
        self._chance = chance
        self._turns: dict[str, int] = {}
        """Steps to go, by response."""
        self._aborted: set[str] = set()
        self._starting = 0
        self._signs = 0
        self.hangs = False
        self._stepping = False
        self._words = 0

    def load(self) -> EngineLoad:
        self._signs += not self.hangs
        return EngineLoad(running=len(self._turns), waiting=self._starting, signs=self._signs)

    def start(self, turn: Turn) -> None:
        self._starting += 1
        self._worker.later(self._chance.uniform(0.0, 0.3), partial(self._queue, turn))

    def abort(self, response_id: str) -> None:
        if response_id in self._turns:
            self._aborted.add(response_id)

    def _queue(self, turn: Turn) -> None:
        self._starting -= 1
        worker, response_id = self._worker, turn.response_id
        if turn.resume is None and self._chance.random() < 0.05:
            worker.handle(TurnRefused(response_id, ErrorDetail("server_error", "overloaded", "not now")))
            return
        said = 0
        if turn.resume is None:
            prepared, started = TurnPrepared(0, (1, 2), b"state"), TurnStarted(0, 2)
            worker.handle(Emitted(((response_id, prepared), (response_id, started))))
        else:
            said = len(turn.resume.steps)
        self._turns[response_id] = max(1, self._chance.randint(2, 16) - said)
        worker.handle(TurnQueued(response_id))
        if not self._stepping:
            self._stepping = True
            worker.later(STEP_S, self._step)

    def _step(self) -> None:
        worker = self._worker
        self._signs += 1
        if self.hangs:
            self._stepping = False
            return
        records: list[tuple[str, TurnRecord]] = []
        for response_id, left in list(self._turns.items()):
            if left and response_id not in self._aborted:
                self._turns[response_id] = left - 1
                self._words += 1
                text = f"{worker.incarnation}-{self._words} "
                records.append((response_id, Step((self._words,), (TextDelta(text),))))
            else:
                del self._turns[response_id]
                reason = "aborted" if response_id in self._aborted else "stop"
                self._aborted.discard(response_id)
                records.append((response_id, TurnFinished(reason, Usage(2, 0, 3))))  # type: ignore[arg-type]
        worker.handle(Emitted(tuple(records)))
        self._stepping = bool(self._turns)
        if self._stepping:
            worker.later(STEP_S, self._step)
