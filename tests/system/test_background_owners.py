"""The owner of background responses goes away, for good or for a while: another frontend ends them, just once."""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil
import pytest

from benchmarks.chaos.clients import Crowd
from benchmarks.deployment import Deployment, Process, ready, wait_until
from tests.pace import DEADLINE_S, UNHURRIED
from tests.system import background
from tests.system.test_frontend_death import serving
from tests.system.workers import is_in_service, kill_everything

pytestmark = pytest.mark.slow

RESPONSES = 30
LENGTH_S = (1.0, 14.0)
"""So that when their owner goes, some have ended, some are about to, and some go on for long."""
ENDED = 5
"""So many have ended when their owner goes."""
INTERVAL_S = 0.2
WRITES_HELD_S = 1.0
"""For which nobody may write, before the owner is paused: some ends are on their way into the file then."""


class Pair(NamedTuple):
    """Two frontends on one worker; the first is the owner that goes away."""

    owner: Process
    owners: Crowd
    others: Crowd
    data: Path


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    # No arbiter may take a paused process for one that hangs.
    settings = {**UNHURRIED, "hang_after_s": "600"}
    with tempfile.TemporaryDirectory(prefix="holdfast-") as path, Deployment(Path(path), **settings) as deployment:
        owner, owner_url = deployment.frontend()
        _, other_url = deployment.frontend()
        worker = deployment.worker("--engine", "scripted")
        await asyncio.to_thread(ready, owner_url, deployment)
        await asyncio.to_thread(ready, other_url, deployment)
        await asyncio.to_thread(wait_until, lambda: is_in_service(worker, 2), DEADLINE_S, "both know the worker")
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with asyncio.timeout(5 * DEADLINE_S), aiohttp.ClientSession(connector=connector) as http:
            owners, others = (background.crowd(http, [url], seed=1) for url in (owner_url, other_url))
            yield Pair(owner, owners, others, Path(path) / "data")


async def create_all(crowd: Crowd) -> list[str]:
    shortest, longest = LENGTH_S
    lengths = [shortest + (longest - shortest) * number / RESPONSES for number in range(RESPONSES)]
    bodies = [background.scripted(length, INTERVAL_S) for length in lengths]
    return await asyncio.gather(*(background.create(crowd, body) for body in bodies))


async def all_are_stored(pair: Pair) -> dict[str, tuple[object, ...]]:
    """Wait until the store has the end of all of them; returns the rows."""

    await ended(pair, RESPONSES)
    return background.rows(pair.data)


async def ended(pair: Pair, count: int) -> None:
    """Wait until the store has the end of so many."""

    def enough() -> bool:
        return [row[0] for row in background.rows(pair.data).values()].count("completed") >= count

    await asyncio.to_thread(wait_until, enough, 2 * DEADLINE_S, f"{count} are stored")


def pause_while_it_waits_to_write(pair: Pair) -> psutil.Process:
    """Pause the owner, which has no transaction then: SQLite's lock would be kept from everybody else."""
    serving_process = psutil.Process(serving(pair.owner))
    with closing(sqlite3.connect(pair.data / "holdfast.db", timeout=DEADLINE_S, isolation_level=None)) as store:
        store.execute("BEGIN IMMEDIATE")
        time.sleep(WRITES_HELD_S)
        serving_process.suspend()
        store.execute("ROLLBACK")
    return serving_process


def taken_over(rows: dict[str, tuple[object, ...]]) -> int:
    """How many were ended by another owner than their first."""
    return sum(epoch != 1 for _, epoch, *_ in rows.values())


async def test_a_dead_owners_responses_are_stored_by_another(pair: Pair) -> None:
    await create_all(pair.owners)
    await ended(pair, ENDED)
    await asyncio.to_thread(kill_everything, [pair.owner])
    rows = await all_are_stored(pair)
    assert taken_over(rows) > 0
    observed = {response_id: await background.observe(pair.others, response_id) for response_id in rows}
    background.check_stored_once(pair.data, observed)


async def test_an_owner_that_was_away_changes_nothing_when_it_is_back(pair: Pair) -> None:
    await create_all(pair.owners)
    await ended(pair, ENDED)
    paused = await asyncio.to_thread(pause_while_it_waits_to_write, pair)
    try:
        before = await all_are_stored(pair)
    finally:
        paused.resume()
    assert taken_over(before) > 0
    # What it had to say of them it has said once it sees a new one to its end.
    late = await background.create(pair.owners, background.scripted(INTERVAL_S, INTERVAL_S))
    await background.observe(pair.owners, late)
    after = background.rows(pair.data)
    assert after.pop(late)[0] == "completed"
    assert after == before
    assert serving(pair.owner) == paused.pid
    observed = {response_id: await background.observe(pair.others, response_id) for response_id in before}
    await background.check_replays(pair.owners, observed)
