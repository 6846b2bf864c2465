"""How a database comes to be, and is brought up to date: once, by whoever comes first."""

import asyncio
import multiprocessing
import stat
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Text, text

from benchmarks.deployment import REPOSITORY
from frontend.config import Settings
from frontend.metrics.counting import Metrics
from frontend.store import schema
from frontend.store.connecting import BadStoreUrl
from frontend.store.database import Database
from frontend.store.errors import StoreUnavailable
from frontend.store.schema import REVISION, prepare
from frontend.store.store import Store
from frontend.store.tables import METADATA, Name
from protocol.private_dir import NotPrivate
from tests.frontend.store.samples import finished
from tests.postgres import Postgres

pytestmark = pytest.mark.slow

DEADLINE_S = 60.0


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings with a database that has never been used."""
    if request.param == "sqlite":
        return Settings(data_dir=tmp_path / "data")
    postgres: Postgres = request.getfixturevalue("postgres")
    postgres.command("DROP DATABASE IF EXISTS fresh WITH (FORCE)")
    postgres.command("CREATE DATABASE fresh")
    return Settings(store=postgres.url("fresh"))


def in_database(settings: Settings, work: Callable[[Connection], Any]) -> Any:
    """What `work(connection)` returns."""

    async def read() -> Any:
        database = Database(settings, Metrics())
        found = await database.read(work)
        await database.close()
        return found

    return asyncio.run(read())


async def store_one(settings: Settings) -> dict[str, int]:
    """Store a response, see that it is there, and return the modes of SQLite's files."""
    store = Store(settings)
    await store.responses.finish(finished("r"))
    assert await store.responses.get("t", "r") is not None
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.data_dir.glob("holdfast*")}
    await store.close()
    return modes


def test_the_newest_migration_is_known_without_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    revisions = [each.revision for each in script.walk_revisions()]
    assert script.get_heads() == [REVISION]
    assert revisions == sorted(revisions, reverse=True)


def test_migrations_make_the_tables_as_they_are_declared(empty: Settings) -> None:
    prepare(empty)

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": same_type})
        return list(compare_metadata(context, METADATA))

    assert in_database(empty, differences) == []


def same_type(*compared: object) -> bool | None:
    """For Alembic, which knows our own kind of text not to be another one: `Name` is text. Else it looks for itself."""
    *_, found, declared = compared
    return False if isinstance(declared, Name) and isinstance(found, Text) else None


def test_a_database_is_prepared_and_then_left_alone(empty: Settings) -> None:
    prepare(empty)
    asyncio.run(store_one(empty))
    prepare(empty)
    asyncio.run(store_one(empty))


def test_a_prepared_process_has_loaded_only_what_it_needs(tmp_path: Path) -> None:
    script = f"""
import pathlib, sys, threading
from frontend.config import Settings
from frontend.store.schema import prepare
from frontend.store.store import Store
prepare(Settings(data_dir=pathlib.Path({str(tmp_path / "data")!r})))
unneeded = ("alembic", "asyncpg", "sqlalchemy.orm")
print(threading.active_count(), *(name for name in sys.modules if name.startswith(unneeded)))
"""
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert ended.stdout == "1\n"


def prepare_together(barrier: Barrier, settings: Settings) -> None:
    """Prepare when all are there."""
    barrier.wait(DEADLINE_S)
    prepare(settings)


def test_four_that_start_at_once_migrate_once(empty: Settings) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    processes = [context.Process(target=prepare_together, args=(barrier, empty)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(DEADLINE_S)
    assert [process.exitcode for process in processes] == [0] * 4
    versions = text("SELECT version_num FROM alembic_version")
    assert in_database(empty, lambda connection: connection.execute(versions).all()) == [(REVISION,)]


# ---- files and URLs --------------------------------------------------------------------------------------------------


def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "some/data")
    prepare(settings)
    files = asyncio.run(store_one(settings))
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    assert files == dict.fromkeys(["holdfast.db", "holdfast.db-shm", "holdfast.db-wal", "holdfast.db.lock"], 0o600)


def test_a_directory_that_others_may_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with pytest.raises(NotPrivate, match="data directory"):
        prepare(Settings(data_dir=tmp_path / "data"))


def test_a_file_of_ones_own_choice(tmp_path: Path) -> None:
    prepare(Settings(store=f"sqlite:///{tmp_path}/mine.db"))
    assert stat.S_IMODE((tmp_path / "mine.db").stat().st_mode) == 0o600


def test_a_database_that_cannot_be_made_is_not_available(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="absent"):
        prepare(Settings(store=f"sqlite:///{tmp_path}/absent/mine.db"))
    with pytest.raises(StoreUnavailable):
        prepare(Settings(store=f"postgresql://nobody@/absent?host={tmp_path}"))


@pytest.mark.parametrize(
    "url", ["mysql://h/d", "nonsense", "sqlite://", "sqlite:///:memory:", "postgresql+psycopg://h/d"]
)
def test_a_url_that_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(BadStoreUrl):
        prepare(Settings(store=url))
