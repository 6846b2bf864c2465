"""Every process is killed at once while responses run in the background; after a start all of them end as observed."""

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.chaos.clients import Crowd, Reader
from benchmarks.chaos.recording import Recording
from benchmarks.deployment import Deployment, free_port, ready, wait_until
from tests.pace import PATIENT, UNHURRIED
from tests.system import background, sse
from tests.system.answers import ATTEMPTS_MAX, REQUESTS, without_ids
from tests.system.workers import is_in_service, kill_everything

RESPONSES = 50
FRONTENDS = 4
LENGTH_S = (12.0, 22.0)
INTERVAL_S = 0.4
EVENTS = 6
"""Seen by every observer before the deaths."""
DEADLINE_S = 400.0
ENGINE_REQUESTS = ("greedy", "seeded", "schema", "tool call")
"""Of `tests.system.answers`: greedy and seeded sampling, a grammar, a parser."""
ENGINE_TOKENS = 800
ENDINGS = ("completed", "incomplete")
"""The real engine's stories are longer than `ENGINE_TOKENS`."""


class Deployed:
    """A deployment of so many frontends and workers, always on the same ports, which may be started again."""

    def __init__(self, deployment: Deployment, frontends: int, workers: int, *flags: str) -> None:
        self.urls = [f"http://127.0.0.1:{port}" for port in (free_port() for _ in range(frontends))]
        self.deployment = deployment
        self._workers = workers
        self._flags = flags

    def start(self) -> None:
        """Start all of them at once, and wait until each frontend and each worker is in service."""
        for url in self.urls:
            self.deployment.frontend(int(url.rpartition(":")[2]), keepalive_interval_s="1")
        workers = [self.deployment.worker(*self._flags) for _ in range(self._workers)]
        for url in self.urls:
            ready(url, self.deployment)
        for worker in workers:
            wait_until(partial(is_in_service, worker, len(self.urls)), DEADLINE_S, "all frontends know all workers")

    def kill(self) -> None:
        """SIGKILL everything that runs."""
        kill_everything([process for process in self.deployment.processes if not process.has_ended])


async def reach(readers: list[Reader], events: int) -> None:
    """Wait until each of them has seen so many events."""
    while any(len(reader.recording.blocks) < events for reader in readers):
        await asyncio.sleep(0.05)


async def all_that_came(readers: list[Reader]) -> int:
    """How many events these have seen, once what dead servers left in the connections is read."""
    seen = -1
    while seen != (now := sum(len(reader.recording.blocks) for reader in readers)):
        seen = now
        await asyncio.sleep(0.5)
    return seen


async def observed_over_a_death(
    deployed: Deployed, crowd: Crowd, bodies: list[dict[str, Any]], observed: dict[str, Recording]
) -> list[Recording]:
    """Run them all in the background, with an observer each, and kill and start everything in the middle.

    Returns what was observed of each; `observed` gets it by id, with what was begun for nothing.
    """
    for _ in range(ATTEMPTS_MAX):
        ids = await asyncio.gather(*(background.create(crowd, body) for body in bodies))
        readers = [Reader(crowd, response_id=response_id) for response_id in ids]
        observed |= {reader.response_id: reader.recording for reader in readers}
        async with asyncio.TaskGroup() as group:
            for reader in readers:
                group.create_task(reader.read())
            await reach(readers, EVENTS)
            await asyncio.to_thread(deployed.kill)
            before = await all_that_came(readers)
            running = sum(not reader.recording.is_done for reader in readers)
            killed = time.monotonic()
            await asyncio.to_thread(deployed.start)
            started_s = time.monotonic() - killed
        after = sum(len(reader.recording.blocks) for reader in readers) - before
        print(  # noqa: T201 - the figures
            f"{running} of {len(bodies)} ran; all in service {started_s:.1f} s after the deaths; {before} events "
            f"seen before and {after} after, over {sum(crowd.tally.reconnects.values())} reconnects"
        )
        if running >= len(bodies) / 2:
            assert after >= running  # the last of each at least
            await background.check_replays(crowd, observed, ENDINGS)
            return [reader.recording for reader in readers]
    raise AssertionError(f"in {ATTEMPTS_MAX} attempts, too many had ended before the last deaths")


@pytest.mark.slow
async def test_all_responses_go_on_after_everything_was_killed() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as path,
        Deployment(Path(path), **UNHURRIED) as deployment,
    ):
        deployed = Deployed(deployment, FRONTENDS, 2, "--engine", "scripted")
        await asyncio.to_thread(deployed.start)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as http:
            crowd = background.crowd(http, deployed.urls, seed=1)
            bodies = [background.scripted(crowd.chance.uniform(*LENGTH_S), INTERVAL_S) for _ in range(RESPONSES)]
            observed: dict[str, Recording] = {}
            await observed_over_a_death(deployed, crowd, bodies, observed)
        background.check_stored_once(Path(path) / "data", observed)
        background.check_logs(deployment.processes)


@pytest.mark.engine
async def test_the_real_engine_says_what_it_would_have_said() -> None:
    bodies = [
        {"model": "holdfast-demo", "background": True, "max_output_tokens": ENGINE_TOKENS, **REQUESTS[name]}
        for name in ENGINE_REQUESTS
    ]
    with tempfile.TemporaryDirectory(prefix="holdfast-") as path, Deployment(Path(path), **PATIENT) as deployment:
        deployed = Deployed(deployment, 2, 1)
        await asyncio.to_thread(deployed.start)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as http:
            crowd = background.crowd(http, deployed.urls, seed=1)
            undisturbed = await asyncio.gather(*(final(crowd, body) for body in bodies))
            disturbed = await observed_over_a_death(deployed, crowd, bodies, {})
        background.check_logs(deployment.processes)
    for name, expected, recording in zip(ENGINE_REQUESTS, undisturbed, disturbed, strict=True):
        assert without_ids(sse.parse(recording.blocks[-1])["response"]) == expected, name


async def final(crowd: Crowd, body: dict[str, Any]) -> dict[str, Any]:
    """How a response ends when nothing befalls it."""
    recording = await background.observe(crowd, await background.create(crowd, body))
    return without_ids(sse.parse(recording.blocks[-1])["response"])
