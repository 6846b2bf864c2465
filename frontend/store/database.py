"""The database: transactions that run to their end, a bound on every wait, and all errors of circumstance as one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, Table, select, text
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from frontend.config import Settings
from frontend.metrics.counting import Metrics
from frontend.store.connecting import ERRORS, Mode, connect, database_url, first_line, is_sqlite, means_not_now
from frontend.store.errors import StoreUnavailable
from frontend.store.schema import is_current

_TRUNCATE_WAIT_MS: Final = 200
"""Whoever empties the write-ahead log keeps writers waiting while it waits for readers: not for long."""

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")
_Work = Callable[Concatenate[Connection, _Arguments], _Answer]


class Database:
    """One process's connections to SQLite or PostgreSQL; none is made before the first is needed.

    A transaction is a plain function of a connection, and runs in a task of its own: a client that leaves cancels its
    request and not the transaction, whose connection would be lost with it.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        url = database_url(settings)
        self.settings = settings
        self._metrics = metrics
        self.is_sqlite = is_sqlite(url)
        self._connections = connect(url, settings.store_wait_s, settings.store_connections_max)
        # SQLite has one writer. Those of one process wait in line; other processes' SQLite tries to get in between.
        self._writing = asyncio.Lock() if self.is_sqlite else None
        self._schema_seen = False
        self._running: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Database {'sqlite' if self.is_sqlite else 'postgresql'} running={len(self._running)}>"

    async def read(
        self, work: "_Work[_Arguments, _Answer]", *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Answer:
        """What `work(connection, ...)` returns, over one consistent state. Raises `StoreUnavailable`."""
        return await self._to_the_end(self._transaction("read", lambda connection: work(connection, *args, **kwargs)))

    async def write(
        self, work: "_Work[_Arguments, _Answer]", *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> _Answer:
        """What `work(connection, ...)` returns, after all that it did is committed. Raises `StoreUnavailable`."""
        return await self._to_the_end(self._transaction("write", lambda connection: work(connection, *args, **kwargs)))

    async def check(self) -> None:
        """See that the database answers. Raises `StoreUnavailable`."""
        await self.read(_ask)

    async def truncate_wal(self) -> bool:
        """Move SQLite's write-ahead log into its file and empty it; False when others are in the way."""
        return await self._to_the_end(self._transaction("bare", _truncate_wal))

    async def close(self) -> None:
        """Let what is under way end, and close the connections."""
        if self._running:
            await asyncio.wait(self._running)
        await self._connections.close()

    # ---- one transaction ---------------------------------------------------------------------------------------------

    async def _to_the_end(self, transaction: Coroutine[Any, Any, _Answer]) -> _Answer:
        task = asyncio.create_task(transaction)
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self.settings.store_wait_s):
                return await asyncio.shield(task)
        except StoreUnavailable:
            self._metrics.store_failed()
            raise
        except TimeoutError as error:
            self._metrics.store_failed()
            raise StoreUnavailable(f"no answer in {self.settings.store_wait_s} s") from error

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone, and asyncio would complain that nobody looked

    async def _transaction(self, mode: Mode, work: Callable[[Connection], _Answer]) -> _Answer:
        try:
            with self._metrics.transaction(mode):
                async with self._turn(mode):
                    return await self._connections.run(mode, partial(self._with_schema, work))
        except ERRORS as error:
            if means_not_now(error):
                raise StoreUnavailable(first_line(error)) from error
            raise

    def _with_schema(self, work: Callable[[Connection], _Answer], connection: Connection) -> _Answer:
        """Look, once: this frontend may have been started while the database was away, and nobody prepared it since."""
        if not self._schema_seen and not is_current(connection):
            raise StoreUnavailable("the database has not been prepared for this version: start a frontend once more")
        self._schema_seen = True
        return work(connection)

    @asynccontextmanager
    async def _turn(self, mode: Mode) -> AsyncIterator[None]:
        if mode == "read" or self._writing is None:
            yield
            return
        async with asyncio.timeout(self.settings.store_wait_s):
            await self._writing.acquire()
        try:
            yield
        finally:
            self._writing.release()


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert the row unless there is one of its key; False then, and another transaction's is waited for."""
    make: Callable[[Table], Any] = sqlite_insert
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as make  # slow to load, and seldom used
    return bool(connection.execute(make(table).values(row).on_conflict_do_nothing()).rowcount)


def _ask(connection: Connection) -> None:
    connection.execute(select(1))


def _truncate_wal(connection: Connection) -> bool:
    waited_ms = connection.scalar(text("PRAGMA busy_timeout"))
    connection.execute(text(f"PRAGMA busy_timeout = {_TRUNCATE_WAIT_MS}"))
    try:
        busy, *_ = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()
    finally:
        connection.execute(text(f"PRAGMA busy_timeout = {waited_ms}"))
    return not busy
