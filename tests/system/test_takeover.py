"""Two workers of one model: when one is killed whole, drained or upgraded, its streams go on in the other at once.

With the scripted engine, whose words are salted by incarnation: an answer that was run again could not be told as one.
"""

import asyncio
import itertools
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil
import pytest

from benchmarks.deployment import Deployment, Process, ready, wait_until
from tests.pace import UNHURRIED, slowness
from tests.system import sse
from tests.system.streams import STEPS, Reader, begin, words
from tests.system.workers import actors_of, is_in_service, kill_everything, taken_over

pytestmark = pytest.mark.slow

STREAMS = 40
"""Of which each worker gets about half."""
WORKERS_MAX = 8
"""So many are started until streams have moved twice: on a busy machine those of one may end before it does."""
DEADLINE_S = 240.0
NEXT_TOKEN_S = 10.0
"""Bound on the wait for the next token, generous for a machine under load; the figure is printed."""


class Pair(NamedTuple):
    """Two frontends, and two workers that both know."""

    deployment: Deployment
    workers: tuple[Process, Process]
    url: str
    other_url: str


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="holdfast-") as path, Deployment(Path(path), **UNHURRIED) as deployment:
        yield deployment


def start(deployment: Deployment, **settings: str) -> Pair:
    _, url = deployment.frontend(keepalive_interval_s="0.2")
    _, other_url = deployment.frontend(keepalive_interval_s="0.2")
    workers = worker(deployment, **settings), worker(deployment, **settings)
    ready(url, deployment)
    ready(other_url, deployment)
    for each in workers:
        wait_until(partial(is_in_service, each, 2), DEADLINE_S, "both frontends know both workers")
    return Pair(deployment, workers, url, other_url)


def worker(deployment: Deployment, **settings: str) -> Process:
    return deployment.worker("--engine", "scripted", "--core", **settings)


