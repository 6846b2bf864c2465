"""What the engine hands over, kept until its burst is over: it hands over a record for each turn of a step.

With `coalesce_s`, bursts that follow one another sooner are one; the first after a longer silence never waits.
"""

import asyncio
from collections.abc import Callable

from engine_worker.engines.interface import TurnRecord


class Bursts:
    """`on_end` is called on the running event loop when a burst is over, unless it was taken before."""

    def __init__(self, coalesce_s: float, on_end: Callable[[], None]) -> None:
        self._coalesce_s = coalesce_s
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._records: list[tuple[str, TurnRecord]] = []
        self._taken_at = 0.0

    def __repr__(self) -> str:
        return f"<Bursts: {len(self._records)} records>"

    def add(self, response_id: str, record: TurnRecord) -> None:
        """Keep a record; the engine's `Emit`."""
        if not self._records:
            wait_s = self._coalesce_s and self._taken_at + self._coalesce_s - self._loop.time()
            if wait_s > 0:
                self._loop.call_later(wait_s, self._on_end)
            else:
                self._loop.call_soon(self._on_end)
        self._records.append((response_id, record))

    def take(self) -> tuple[tuple[str, TurnRecord], ...]:
        """All that came, in its order."""
        records = tuple(self._records)
        if records:
            self._records.clear()
            self._taken_at = self._coalesce_s and self._loop.time()
        return records
