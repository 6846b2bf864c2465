"""A worker's journals, which outlive its processes: a dictionary for the files, and a holder for the flock."""

from collections.abc import Callable

from tests.simulation.timeline import Process

JournalName = tuple[str, bool]
"""A response's id, and whether the journal is the volatile one."""


class Directory:
    """One worker's journals, and their lock: whoever holds it, and whose engine the journals are of."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.files: dict[JournalName, bytes] = {}
        self.holder: Process | None = None
        self.content = ""
        """Whose engine they are of, and which process's."""
        self.owner = ""
        self._waiting: list[Callable[[], None]] = []

    def try_take(self, process: Process) -> bool:
        if self.holder is not None:
            return False
        self.holder = process
        return True

    def when_free(self, call: Callable[[], None]) -> None:
        """Call it once the lock may be had; others may have it by then."""
        if self.holder is None:
            call()
        else:
            self._waiting.append(call)

    def release(self, process: Process) -> None:
        if self.holder is process:
            self.holder = None
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()
