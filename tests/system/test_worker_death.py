"""The worker dies or stands still in the middle of streams, alone or with everything else, and nobody's stream changes.

With the scripted engine, whose words are salted by incarnation: an answer that was run again could not be told as one.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import psutil
import pytest

from benchmarks.deployment import Deployment, Process, ready
from tests.pace import UNHURRIED
from tests.system import sse
from tests.system.streams import STEPS, STREAMS, Reader, begin, is_delta, words
from tests.system.workers import actors_of, kill_everything

pytestmark = pytest.mark.slow

DEADLINE_S = 240.0
HANG_AFTER_S = "10"
HANGS = json.dumps({"steps": 20, "hang_after": 1})


class Running(NamedTuple):
    """Two frontends on one scripted worker."""

    deployment: Deployment
    worker: Process
    frontends: tuple[Process, Process]
    url: str
    other_url: str


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="holdfast-") as path:
        yield Path(path)


def start(deployment: Deployment) -> Running:
    worker = deployment.worker("--engine", "scripted", "--core")
    first, url = deployment.frontend(keepalive_interval_s="0.2")
    second, other_url = deployment.frontend(keepalive_interval_s="0.2")
    ready(url, deployment)
    ready(other_url, deployment)
    return Running(deployment, worker, (first, second), url, other_url)


def dies(actor: psutil.Process) -> None:
    actor.kill()


def engine_dies(actor: psutil.Process) -> None:
    actor.children()[0].kill()


def stands_still(actor: psutil.Process) -> None:
    actor.suspend()


@pytest.mark.parametrize("fault", [dies, engine_dies, stands_still, None], ids=lambda each: each and each.__name__)
async def test_streams_stay_open_and_go_on_whatever_happens_to_the_worker(
    directory: Path, fault: Callable[[psutil.Process], None] | None
) -> None:
    limits = {**UNHURRIED, "actor_hang_after_s": HANG_AFTER_S, "engine_hang_after_s": HANG_AFTER_S}
    with Deployment(directory, **limits) as deployment:
        running = await asyncio.to_thread(start, deployment)
        connector = aiohttp.TCPConnector(limit=0)
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as client:
            tasks: list[asyncio.Task[None]] = []
            readers = await begin(client, running.url, tasks)
            observers = [Reader() for _ in readers]
            for reader, observer in zip(readers, observers, strict=True):
                tasks.append(asyncio.create_task(observer.get(client, running.other_url, reader.response_id)))
            for reader in [*readers, *observers]:
                await reader.half_way.wait()

            [actor] = actors_of(running.worker)
            told = [list(reader.without_comments) for reader in readers]
            struck = time.monotonic()
            if fault is None:  # The engine stands still, from within.
                tasks.append(asyncio.create_task(Reader().create(client, running.url, 0, metadata={"script": HANGS})))
            else:
                fault(actor)
            ran = sum(not reader.is_over for reader in readers)
            await asyncio.gather(*tasks)
            whole_after_s = time.monotonic() - struck
            assert [each.pid for each in actors_of(running.worker)] not in ([], [actor.pid])
            replayed = [Reader() for _ in readers]
            for reader, replay in zip(readers, replayed, strict=True):
                await replay.get(client, running.other_url, reader.response_id)

        for number, (reader, observer, replay) in enumerate(zip(readers, observers, replayed, strict=True)):
            assert reader.without_comments[: len(told[number])] == told[number]
            assert reader.without_comments == observer.without_comments == replay.without_comments
            assert len(words(reader.without_comments)) == pytest.approx(STEPS + number, abs=STEPS // 4)
        assert ran, "all had ended before the fault"
        print(f"{ran} of {STREAMS} streams ran, and were whole {whole_after_s:.2f} s after the fault")  # noqa: T201


async def test_streams_go_on_by_cursor_after_everything_was_killed_and_started_again(directory: Path) -> None:
    with Deployment(directory, **UNHURRIED) as deployment:
        running = await asyncio.to_thread(start, deployment)
        connector = aiohttp.TCPConnector(limit=0)
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession(connector=connector) as client:
            tasks: list[asyncio.Task[None]] = []
            readers = await begin(client, running.url, tasks)
            for reader in readers:
                await reader.half_way.wait()
            await asyncio.to_thread(kill_everything, [running.worker, *running.frontends])
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(end is None or isinstance(end, aiohttp.ClientError | AssertionError) for end in ends)
            broken = [reader for reader, end in zip(readers, ends, strict=True) if end is not None]
            assert broken, "all had ended before the deaths"
            told = [list(reader.without_comments) for reader in readers]

            running = await asyncio.to_thread(start, deployment)
            resumed = [reader.get(client, running.url, reader.response_id) for reader in broken]
            await asyncio.gather(*resumed)
            replayed = [Reader() for _ in readers]
            for reader, replay in zip(readers, replayed, strict=True):
                await replay.get(client, running.other_url, reader.response_id)

        for number, (reader, replay) in enumerate(zip(readers, replayed, strict=True)):
            assert reader.without_comments[: len(told[number])] == told[number]
            assert reader.without_comments == replay.without_comments
            words(reader.without_comments)


async def test_a_request_that_kills_one_process_after_another_fails_and_the_others_go_on(directory: Path) -> None:
    with Deployment(directory, **UNHURRIED, worker_deaths_max="2") as deployment:
        running = await asyncio.to_thread(start, deployment)
        async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as client:
            script = json.dumps({"steps": 100, "exit_after": 3, "fault_again": True})
            poison = Reader()
            await poison.create(client, running.url, 0, metadata={"script": script})
            after = Reader()
            await asyncio.to_thread(ready, running.url, deployment)
            await after.create(client, running.url, 0)
        found = sse.well_formed(poison.without_comments)
        assert found[-1]["type"] == "response.failed"
        assert found[-1]["response"]["error"]["code"] in {"engine_lost", "server_error"}
        assert sum(map(is_delta, poison.blocks)) <= 3 + 1
        words(after.without_comments)
