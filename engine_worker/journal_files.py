"""The journals' files of one worker: holding their lock, appending to them, and moving in those of a dead worker.

A journal that can't be appended to is removed: readers are about to be told more than it holds, so that it would bring
back another response than theirs. As many files as may be are held open, for opening one takes longer than writing.
"""

import contextlib
import logging
import os
from typing import Final

from engine_worker.config import Settings
from engine_worker.journal import Journal
from engine_worker.journal_dirs import JournalDirs, JournalFile, JournalName, JournalOwner
from engine_worker.locks import FileLock
from engine_worker.mailbox import WriteJournal
from protocol.open_files import allow_open_files
from protocol.private_dir import NotPrivate, make_private

logger = logging.getLogger(__name__)

_OTHER_FILES: Final = 256
"""Open files of the process besides its journals: libraries, sockets, those of its engine."""


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
        wanted = settings.journal_files_max + _OTHER_FILES
        self._files_max = max(1, min(wanted, allow_open_files(wanted)) - _OTHER_FILES)
        self._files: dict[str, int] = {}  # Those held open, by response.
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
        response_id = effect.response_id
        try:
            file = self._files.get(response_id)
            if file is None:
                file = self._files[response_id] = self._open(effect)
            written = os.write(file, effect.entries)
            if self._sync or written < len(effect.entries):
                self._finish_write(file, effect.entries[written:])
        except OSError:
            with contextlib.suppress(OSError):
                self.unlink(response_id, volatile=effect.volatile)
            raise
        if effect.last or len(self._files) > self._files_max:
            os.close(self._files.pop(response_id))

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
        file = self._files.pop(response_id, None)
        if file is not None:
            os.close(file)
        self._dirs.path(JournalName(response_id, volatile)).unlink(missing_ok=True)

    def _open(self, effect: WriteJournal) -> int:
        """Open the journal to append to; one that is not begun with this must be there."""
        name, new = JournalName(effect.response_id, effect.volatile), effect.first
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
