"""The journals' files of one worker: holding their lock, appending to them, and moving in those of a dead worker.

A journal that can't be appended to is removed: readers are about to be told more than it holds, so that it would bring
back another response than theirs. Only the files written to most recently are held open.
"""

import contextlib
import logging
import os

from engine_worker.config import Settings
from engine_worker.journal import Journal
from engine_worker.journal_dirs import JournalDirs, JournalFile, JournalName, JournalOwner
from engine_worker.locks import FileLock
from engine_worker.mailbox import WriteJournal
from protocol.private_dir import NotPrivate, make_private

logger = logging.getLogger(__name__)


class JournalUnavailable(Exception):
    """The journals can't be had; the message says why."""


class JournalFiles:
    """The journals of the worker named `worker`. Takes their lock, for as long as it is open.

    Waits up to `journal_lock_wait_s` for a worker that is just taking over what an earlier process left. Raises
    `JournalUnavailable` when another process holds the lock for longer, or the directory can't be used.
    """

    def __init__(self, settings: Settings, worker: str) -> None:
        self._dirs = JournalDirs(settings, worker)
        self._sync = settings.journal_sync == "always"
        self._files_max = settings.journal_files_max
        self._files: dict[JournalName, int] = {}  # Open ones; the one not written for longest comes first.
        try:
            make_private(self._dirs.durable, "journal directory")
            if self._dirs.volatile.exists():
                self._dirs.make_volatile()
        except NotPrivate as error:
            raise JournalUnavailable(str(error)) from error
        self._closed = False
        self._lock = FileLock(self._dirs.lock)
        if not self._lock.take_within(settings.journal_lock_wait_s):
            self._lock.close()
            raise JournalUnavailable(f"another process holds the journals in {self._dirs.durable}")

    def __repr__(self) -> str:
        return f"<JournalFiles {self._dirs.durable}: {len(self._files)} open>"

    def close(self) -> None:
        """Close all files and give up the lock, which another worker may be waiting for. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        self._dirs.remove_volatile_if_empty()
        self._lock.close()

    def belong_to(self, owner: JournalOwner) -> None:
        """From now on these journals are of that process, and an engine like its own can go on with them.

        Raises `OSError`.
        """
        self._lock.write(str(owner))

    def read_all(self) -> tuple[Journal, ...]:
        """Read every journal there is; see `JournalDirs.read`."""
        return tuple(file.journal for file in self._dirs.read())

    def move_in(self, file: JournalFile) -> bool:
        """Make a journal of another worker, whose lock is held, one of ours; whether it is.

        It is left where it is when there is one of that name here, or when it can't be moved. A power cut may leave it
        in either directory, and so with one worker.
        """
        opened, volatile = file.journal.opened, file.journal.volatile
        assert opened is not None
        name = JournalName(opened.response_id, volatile)
        path = self._dirs.path(name)
        try:
            if volatile:
                self._dirs.make_volatile()
            if path.exists():
                logger.warning("%s is left alone: %s is here already", file.path, path)
                return False
            os.rename(file.path, path)
        except (OSError, NotPrivate) as error:
            logger.error("%s can't be taken over: %s", file.path, error)
            return False
        return True

    def write(self, effect: WriteJournal) -> None:
        """Append to the response's journal. Raises `OSError`, and then there is no such journal any more."""
        name = JournalName(effect.response_id, effect.volatile)
        try:
            file = self._files.pop(name, None)
            if file is None:
                file = self._open(name, new=effect.first)
            self._files[name] = file
            written = os.write(file, effect.entries)
            if self._sync or written < len(effect.entries):
                self._finish_write(file, effect.entries[written:])
        except OSError:
            with contextlib.suppress(OSError):
                self.unlink(effect.response_id, volatile=effect.volatile)
            raise
        if effect.last:
            os.close(self._files.pop(name))

    def sync(self, response_id: str, *, volatile: bool) -> None:
        """Have the disk keep the response's journal as it is now, and its name; may be called in any thread.

        One that was removed meanwhile is fine. Raises `OSError`.
        """
        path = self._dirs.path(JournalName(response_id, volatile))
        with contextlib.suppress(FileNotFoundError):
            for kept in (path, path.parent):
                opened = os.open(kept, os.O_RDONLY)
                try:
                    os.fsync(opened)
                finally:
                    os.close(opened)

    def unlink(self, response_id: str, *, volatile: bool) -> None:
        """Remove the response's journal; one that is absent is fine. Raises `OSError`."""
        name = JournalName(response_id, volatile)
        file = self._files.pop(name, None)
        if file is not None:
            os.close(file)
        self._dirs.path(name).unlink(missing_ok=True)

    def _open(self, name: JournalName, *, new: bool) -> int:
        """Open a journal to append to; one that is not `new` must be there."""
        if len(self._files) >= self._files_max:
            os.close(self._files.pop(next(iter(self._files))))
        if new and name.volatile and not self._dirs.volatile.exists():
            try:
                self._dirs.make_volatile()
            except NotPrivate as error:
                raise OSError(str(error)) from error
        created = os.O_CREAT | os.O_TRUNC if new else 0
        file = os.open(self._dirs.path(name), os.O_WRONLY | os.O_APPEND | created, 0o600)
        if new and self._sync:
            self._dirs.sync(name.volatile)
        return file

    def _finish_write(self, file: int, rest: bytes) -> None:
        while rest:  # Rare: the disk is nearly full, or a signal came.
            rest = rest[os.write(file, rest) :]
        if self._sync:
            os.fdatasync(file)
