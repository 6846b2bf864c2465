"""A frontend is told to reload (SIGHUP) again and again under load, and nobody is refused and no event is lost."""

import asyncio
import itertools
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from benchmarks.chaos.clients import Crowd, keep_streaming
from benchmarks.chaos.recording import Difference
from benchmarks.chaos.tally import Tally
from benchmarks.deployment import Deployment, Process, ready
from tests.pace import PATIENT

pytestmark = pytest.mark.slow

RELOADS = 20
STREAMS = 100
LENGTH_S = (3.0, 6.0)
INTERVAL_S = 0.25
REPLACED_WITHIN_S = 60.0
PAUSE_S = 0.5
"""Between two reloads: shorter than a drain with its clean-up, so that they overlap."""


async def serving(frontend: Process) -> psutil.Process:
    """The youngest process below the arbiter, once there is one."""
    while not (found := await asyncio.to_thread(frontend.descendants, "")):
        await asyncio.sleep(0.02)
    return max(found, key=lambda process: process.create_time())


async def reload(frontend: Process) -> None:
    """Have the serving process replaced; the old one may be draining still when the next reload comes."""
    old = await serving(frontend)
    os.kill(frontend.pid, signal.SIGHUP)
    async with asyncio.timeout(REPLACED_WITHIN_S):
        while await serving(frontend) == old:
            await asyncio.sleep(0.05)
    await asyncio.sleep(PAUSE_S)


async def knock(url: str, stop: asyncio.Event) -> int:
    """Open one new connection after the other and ask on it; returns how many. Raises what a refused client sees."""
    for count in itertools.count():
        if stop.is_set():
            return count
        async with aiohttp.ClientSession() as client, client.get(url + "/health/live") as answer:
            assert answer.status == 200
    raise AssertionError


async def under_load(url: str, frontend: Process) -> tuple[Tally, int]:
    """All reloads while streams run; returns what the clients saw, and how often somebody knocked."""
    stop = asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as tasks:
        crowd = Crowd(http, [url], random.Random(1), Tally(), INTERVAL_S, LENGTH_S)
        for number in range(STREAMS):
            tasks.create_task(keep_streaming(crowd, stop, number / STREAMS))
        knocking = [tasks.create_task(knock(url, stop)) for _ in range(2)]
        await asyncio.sleep(LENGTH_S[0])  # so that all streams are under way
        for _ in range(RELOADS):
            await reload(frontend)
        stop.set()
        knocks = sum([await each for each in knocking])
    return crowd.tally, knocks


async def test_twenty_reloads_under_load_refuse_nobody_and_lose_nothing() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as directory,
        Deployment(Path(directory), **PATIENT) as deployment,
    ):
        deployment.worker("--engine", "scripted")
        frontend, url = deployment.frontend(drain_s="0.5", keepalive_interval_s="1")
        await asyncio.to_thread(ready, url, deployment)
        begun = time.monotonic()
        tally, knocks = await under_load(url, frontend)
        took_s = time.monotonic() - begun
    assert dict(tally.endings) == {"completed": tally.streams}, tally.examples
    assert tally.clients == tally.observers == Difference(), tally.examples
    # Streams end early, or break where a machine is too busy to end them in time; whoever connects anew is answered.
    assert tally.reconnects
    assert set(tally.reconnects) <= {"stream ended early", "connection broke"}
    assert knocks > RELOADS
    print(  # noqa: T201 - the figures asked for
        f"{RELOADS} reloads in {took_s:.0f} s: {tally.streams} streams, {tally.events} events,"
        f" {sum(tally.reconnects.values())} reconnects, {knocks} new connections"
    )
