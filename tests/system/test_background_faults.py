"""Frontends are killed all the time while responses run in the background: each ends once, and as it was observed.

A failure is tried again with `BACKGROUND_FAULTS_SEED` set to the seed that it printed.
"""

import asyncio
import contextlib
import os
import random
import tempfile
import time
from functools import partial
from pathlib import Path

import aiohttp
import psutil
import pytest

from benchmarks.chaos.clients import Crowd
from benchmarks.chaos.recording import Recording
from benchmarks.deployment import Deployment, Process, ready, wait_until
from tests.pace import UNHURRIED
from tests.system import background
from tests.system.workers import is_in_service

pytestmark = pytest.mark.slow

RESPONSES = 200
FRONTENDS = 4
WORKERS = 2
CREATING_S = 20.0
"""Over which the creates are spread."""
FAULTS_S = 30.0
FAULT_EVERY_S = 1.0
KILLS_MIN = 10
"""The faults go on for longer where a busy machine takes its time to replace who was killed."""
LENGTH_S = (2.0, 25.0)
INTERVAL_S = (0.3, 0.5)
DEADLINE_S = 400.0
SEED_VARIABLE = "BACKGROUND_FAULTS_SEED"


async def test_each_ends_once_however_often_frontends_die() -> None:
    seed = int(os.environ.get(SEED_VARIABLE, time.time_ns() % 2**32))
    print(f"{SEED_VARIABLE}={seed}")  # noqa: T201 - to do it again
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as path,
        Deployment(Path(path), **UNHURRIED) as deployment,
    ):
        frontends, urls = await asyncio.to_thread(start, deployment)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as http:
            crowd = background.crowd(http, urls, seed)
            begun = time.monotonic()
            faults = asyncio.create_task(kill_one_after_another(frontends, random.Random(seed)))
            observed = await create_and_observe(crowd)
            kills = await faults
            took_s = time.monotonic() - begun
            for url in urls:
                await asyncio.to_thread(ready, url, deployment)
            await background.check_replays(crowd, observed)
        most_owners = background.check_stored_once(Path(path) / "data", observed)
        background.check_logs(deployment.processes)
        reconnects = sum(crowd.tally.reconnects.values())
    assert reconnects > 0
    assert most_owners > 1, "nothing changed hands"
    print(  # noqa: T201 - the figures
        f"{len(observed)} responses over {kills} kills in {took_s:.0f} s; observers reconnected {reconnects} times; "
        f"up to {most_owners} owners of one response"
    )


def start(deployment: Deployment) -> tuple[list[Process], list[str]]:
    frontends, urls = zip(*(deployment.frontend(keepalive_interval_s="1") for _ in range(FRONTENDS)), strict=True)
    workers = [deployment.worker("--engine", "scripted") for _ in range(WORKERS)]
    for url in urls:
        ready(url, deployment)
    for worker in workers:
        wait_until(partial(is_in_service, worker, FRONTENDS), DEADLINE_S, "all frontends know all workers")
    return list(frontends), list(urls)


async def kill_one_after_another(frontends: list[Process], chance: random.Random) -> int:
    """SIGKILL a serving process of any of them every so often; returns how often there was one to kill."""
    kills = 0
    until = time.monotonic() + FAULTS_S
    while time.monotonic() < until or kills < KILLS_MIN:
        await asyncio.sleep(FAULT_EVERY_S)
        for process in chance.choice(frontends).descendants("frontend"):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                kills += 1
    return kills


async def create_and_observe(crowd: Crowd) -> dict[str, Recording]:
    """Begin all of them, one after another, each with its observer; returns what the observers saw, by id."""
    observed: dict[str, Recording] = {}
    plan = [
        (crowd.chance.uniform(0, CREATING_S), crowd.chance.uniform(*LENGTH_S), crowd.chance.uniform(*INTERVAL_S))
        for _ in range(RESPONSES)
    ]

    async def one(after_s: float, length_s: float, interval_s: float) -> None:
        await asyncio.sleep(after_s)
        response_id = await background.create(crowd, background.scripted(length_s, interval_s))
        observed[response_id] = await background.observe(crowd, response_id)

    async with asyncio.TaskGroup() as group:
        for each in plan:
            group.create_task(one(*each))
    assert len(observed) == RESPONSES
    return observed
