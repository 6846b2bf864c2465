"""The sheets of all serving processes of a run directory, `<run_dir>/metrics/<process>`, as one sum.

A counter must not fall when a process dies, and files must not pile up. So what dead processes counted is added to the
file `total`, and their files are removed: by each process that starts, and by each that is asked for the sum. There are
never more files than there are processes, and those that ended since.

Nobody waits for anybody. Who reads takes no lock: it reads the processes' files first and `total` last, which names
those that were added to it last, so that a file that is read just while it is added counts once. Who adds takes the
lock of `folding` or lets it be; `total` is replaced in one go, and a file that its adder did not live to remove
is named in it.
"""

import fcntl
import logging
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from frontend.metrics.sheet import SHEET_BYTES, Labels, Series, Sheet, Sums, Unreadable, read_sheet, total
from frontend.process_files import create_locked, lock_if_free

logger = logging.getLogger(__name__)

_TOTAL: Final = "total"
_NEW_TOTAL: Final = "total.new"
_FOLDING: Final = "folding"
_FOLDED_MAX: Final = 1000
"""Names of added files that `total` keeps: who reads would have to be slower than so many deaths to count one twice."""


class _Total(msgspec.Struct, array_like=True):
    """The file `total`: what dead processes counted, and the names of the files that were added last."""

    sums: list[tuple[str, Labels, list[float]]] = []
    folded: list[str] = []


class SheetFiles:
    """Our own sheet, and those of the others. Where no file can be made, ours is in memory, and seen by nobody else.

    `close` it when nothing is counted any more. `collect` may be called from another thread.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path: Path | None = None
        self._file: int | None = None
        self._memory = memoryview(bytearray(SHEET_BYTES))
        try:
            self._path, self._file = create_locked(directory, SHEET_BYTES)
            self._memory = memoryview(mmap.mmap(self._file, SHEET_BYTES))
            self._fold(self._read_others()[1])
        except OSError as error:
            logger.warning("metrics: what this process counts is seen only where it answers itself: %s", error)
        self.sheet = Sheet(self._memory)

    def __repr__(self) -> str:
        return f"<SheetFiles {self._directory}: {self.sheet}>"

    def close(self) -> None:
        """Ours is a dead process's from now on. The memory stays: what counts all the same does no harm."""
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            os.close(self._file)
            self._file = None

    def collect(self) -> Sums:
        """What all processes have counted, the dead ones too, and us. Raises `OSError`."""
        living, dead = self._read_others()
        before = self._read_total()
        self._fold(dead)
        others = [sums for path, sums in (living | dead).items() if path.name not in before.folded]
        return total([read_sheet(bytes(self._memory), living=True), *others, _as_sums(before)])

    def _read_others(self) -> tuple[dict[Path, Sums], dict[Path, Sums]]:
        """What living and dead processes' files say."""
        living: dict[Path, Sums] = {}
        dead: dict[Path, Sums] = {}
        try:
            paths = list(self._directory.iterdir())
        except FileNotFoundError:
            return living, dead
        for path in paths:
            if path != self._path and path.name not in (_TOTAL, _NEW_TOTAL, _FOLDING):
                _read(path, living, dead)
        return living, dead

    def _read_total(self) -> _Total:
        try:
            return msgspec.msgpack.decode((self._directory / _TOTAL).read_bytes(), type=_Total)
        except FileNotFoundError:
            return _Total()
        except msgspec.DecodeError as error:  # the power went, and the file system kept the name alone
            logger.warning("metrics: what ended processes counted can't be read, and begins anew: %s", error)
            return _Total()

    def _fold(self, dead: Mapping[Path, Sums]) -> None:
        """Add what these counted to the total, and remove their files, unless somebody else is at it."""
        if not dead:
            return
        folding = os.open(self._directory / _FOLDING, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(folding, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before = self._read_total()
            new = {path: sums for path, sums in dead.items() if path.name not in before.folded and path.exists()}
            if new:
                sums = total([_as_sums(before), *new.values()])
                folded = [*before.folded, *(path.name for path in new)][-_FOLDED_MAX:]
                after = _Total([(*series, values) for series, values in sums.items()], folded)
                (self._directory / _NEW_TOTAL).write_bytes(msgspec.msgpack.encode(after))
                os.replace(self._directory / _NEW_TOTAL, self._directory / _TOTAL)
            for path in dead:
                path.unlink(missing_ok=True)
        except BlockingIOError:
            pass
        except OSError as error:
            logger.warning("metrics: what ended processes counted stays in their files: %s", error)
        finally:
            os.close(folding)


def _read(path: Path, living: dict[Path, Sums], dead: dict[Path, Sums]) -> None:
    """Put what another process's file says to those of its kind; it may be gone by now, or not be begun."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        is_dead = lock_if_free(file)  # before it is read: what a dead process's file says then is its last word
        (dead if is_dead else living)[path] = read_sheet(os.pread(file, SHEET_BYTES, 0), living=not is_dead)
    except Unreadable:
        if is_dead:  # it died making it
            path.unlink(missing_ok=True)
    finally:
        os.close(file)


def _as_sums(part: _Total) -> dict[Series, list[float]]:
    return {(name, labels): values for name, labels, values in part.sums}