async def check(client: aiohttp.ClientSession, url: str, readers: list[Reader], observers: list[Reader]) -> None:
    """All of them are whole and well formed, and the same for everybody who read them, then or now."""
    for number, (reader, observer) in enumerate(zip(readers, observers, strict=True)):
        replay = Reader()
        await replay.get(client, url, reader.response_id)
        assert reader.without_comments == observer.without_comments == replay.without_comments
        assert len(words(reader.without_comments)) == pytest.approx(STEPS + number, abs=STEPS // 4)


async def observe(
    client: aiohttp.ClientSession, url: str, readers: list[Reader], tasks: list[asyncio.Task[None]]
) -> list[Reader]:
    """Have each of them read by a second client; returns once all are half way."""
    observers = [Reader() for _ in readers]
    for reader, observer in zip(readers, observers, strict=True):
        tasks.append(asyncio.create_task(observer.get(client, url, reader.response_id)))
    for reader in [*readers, *observers]:
        await reader.half_way.wait()
    return observers


async def test_the_streams_of_a_worker_that_is_killed_whole_go_on_in_the_other(deployment: Deployment) -> None:
    pair = await asyncio.to_thread(start, deployment)
    connector = aiohttp.TCPConnector(limit=0)
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as client:
        tasks: list[asyncio.Task[None]] = []
        readers = await begin(client, pair.url, tasks, STREAMS)
        observers = await observe(client, pair.other_url, readers, tasks)
        told = [list(reader.without_comments) for reader in readers]
        dead, alive = pair.workers
        killed = time.monotonic()
        await asyncio.to_thread(kill_everything, [dead])
        await asyncio.gather(*tasks)
        waited = [reader.waited_s(killed) for reader in [*readers, *observers]]
        await check(client, pair.other_url, readers, observers)
    assert all(reader.without_comments[: len(before)] == before for reader, before in zip(readers, told, strict=True))
    moved = taken_over(alive)
    assert moved > 0
    assert max(waited) < NEXT_TOKEN_S * slowness()
    print(f"{moved} of {STREAMS} streams moved; the next token within {max(waited):.2f} s of the death")  # noqa: T201


async def test_what_a_worker_had_not_begun_when_it_was_killed_is_done_by_the_other(deployment: Deployment) -> None:
    """Without an error for anybody, and long before a worker that is only silent would be given up."""
    pair = await asyncio.to_thread(start, deployment)
    dead, _ = pair.workers
    script = json.dumps({"text": "It is said."})
    body = {"model": "scripted", "input": "x", "stream": True, "metadata": {"script": script}}

    async def ask(client: aiohttp.ClientSession) -> list[str]:
        async with client.post(pair.url + "/v1/responses", json=body) as reply:
            assert reply.status == 200, await reply.text()
            return words(sse.without_comments(await sse.read(reply)))

    connector = aiohttp.TCPConnector(limit=0)
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as client:
        for actor in actors_of(dead):
            actor.suspend()  # It reads nothing more.
        tasks = [asyncio.create_task(ask(client)) for _ in range(STREAMS)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        killed, unanswered = time.monotonic(), sum(not task.done() for task in tasks)
        await asyncio.to_thread(kill_everything, [dead])
        assert await asyncio.gather(*tasks) == [["It", "is", "said."]] * STREAMS
        waited_s = time.monotonic() - killed
    assert unanswered > 0
    assert waited_s < NEXT_TOKEN_S * slowness()
    print(f"{unanswered} of {STREAMS} were unanswered, the last of them for {waited_s:.2f} s after the death")  # noqa: T201


async def test_what_a_drained_worker_does_not_finish_goes_on_in_the_other(deployment: Deployment) -> None:
    pair = await asyncio.to_thread(start, deployment, drain_s="0.2")
    connector = aiohttp.TCPConnector(limit=0)
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as client:
        tasks: list[asyncio.Task[None]] = []
        readers = await begin(client, pair.url, tasks, STREAMS)
        observers = await observe(client, pair.other_url, readers, tasks)
        drained, other = pair.workers
        told_to_end = time.monotonic()
        psutil.Process(drained.pid).send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(drained.wait, DEADLINE_S) == 0
        await asyncio.gather(*tasks)
        await check(client, pair.other_url, readers, observers)
    moved = taken_over(other)
    assert moved > 0
    longest = max(longest_pause_s(reader, told_to_end) for reader in [*readers, *observers])
    assert longest < NEXT_TOKEN_S * slowness()
    print(f"{moved} of {STREAMS} streams moved; no pause was longer than {longest:.2f} s")  # noqa: T201


def longest_pause_s(reader: Reader, since: float) -> float:
    """The longest time between two deltas of it, of which the later came after that moment."""
    times = reader.delta_times
    return max((later - at for at, later in itertools.pairwise(times) if later > since), default=0.0)


async def test_workers_are_upgraded_one_by_one_under_load_and_no_stream_is_hurt(deployment: Deployment) -> None:
    pair = await asyncio.to_thread(start, deployment, drain_s="0.2")
    over = asyncio.Event()
    readers: list[Reader] = []
    observers: list[Reader] = []
    workers = list(pair.workers)

    async def keep_creating(client: aiohttp.ClientSession) -> None:
        """One stream after another, each with an observer, until the upgrade is over."""
        while not over.is_set():
            reader, observer = Reader(), Reader()
            readers.append(reader)
            observers.append(observer)
            async with asyncio.TaskGroup() as both:
                both.create_task(reader.create(client, pair.url, 0))
                await reader.begun.wait()
                both.create_task(observer.get(client, pair.other_url, reader.response_id))

    connector = aiohttp.TCPConnector(limit=0)
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as client:
        async with asyncio.TaskGroup() as load:
            for _ in range(10):
                load.create_task(keep_creating(client))
            for old in workers:  # those that come meanwhile too, where there was nothing to move
                await enough_are_under_way(readers)
                psutil.Process(old.pid).send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(old.wait, DEADLINE_S) == 0
                new = worker(deployment, drain_s="0.2")
                await asyncio.to_thread(wait_until, partial(is_in_service, new, 2), DEADLINE_S, "it is in service")
                workers.append(new)
                moved = [count for count in map(taken_over, workers) if count]
                if len(moved) >= 2 or len(workers) >= WORKERS_MAX:
                    break
            over.set()
        for reader, observer in zip(readers, observers, strict=True):
            words(reader.without_comments)
            assert reader.without_comments == observer.without_comments
    assert len(moved) >= 2
    print(f"{len(readers)} streams whole over {len(workers) - 2} upgrades, {sum(moved)} of them moved")  # noqa: T201


async def enough_are_under_way(readers: list[Reader]) -> None:
    """Wait until there are some streams in their first half."""
    while sum(0 < len(reader.delta_times) < STEPS // 2 for reader in readers[-10:]) < 5:
        await asyncio.sleep(0.02)
