"""Whatever keeps the database from answering is `StoreUnavailable`; when it has passed, the same store works again."""

import asyncio
import os
import resource
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import asyncpg
import msgspec
import pytest

from frontend.config import Settings
from frontend.store.conversations import Conversation
from frontend.store.errors import StoreUnavailable
from frontend.store.finishing import AlreadyClosed, Stored
from frontend.store.responses import ResponseRow
from frontend.store.store import Store
from tests.frontend.store.conftest import PATIENCE_S
from tests.frontend.store.samples import NOW, finished
from tests.postgres import Postgres

pytestmark = pytest.mark.slow

WAIT_S = 1.0


async def works(store: Store, response_id: str) -> None:
    """It stores and reads, within a while."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            assert isinstance(await store.responses.finish(finished(response_id)), Stored | AlreadyClosed)
            assert await store.responses.get("t", response_id) is not None
        except StoreUnavailable:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        else:
            return


# ---- locks and connections -------------------------------------------------------------------------------------------


async def test_a_lock_that_another_process_holds(sqlite: Settings) -> None:
    store, patient = Store(msgspec.structs.replace(sqlite, store_wait_s=WAIT_S)), Store(sqlite)
    with closing(sqlite3.connect(sqlite.data_dir / "holdfast.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await store.responses.finish(finished("r"))
        assert await patient.responses.get("t", "r") is None  # readers go on
        other.execute("ROLLBACK")
    await works(store, "r")
    await store.close()
    await patient.close()


async def test_a_row_that_another_session_holds(postgresql: Settings, postgres: Postgres) -> None:
    store, patient = Store(msgspec.structs.replace(postgresql, store_wait_s=WAIT_S)), Store(postgresql)
    await patient.conversations.create(Conversation("c", "t", NOW, b"{}"))
    await patient.close()
    other = await asyncpg.connect(user="holdfast", host=str(postgres.directory), database="postgres")
    async with other.transaction():
        await other.execute("SELECT * FROM conversations FOR UPDATE")
        with pytest.raises(StoreUnavailable):
            await store.conversations.lock("t", "c", "r", NOW, 60)
    await other.close()
    await works(store, "r")
    await store.close()


async def test_more_requests_than_connections_wait_and_are_all_served(store: Store) -> None:
    async with asyncio.TaskGroup() as group:
        stored = [group.create_task(store.responses.finish(finished(f"r{number}"))) for number in range(60)]
        read = [group.create_task(store.responses.get("t", f"r{number}")) for number in range(60)]
    assert {task.result() for task in stored} == {Stored()}
    assert len(read) == 60


async def test_a_client_that_leaves_takes_no_connection_with_it(store: Store) -> None:
    for number in range(40):
        task = asyncio.create_task(store.responses.finish(finished(f"r{number}", records=[b"x" * 1000] * 100)))
        await asyncio.sleep(0.001 * (number % 8))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await works(store, "r")
    rows = [await store.responses.get("t", f"r{number}") for number in range(40)]
    assert all(isinstance(row, ResponseRow) and row.closed for row in rows if row is not None)  # whole or not at all


# ---- disks -----------------------------------------------------------------------------------------------------------


async def test_a_full_disk(sqlite: Settings) -> None:
    store = Store(sqlite)
    await works(store, "before")
    path = sqlite.data_dir / "holdfast.db"
    with file_size_limit(path.stat().st_size + 300_000):
        with pytest.raises(StoreUnavailable, match="disk"):
            await store.responses.finish(finished("large", records=[os.urandom(2_000_000)]))
        assert await store.responses.get("t", "before") is not None
        assert await store.responses.get("t", "large") is None
    await works(store, "large")
    await store.close()


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: a full disk. Python ignores the signal that comes too."""
    _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_file_that_is_no_database(sqlite: Settings) -> None:
    (sqlite.data_dir / "holdfast.db").write_bytes(b"something else entirely " * 1000)
    store = Store(sqlite)
    with pytest.raises(StoreUnavailable):
        await store.check()
    await store.close()


# ---- a database that is away -----------------------------------------------------------------------------------------


async def test_a_postgresql_that_is_stopped_and_started_again(postgresql: Settings, postgres: Postgres) -> None:
    store = Store(postgresql)
    await asyncio.gather(*(works(store, f"before{number}") for number in range(8)))  # all connections are made
    await asyncio.to_thread(postgres.stop)
    try:
        for attempt in (store.check(), store.responses.finish(finished("r")), store.responses.get("t", "before")):
            with pytest.raises(StoreUnavailable):
                await attempt
    finally:
        postgres.start()
    await works(store, "r")
    await store.close()


async def test_a_connection_that_is_cut_while_it_is_used(postgresql: Settings, postgres: Postgres) -> None:
    store = Store(postgresql)
    await works(store, "before")
    storing = [asyncio.create_task(store.responses.finish(finished(f"r{number}"))) for number in range(50)]
    await asyncio.sleep(0.02)
    await asyncio.to_thread(postgres.stop)
    outcomes = await asyncio.gather(*storing, return_exceptions=True)
    postgres.start()
    assert {type(outcome) for outcome in outcomes} <= {Stored, StoreUnavailable}
    for number in range(50):
        await works(store, f"r{number}")
    await store.close()


async def test_a_postgresql_that_was_never_there(tmp_path: Path) -> None:
    store = Store(Settings(store=f"postgresql://holdfast@/test?host={tmp_path}"))
    with pytest.raises(StoreUnavailable):
        await store.check()
    await store.close()


async def test_a_password_shows_nowhere(postgres: Postgres) -> None:
    url = postgres.url("absent").replace("holdfast@", "holdfast:hunter2@")
    store = Store(Settings(store=url))
    with pytest.raises(StoreUnavailable) as caught:
        await store.check()
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r} {store._database!r}"
    await store.close()


async def test_a_database_that_nobody_prepared(tmp_path: Path) -> None:
    store = Store(Settings(data_dir=tmp_path))
    with pytest.raises(StoreUnavailable, match="start a frontend"):
        await store.check()
    await store.close()
