"""The schema, brought up to date before anything is served: once, however many processes start at the same time.

A plain SELECT tells whether there is something to do. Where there is, Alembic does it in a process of its own, which is
gone afterwards: the arbiter, from which serving processes are forked, keeps neither threads, connections nor Alembic.
Migrations only ever add, so that processes of a version before can go on, and start, beside those of this one.
"""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from frontend.config import Settings
from frontend.store.connecting import (
    ERRORS,
    Mode,
    connect,
    database_url,
    first_line,
    is_sqlite,
    means_not_now,
    sqlite_file,
)
from frontend.store.errors import StoreUnavailable
from protocol.private_dir import make_private

_Answer = TypeVar("_Answer")

REVISION: Final = "0001"
"""The newest migration that this version needs, known without loading Alembic; they are in alphabetical order."""

_ADVISORY_LOCK: Final = 0x686F6C6466617374
"""PostgreSQL's locks have numbers instead of names: "holdfast"."""
_MIGRATION_S: Final = 600.0
"""What a migration, or waiting for another process's, may take; a large database is rewritten in that time."""


def prepare(settings: Settings) -> None:
    """Make the database if it is absent and bring its schema up to date, under a lock.

    To be called before other threads are started. Raises `StoreUnavailable`, `BadStoreUrl`, and `NotPrivate`
    where the data directory is open to others.
    """
    url = database_url(settings)
    if is_sqlite(url):
        if not settings.store:
            make_private(settings.data_dir, "data directory")
        _make_file(sqlite_file(url))
    if _run(url, settings.store_wait_s, "read", is_current):
        return
    import multiprocessing  # these are slow to load, and seldom needed
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("fork")) as elsewhere:
        elsewhere.submit(_migrate_alone, url).result()


def is_current(connection: Connection) -> bool:
    """Whether the database has had all migrations that this version needs."""
    if not inspect(connection).has_table("alembic_version"):
        return False
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision is not None and revision >= REVISION


def _make_file(path: Path) -> None:
    """Make the file if it is absent, for its owner alone; SQLite gives the files beside it the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"{path} can't be opened: {error.strerror}") from error


def _run(url: URL, wait_s: float, mode: Mode, work: Callable[[Connection], _Answer]) -> _Answer:
    try:
        return connect(url, wait_s, connections_max=1).run_alone(mode, work)
    except ERRORS as error:
        if means_not_now(error):
            raise StoreUnavailable(first_line(error)) from None
        raise


def _migrate_alone(url: URL) -> None:
    """Bring the schema up to date while no other process does."""
    with _one_at_a_time(url):
        if is_sqlite(url):
            _run(url, _MIGRATION_S, "bare", _use_write_ahead_log)
        _run(url, _MIGRATION_S, "write", _migrate)


def _use_write_ahead_log(connection: Connection) -> None:
    """So that nobody who reads waits for a writer; the file stays that way."""
    connection.execute(text("PRAGMA journal_mode = WAL"))


@contextmanager
def _one_at_a_time(url: URL) -> Iterator[None]:
    """Of all processes that share a SQLite file; those that share a PostgreSQL database have their lock in it."""
    if not is_sqlite(url):
        yield
        return
    file = sqlite_file(url)
    descriptor = os.open(file.with_name(file.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _ADVISORY_LOCK})
    if is_current(connection):
        return
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)  # it names each of its own parts
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
