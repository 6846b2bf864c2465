"""A lock that ends with the process that holds it, and with nothing else: flock on a file whose content says what for.

A child process shares the locks of the one that forked it until it closes them. So children close them at once: a lock
is free when its holder is dead, whatever is left of what that had started.
"""

import fcntl
import os
import threading
import time
from pathlib import Path

_CONTENT_BYTES_MAX = 4096
_LOOK_INTERVAL_S = 0.02
"""How often a lock is tried that must be had within a time: the system has no such call."""

_open: set[int] = set()
_changing = threading.Lock()  # Held while `_open` changes, and over a fork: no child gets a file that is not in it.


def _close_in_child() -> None:
    for file in _open:
        os.close(file)
    _open.clear()
    _changing.release()


os.register_at_fork(before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_close_in_child)


class FileLock:
    """The lock on one file, which is made if it is absent; not taken yet. Raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _changing:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            _open.add(self._file)

    def __repr__(self) -> str:
        return f"<FileLock {self._path}>"

    def take(self) -> None:
        """Wait until it is ours, for as long as that takes."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def try_take(self) -> bool:
        """Take it if it is free; whether it is ours."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take_within(self, wait_s: float) -> bool:
        """Take it within so many seconds; whether it is ours."""
        deadline = time.monotonic() + wait_s
        while not self.try_take():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_INTERVAL_S)
        return True

    @property
    def content(self) -> str:
        """What a holder wrote last; what it is just writing may be read in part by others."""
        return os.pread(self._file, _CONTENT_BYTES_MAX, 0).decode(errors="replace")

    def write(self, content: str) -> None:
        """Replace the content; only the holder may."""
        encoded = content.encode()
        os.pwrite(self._file, encoded, 0)
        os.ftruncate(self._file, len(encoded))

    def close(self) -> None:
        """Give it up. It can't be taken again by this object; closing twice is fine."""
        if self._file < 0:
            return
        fcntl.flock(self._file, fcntl.LOCK_UN)  # Closing would do, had no child of ours the file too.
        with _changing:
            _open.discard(self._file)
            os.close(self._file)
        self._file = -1
