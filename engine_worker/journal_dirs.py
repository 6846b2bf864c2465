"""Where the workers of one host have their journals, and what is in a worker's directories.

    <journal_dir>/worker-0/lock                    flocked by the one process that may run and publish these responses;
                                                   names the engine (`Engine.fingerprint`) that can go on with them,
                                                   and the process whose they are
    <journal_dir>/worker-0/resp_....journal        one file a response; its format is `journal.py`'s
    <journal_volatile_dir>/worker-0/...journal     those of `store: false`, where no disk is, under the same lock

Who holds which lock is not known here.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

from engine_worker.config import Settings
from engine_worker.journal import Journal, NotAJournal, read_journal
from protocol.private_dir import make_private

logger = logging.getLogger(__name__)

SUFFIX = ".journal"
LOCK = "lock"


class JournalName(NamedTuple):
    """Which journal of a worker: a response's id, and whether it is where no disk is."""

    response_id: str
    volatile: bool


class JournalFile(NamedTuple):
    """A journal that was read, and where it stands."""

    path: Path
    journal: Journal


class JournalOwner(NamedTuple):
    """Whose journals these are, as the lock file says it: of which engine, in which process. Both empty: nobody's."""

    fingerprint: str = ""
    incarnation: str = ""

    def __str__(self) -> str:
        return f"{self.fingerprint}\n{self.incarnation}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` made."""
        fingerprint, _, incarnation = text.partition("\n")
        return cls(fingerprint, incarnation)


class JournalDirs:
    """The directories of the worker named `worker`; they need not exist."""

    def __init__(self, settings: Settings, worker: str) -> None:
        root = _durable_root(settings)
        self.worker = worker
        self.durable = root / worker
        self.volatile = Path(settings.journal_volatile_dir or _volatile_root(root)) / worker

    def __repr__(self) -> str:
        return f"<JournalDirs {self.durable}>"

    @property
    def lock(self) -> Path:
        return self.durable / LOCK

    def path(self, name: JournalName) -> Path:
        """Where this journal stands."""
        return (self.volatile if name.volatile else self.durable) / (quote(name.response_id, safe="") + SUFFIX)

    def make_volatile(self) -> None:
        """Make the directory without a disk; most workers never need it. Raises `NotPrivate`."""
        for directory in (self.volatile.parent, self.volatile):
            make_private(directory, "volatile journal directory")

    def remove_volatile_if_empty(self) -> None:
        """Remove the directory without a disk, and the one above, unless they hold journals or never were."""
        with contextlib.suppress(OSError):
            self.volatile.rmdir()
            self.volatile.parent.rmdir()

    def hold_journals(self) -> bool:
        """Whether there is a journal here, be it one that can't be read."""
        return any(self._journals())

    def sync(self, volatile: bool) -> None:
        """See that the disk knows which files there are. Raises `OSError`."""
        opened = os.open(self.volatile if volatile else self.durable, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)

    def read(self) -> Iterator[JournalFile]:
        """Read every journal, those written last first; only for who holds the lock.

        What is not whole is cut off, and told to the operator. What can't be read is told too, and left alone.
        """
        found = [(path.stat().st_mtime_ns, path, volatile) for path, volatile in self._journals()]
        for _, path, volatile in sorted(found, reverse=True):
            journal = _read(path, volatile)
            if journal is not None:
                yield JournalFile(path, journal)

    def _journals(self) -> Iterator[tuple[Path, bool]]:
        """The path of each, and whether it is volatile."""
        for directory, volatile in ((self.durable, False), (self.volatile, True)):
            for path in directory.glob("*" + SUFFIX):
                yield path, volatile


def workers_with_journals(settings: Settings) -> list[str]:
    """Names of the workers, dead or alive, that have a lock in this journal directory."""
    return sorted(lock.parent.name for lock in _durable_root(settings).glob(f"*/{LOCK}"))


def _read(path: Path, volatile: bool) -> Journal | None:
    try:
        journal = read_journal(path.read_bytes(), volatile=volatile)
        _cut(path, journal)
    except NotAJournal:
        logger.error("%s is no journal of this version; left alone", path)
        return None
    except OSError as error:
        logger.error("%s can't be read; left alone: %s", path, error)
        return None
    return None if journal.opened is None else journal


def _cut(path: Path, journal: Journal) -> None:
    """Cut off what is not whole; a file with nothing whole in it goes."""
    torn = path.stat().st_size - journal.size
    if torn:
        logger.warning("cut %d bytes off the end of %s: they were never written whole", torn, path)
    if journal.opened is None:
        path.unlink()
    elif torn:
        os.truncate(path, journal.size)


def _durable_root(settings: Settings) -> Path:
    return Path(settings.journal_dir or settings.run_dir / "journal")


def _volatile_root(durable: Path) -> Path:
    """A directory of this user's in memory, another one for each directory of durable journals."""
    of_durable = blake2b(os.fsencode(durable.resolve()), digest_size=8).hexdigest()
    return Path(f"/dev/shm/holdfast-{os.getuid()}-{of_durable}")
