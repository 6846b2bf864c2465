"""Takes over what dead workers of the same model on this host leave behind, within milliseconds of their death.

Theory of operation
    Every worker holds the lock of its own journals for its life. One thread for each other worker waits in the kernel
    for that worker's lock, which comes free when its process is dead and not before:

        look, each heartbeat ─► wait for the lock ─► read a portion ─► on the loop: move it in, go on with it ─┐
                                                         ▲                                                     │
                                                         └─────────────── until nothing is left ◄──────────────┘
                                                  on the loop: tell who is dead ─► clear the lock file, unlock ◄─┘

    Files are read in the thread, so that what runs here does not stall for another's disk; they are moved, and handed
    to the actor, on the loop, a bounded portion at a time. A file is always in exactly one worker's directory, and only
    who holds that directory's lock may run or publish it. So a death in the midst of it leaves each file with whoever
    takes that lock next.

    The lock file names the engine whose journals these are; only a worker with an engine like it takes them. Empty, it
    says that there is nothing to take until its owner has an engine again, so that a free lock is not taken in a loop.
    It names the process too: once all its journals are here, whatever it was asked for and they don't show never began.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial

from engine_worker.config import Settings
from engine_worker.journal_dirs import JournalDirs, JournalFile, JournalOwner, workers_with_journals
from engine_worker.locks import FileLock

logger = logging.getLogger(__name__)

PORTION_FILES_MAX = 200
PORTION_BYTES_MAX = 2**17
"""What one portion holds at most, or else one file. The loop takes some 12 ms for it where all is to be resumed."""
_CLOSED_LOOK_S = 0.5
"""How often a thread that waits for the loop looks whether that will ever come to it."""
_AFTER_FAILURE_S = 10.0
"""How long a worker is left alone whose lock could not be had, so that the log is not flooded."""

TakeIn = Callable[[str, list[JournalFile], str], None]
"""`take_in(worker, files, dead)`: have these journals of a dead worker; called on the loop, with its lock held.

Called last without files, and with the incarnation that is `dead`; that is empty before, and where journals had to be
left, so that nobody can say what that process had begun.
"""


class Takeover:
    """Looks after the other workers' journals for the worker `own`, whose engine has this fingerprint.

    Made on the event loop; `take_in` is called there. At most `workers_max` threads wait.
    """

    def __init__(self, settings: Settings, own: str, fingerprint: str, take_in: TakeIn) -> None:
        self._settings = settings
        self._own = own
        self._fingerprint = fingerprint
        self._take_in = take_in
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()
        self._swept = False
        self._watched: set[str] = set()  # Workers whose lock a thread waits for or holds.
        self._foreign: dict[str, str] = {}  # Told to the operator: a worker, and the fingerprint of its engine.

    def __repr__(self) -> str:
        return f"<Takeover by {self._own}: {sorted(self._watched)} watched>"

    def close(self) -> None:
        """Take nothing over any more; to be called on the loop. What a thread is about to get it releases at once."""
        self._closed.set()

    async def sweep(self) -> None:
        """Take over what lies free now; waits for nobody's death. `look` does nothing before this."""
        for worker in self._others():
            if self._matches(worker):
                await asyncio.to_thread(self._guarded, worker, FileLock.try_take)
        self._swept = True

    def look(self) -> None:
        """Wait from now on for the death of each worker that has come and is of this model."""
        for worker in self._others() if self._swept else ():
            if self._matches(worker):
                self._watched.add(worker)
                name = f"takeover of {worker}"
                threading.Thread(target=self._watch, args=(worker,), name=name, daemon=True).start()

    def _others(self) -> Iterator[str]:
        """The workers that nobody watches yet."""
        for worker in workers_with_journals(self._settings)[: self._settings.workers_max]:
            if worker != self._own and worker not in self._watched and not self._closed.is_set():
                yield worker

    def _matches(self, worker: str) -> bool:
        """Whether this worker's journals are of an engine like ours; one that is not is told once."""
        try:
            text = JournalDirs(self._settings, worker).lock.read_text(errors="replace")
        except OSError:
            return False
        found = JournalOwner.parse(text).fingerprint
        if found not in ("", self._fingerprint) and self._foreign.get(worker) != found:
            self._foreign[worker] = found
            logger.info("the journals of %s are left to workers of its model: %s", worker, found)
        return found == self._fingerprint

    # ---- in a thread -------------------------------------------------------------------------------------------------

    def _watch(self, worker: str) -> None:
        if not self._guarded(worker, FileLock.take):
            self._closed.wait(_AFTER_FAILURE_S)
        self._on_loop(partial(self._watched.discard, worker))

    def _guarded(self, worker: str, take: Callable[[FileLock], bool | None]) -> bool:
        """Take the lock, then what it is for; whether that went in order."""
        try:
            lock = FileLock(JournalDirs(self._settings, worker).lock)
            try:
                if take(lock) is not False:
                    self._take_over(worker, lock)
            finally:
                lock.close()
        except OSError:
            logger.exception("the journals of %s can't be taken over now", worker)
            return False
        return True

    def _take_over(self, worker: str, lock: FileLock) -> None:
        owner = JournalOwner.parse(lock.content)
        if self._closed.is_set() or owner.fingerprint != self._fingerprint:
            return  # It has another model by now, or somebody was here before us.
        dirs = JournalDirs(self._settings, worker)
        for portion in _portions(dirs.read()):
            if not self._hand_over(worker, portion):
                return
        if self._hand_over(worker, [], "" if dirs.hold_journals() else owner.incarnation):
            dirs.remove_volatile_if_empty()
            lock.write("")

    def _hand_over(self, worker: str, portion: list[JournalFile], dead: str = "") -> bool:
        """Have the loop take this in and wait until it has; whether it did."""
        done = threading.Event()
        self._on_loop(partial(self._take_portion, worker, portion, dead, done))
        while not done.wait(_CLOSED_LOOK_S):
            if self._closed.is_set():  # On the loop, and so before our call or after it: it is refused, or was done.
                return False
        return not self._closed.is_set()

    def _on_loop(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # The loop is closed.
            self._closed.set()

    # ---- on the loop -------------------------------------------------------------------------------------------------

    def _take_portion(self, worker: str, portion: list[JournalFile], dead: str, done: threading.Event) -> None:
        try:
            if not self._closed.is_set():
                self._take_in(worker, portion, dead)
        finally:
            done.set()


def _portions(files: Iterator[JournalFile]) -> Iterator[list[JournalFile]]:
    portion: list[JournalFile] = []
    size = 0
    for file in files:
        if portion and (len(portion) >= PORTION_FILES_MAX or size + file.journal.size > PORTION_BYTES_MAX):
            yield portion
            portion, size = [], 0
        portion.append(file)
        size += file.journal.size
    if portion:
        yield portion
