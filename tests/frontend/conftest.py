"""A stand-in worker and a frontend that reads from it, for the tests in this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.frontend.served import Frontend, served
from tests.frontend.standin import StandIn


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[StandIn]:
    """A ready worker in the run directory `tmp_path`."""
    standin = StandIn(tmp_path)
    yield standin
    standin.close()


@pytest.fixture
async def frontend(worker: StandIn, tmp_path: Path) -> AsyncIterator[Frontend]:
    """A frontend in the same run directory."""
    assert worker.phase == "ready"
    async with served(tmp_path) as frontend:
        yield frontend
