"""The counters of all serving processes of a host, in files of the run directory: `<run_dir>/limits/<process>`.

Each process writes its own file, mapped into memory, and reads the others' (`frontend/process_files.py`). When a file's
lock is free, its process is dead: its streams are over, what it counted in the last minute still counts, and after that
whoever comes by removes the file.

No library does this: `limits` and `pyrate-limiter` want a Redis or a database, or count behind one file lock, which a
stopped process holds; and none of them knows what a process that was killed was still doing.
"""

import mmap
import os
from collections.abc import Container
from pathlib import Path
from typing import Final, Self

from frontend.process_files import create_locked, is_free, lock_if_free
from frontend.tenants.counters import Counters, used, words_for
from frontend.tenants.limits import WINDOW_S, Used

_WORD_BYTES: Final = 8


class CounterFile:
    """One process's counters; `create` makes our own, `open` reads another's. `close` it."""

    def __init__(self, path: Path, file: int, size: int, access: int) -> None:
        self.path = path
        self._file = file
        self._map = mmap.mmap(file, size, access=access)
        self._words = memoryview(self._map).cast("Q")
        self.counters = Counters(self._words)
        self.dead_since: int | None = None
        """The second in which its process was first seen to have ended."""

    @classmethod
    def create(cls, directory: Path, keys_max: int) -> Self:
        """Make a file of our own, locked. Raises `OSError`."""
        size = words_for(keys_max) * _WORD_BYTES
        created = cls(*create_locked(directory, size), size, mmap.ACCESS_WRITE)
        created.counters.begin()
        return created

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """Read another's; None where it is gone or not there yet. What a process left that died making it is removed.

        Raises `OSError`.
        """
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        if size := os.fstat(file).st_size:
            opened = cls(path, file, size, mmap.ACCESS_READ)
            if opened.counters.is_readable() and size == os.fstat(file).st_size:
                return opened
            opened.unmap()
        if lock_if_free(file):
            path.unlink(missing_ok=True)
        os.close(file)
        return None

    def is_dead(self, second: int) -> bool:
        """Whether its process has ended; not to be asked of our own."""
        if self.dead_since is None and is_free(self._file):
            self.dead_since = second
        return self.dead_since is not None

    def unmap(self) -> None:
        """Let go of the memory."""
        self._words.release()
        self._map.close()

    def close(self) -> None:
        """Let go of the file; our own counts as a dead process's from now on."""
        self.unmap()
        os.close(self._file)


class SharedCounters:
    """The counts of all processes in a directory, and our own to count in. Methods raise `OSError`; `close` it."""

    def __init__(self, directory: Path, keys_max: int) -> None:
        self._directory = directory
        self._keys_max = keys_max
        self._own: CounterFile | None = None
        self._others: dict[str, CounterFile] = {}

    def __repr__(self) -> str:
        return f"<SharedCounters {self._directory}: ours {self._own is not None}, {len(self._others)} others>"

    def own(self, key: int, keys: Container[int]) -> Counters:
        """What this process counts, with room for the key, which is one of all the `keys`."""
        if self._own is None:
            self._own = CounterFile.create(self._directory, self._keys_max)
        self._own.counters.make_room(key, keys)
        return self._own.counters

    def used(self, key: int, second: int) -> Used:
        """What all processes have counted for the key, on this host."""
        files = self._files(second)
        dead = [file for file in files if file is not self._own and file.is_dead(second)]
        living = [file.counters for file in files if file not in dead]
        return used(key, second, living, [file.counters for file in dead])

    def close(self) -> None:
        """Let go of all files."""
        for file in (*self._others.values(), *([self._own] if self._own else [])):
            file.close()
        self._others.clear()
        self._own = None

    def _files(self, second: int) -> list[CounterFile]:
        """All files that are there now, ours first; those that have nothing more to say are removed."""
        try:
            names = set(os.listdir(self._directory))
        except FileNotFoundError:
            names = set()
        if self._own is not None:
            names.discard(self._own.path.name)
        for name in names - self._others.keys():
            if opened := CounterFile.open(self._directory / name):
                self._others[name] = opened
        for name, file in list(self._others.items()):
            over = file.dead_since is not None and second > file.dead_since + WINDOW_S
            if over:
                file.path.unlink(missing_ok=True)
            if over or name not in names:
                self._others.pop(name).close()
        return [*([self._own] if self._own else []), *self._others.values()]
