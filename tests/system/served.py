"""The real engine, served once for all tests that only ask it things: two frontends, one worker, the demo model."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.deployment import Deployment, ready
from tests.pace import PATIENT
from tests.postgres import Postgres


class Served(NamedTuple):
    """A running deployment of the demo model; `other_url` is a second frontend of the same worker."""

    url: str
    other_url: str
    deployment: Deployment


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """Start it with the first test that needs it, end it with the session."""
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as directory,
        Deployment(Path(directory), **PATIENT) as deployment,
    ):
        deployment.worker()
        _, url = deployment.frontend()
        _, other_url = deployment.frontend()
        ready(url, deployment)
        ready(other_url, deployment)
        yield Served(url, other_url, deployment)


@pytest.fixture(scope="session")
def served_on_postgresql(served: Served, postgres: Postgres) -> Iterator[Served]:
    """Two more frontends of the same worker, whose store is PostgreSQL: an empty database that they prepare."""
    postgres.command("CREATE DATABASE served")
    deployment, store = served.deployment, postgres.url("served")
    frontends = [deployment.frontend(store=store) for _ in range(2)]
    [url, other_url] = [url for _, url in frontends]
    ready(url, deployment)
    ready(other_url, deployment)
    yield Served(url, other_url, deployment)
    for process, _ in frontends:  # before their database
        process.stop()


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def served_on(request: pytest.FixtureRequest) -> Served:
    """The same with a store of either kind."""
    found: Served = request.getfixturevalue("served" if request.param == "sqlite" else "served_on_postgresql")
    return found
