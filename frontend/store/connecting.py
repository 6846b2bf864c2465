"""How the two databases are connected to: URLs, waits, SQLite's manners; and which of their errors mean "not now".

What is asked of them is plain functions of a connection, the same for both.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from frontend.config import Settings

_DRIVERS: Final = {
    "sqlite": "sqlite+pysqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}
_SQLITE_FILE: Final = "holdfast.db"

Mode = Literal["read", "write", "bare"]
"""What a transaction is for; `bare` is none at all, for what SQLite does outside of them only."""
Answer = TypeVar("Answer")
_MODE: Final = "holdfast_mode"
"""Execution option of a SQLite connection that tells its mode to `_begin_sqlite`."""

_WAL_BYTES_KEPT: Final = 16 * 2**20
"""What SQLite leaves of a write-ahead log that a burst has made longer."""

_SQLITE_NOT_NOW: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}
"""https://www.sqlite.org/rescode.html: what the disk, other processes or the operator have to do with."""
_POSTGRES_NOT_NOW: Final = (
    *("08", "28", "3D", "40"),  # connection, password, no such database, a rollback of no fault of ours
    *("53", "55", "57", "58"),  # resources, locks, the operator, the system
    *("25006", "25P03", "25P04"),  # a standby; a transaction that took too long
)
"""https://www.postgresql.org/docs/current/errcodes-appendix.html: classes and codes."""


class BadStoreUrl(ValueError):
    """The setting `store` names no database that can be used; the message says why and never has a password in it."""


def database_url(settings: Settings) -> URL:
    """The database that the settings name. Raises `BadStoreUrl`."""
    if not settings.store:
        return URL.create("sqlite+pysqlite", database=str(settings.data_dir / _SQLITE_FILE))
    try:
        url = make_url(settings.store)
    except (ArgumentError, ValueError):
        raise BadStoreUrl("it is no URL") from None
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    if url.drivername not in _DRIVERS.values():
        raise BadStoreUrl(f"{url.drivername} can't be used, only sqlite:///PATH or postgresql://USER@HOST/NAME")
    if is_sqlite(url) and (not url.database or url.database.startswith((":memory:", "file:"))):
        raise BadStoreUrl("SQLite needs the path of a file, which all processes can open: sqlite:///PATH")
    return url


def is_sqlite(url: URL) -> bool:
    """Whether the URL names a SQLite file."""
    return url.get_backend_name() == "sqlite"


def sqlite_file(url: URL) -> Path:
    """The file of a SQLite URL."""
    return Path(url.database or "")


class Connections(Protocol):
    """A pool of connections, which runs functions of one."""

    async def run(self, mode: Mode, work: Callable[[Connection], Answer]) -> Answer:
        """What `work(connection)` returns, after its transaction is committed."""

    def run_alone(self, mode: Mode, work: Callable[[Connection], Answer]) -> Answer:
        """The same for a caller without an event loop, once; the connections are closed afterwards."""

    async def close(self) -> None:
        """Close the connections; nothing may be under way."""


def connect(url: URL, wait_s: float, connections_max: int) -> Connections:
    """Connections that wait `wait_s` at most for a lock or a statement; none is made yet."""
    return (_Sqlite if is_sqlite(url) else _Postgresql)(url, wait_s, connections_max)


class _Sqlite:
    """A transaction runs in one go in a thread, since SQLite blocks: the shorter it is the sooner others may write."""

    def __init__(self, url: URL, wait_s: float, connections_max: int) -> None:
        self._threads = ThreadPoolExecutor(connections_max, "store")
        self._engine = create_engine(
            url,
            pool_size=connections_max,
            max_overflow=0,
            hide_parameters=True,  # prompts are in no log
            connect_args={"timeout": wait_s, "check_same_thread": False},
        )
        event.listen(self._engine, "connect", _teach_sqlite)
        event.listen(self._engine, "begin", _begin_sqlite)

    async def run(self, mode: Mode, work: Callable[[Connection], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._transaction, mode, work)

    def run_alone(self, mode: Mode, work: Callable[[Connection], Answer]) -> Answer:
        try:
            return self._transaction(mode, work)
        finally:
            self._engine.dispose()

    def _transaction(self, mode: Mode, work: Callable[[Connection], Answer]) -> Answer:
        with self._engine.execution_options(**{_MODE: mode}).begin() as connection:
            return work(connection)

    async def close(self) -> None:
        self._threads.shutdown()
        self._engine.dispose()


class _Postgresql:
    """The same functions run over asyncpg, within the event loop; SQLAlchemy's greenlets wait for each statement."""

    def __init__(self, url: URL, wait_s: float, connections_max: int) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine  # it loads the ORM, which nobody else needs

        wait_ms = str(round(wait_s * 1000))
        session = {
            "application_name": "holdfast",
            "lock_timeout": wait_ms,
            "statement_timeout": wait_ms,
            "idle_in_transaction_session_timeout": wait_ms,
            "jit": "off",  # our statements are short
        }
        self._engine = create_async_engine(
            url,
            pool_size=connections_max,
            max_overflow=0,
            pool_timeout=wait_s,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={"timeout": wait_s, "command_timeout": wait_s, "server_settings": session},
        )
        self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    async def run(self, mode: Mode, work: Callable[[Connection], Answer]) -> Answer:
        engine = self._reader if mode == "read" else self._engine
        async with engine.begin() as connection:
            return await connection.run_sync(work)

    def run_alone(self, mode: Mode, work: Callable[[Connection], Answer]) -> Answer:
        async def once() -> Answer:
            try:
                return await self.run(mode, work)
            finally:
                await self.close()

        return asyncio.run(once())

    async def close(self) -> None:
        await self._engine.dispose()


def _teach_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # Python's module begins no transactions of its own; `_begin_sqlite` does
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten with zeros
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA synchronous = NORMAL")  # with a write-ahead log: consistent after a power cut
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}")


def _begin_sqlite(connection: Connection) -> None:
    mode: Mode = connection.get_execution_options()[_MODE]
    match mode:
        case "read":
            connection.exec_driver_sql("BEGIN")
        case "write":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        case "bare":
            pass


def means_not_now(error: BaseException) -> bool:
    """Whether this error, raised while the database was asked, is the circumstances' fault and no bug."""
    if isinstance(error, (NoConnectionFree, OSError)) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    ):
        return True
    return any(_names_circumstances(cause) for cause in _causes(error))


def first_line(error: BaseException) -> str:
    """What happened, without the statement and its parameters."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.orig if isinstance(cause, DBAPIError) else cause.__cause__


def _names_circumstances(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    state = getattr(error, "sqlstate", None) or ""
    return (code is not None and code & 0xFF in _SQLITE_NOT_NOW) or state.startswith(_POSTGRES_NOT_NOW)


ERRORS: Final = (SQLAlchemyError, sqlite3.Error, OSError)
"""What asking a database may raise, ours and the drivers' own while they connect."""
