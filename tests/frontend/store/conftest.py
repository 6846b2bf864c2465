"""A prepared, empty database for each test: of SQLite, and of PostgreSQL."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from frontend.config import Settings
from frontend.store.schema import prepare
from frontend.store.store import Store
from frontend.store.tables import METADATA
from tests.postgres import Postgres

BACKENDS = ["sqlite", "postgresql"]
PATIENCE_S = 30.0
"""The store waits longer here than it does by default: the machine may be busy with other tests."""


@pytest.fixture(scope="session")
def prepared_url(postgres: Postgres) -> str:
    """The URL of PostgreSQL's database `postgres`, which is prepared."""
    url = postgres.url("postgres")
    prepare(Settings(store=url))
    return url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared file that is copied for each test."""
    directory = tmp_path_factory.mktemp("template")
    directory.chmod(0o700)
    prepare(Settings(data_dir=directory))
    return directory / "holdfast.db"


@pytest.fixture
def sqlite(sqlite_template: Path, tmp_path: Path) -> Settings:
    """Settings with a prepared SQLite file of its own."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    shutil.copyfile(sqlite_template, data_dir / "holdfast.db")
    return Settings(data_dir=data_dir, store_wait_s=PATIENCE_S)


@pytest.fixture
async def postgresql(postgres: Postgres, prepared_url: str) -> AsyncIterator[Settings]:
    """Settings with the prepared PostgreSQL database; what a test leaves there goes."""
    yield Settings(store=prepared_url, store_wait_s=PATIENCE_S)
    connection = await asyncpg.connect(user="holdfast", host=str(postgres.directory), database="postgres")
    await connection.execute(";".join(f"DELETE FROM {table.name}" for table in METADATA.sorted_tables))
    await connection.close()


@pytest.fixture(params=BACKENDS)
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings with a prepared database of either kind."""
    found: Settings = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """A store over a database of either kind."""
    store = Store(settings)
    yield store
    await store.close()
