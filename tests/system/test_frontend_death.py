"""A frontend is SIGKILLed in the middle of streams of the real engine, and no client loses a byte."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from benchmarks.deployment import Deployment, Process, ready
from tests.pace import PATIENT
from tests.system import sse

pytestmark = pytest.mark.engine

STREAMS = 20
DELTAS = 10
"""Deltas every client has read before the death."""
TOKENS = 800
"""Of each answer. The streams run in one batch: when the last one has read its `DELTAS`, the first is far from its end.
Not many more, or they would no longer fit into the demo model's cache together."""


class Pair(NamedTuple):
    """Two frontends on one worker; the first is the one that dies."""

    deployment: Deployment
    worker: Process
    doomed: Process
    doomed_url: str
    other_url: str


@pytest.fixture
def pair() -> Iterator[Pair]:
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as directory,
        Deployment(Path(directory), **PATIENT) as deployment,
    ):
        worker = deployment.worker()
        doomed, doomed_url = deployment.frontend()
        _, other_url = deployment.frontend()
        ready(doomed_url, deployment)
        ready(other_url, deployment)
        yield Pair(deployment, worker, doomed, doomed_url, other_url)


def is_delta(block: bytes) -> bool:
    return block.startswith(b"event: response.output_text.delta")


class Reader:
    """A client of the frontend that dies."""

    def __init__(self) -> None:
        self.response_id = ""
        self.opened = asyncio.Event()
        self.half_way = asyncio.Event()

    async def read(self, client: aiohttp.ClientSession, url: str) -> list[bytes]:
        """Its stream up to where the frontend's death cut it off: whole blocks only."""
        body = {"model": "holdfast-demo", "input": "Write a long story.", "stream": True}
        body |= {"ignore_eos": True, "max_output_tokens": TOKENS}
        seen: list[bytes] = []
        deltas = 0
        async with client.post(url + "/v1/responses", json=body) as answer:
            assert answer.status == 200, await answer.text()
            self.response_id = answer.headers["x-response-id"]
            self.opened.set()
            try:
                async for block in sse.blocks(answer):
                    seen.append(block)
                    deltas += is_delta(block)
                    if deltas >= DELTAS:
                        self.half_way.set()
            except (aiohttp.ClientError, AssertionError):
                return sse.without_comments(seen)
        raise AssertionError("the stream ended before its frontend was killed")


async def replay(client: aiohttp.ClientSession, url: str, response_id: str, after: int | None = None) -> list[bytes]:
    """A response's stream by GET, to its end."""
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    async with client.get(f"{url}/v1/responses/{response_id}", params=query) as answer:
        assert answer.status == 200, await answer.text()
        return sse.without_comments(await sse.read(answer))


def serving(frontend: Process) -> int:
    """Pid of the process that serves HTTP below a frontend's supervisor."""
    [process] = frontend.descendants("")
    return process.pid


async def test_streams_go_on_where_they_were_on_any_frontend(pair: Pair) -> None:
    engine_before = {process.pid for process in pair.worker.descendants("")}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client, asyncio.TaskGroup() as group:
        readers = [Reader() for _ in range(STREAMS)]
        broken = [group.create_task(reader.read(client, pair.doomed_url)) for reader in readers]
        for reader in readers:
            await reader.opened.wait()
        order = [reader.response_id for reader in readers]
        observers = [group.create_task(replay(client, pair.other_url, response_id)) for response_id in order]
        for reader in readers:
            await reader.half_way.wait()

        killed = time.monotonic()
        os.kill(serving(pair.doomed), signal.SIGKILL)
        before = await asyncio.gather(*broken)
        after_last = [sse.parse(stream[-1])["sequence_number"] for stream in before]
        elsewhere = [
            group.create_task(replay(client, pair.other_url, response_id, last))
            for response_id, last in zip(order[::2], after_last[::2], strict=True)
        ]
        await asyncio.to_thread(ready, pair.doomed_url, pair.deployment)
        back_after_s = time.monotonic() - killed
        restarted = [
            group.create_task(replay(client, pair.doomed_url, response_id, last))
            for response_id, last in zip(order[1::2], after_last[1::2], strict=True)
        ]
        rest: list[list[bytes]] = [[]] * STREAMS
        rest[::2], rest[1::2] = await asyncio.gather(*elsewhere), await asyncio.gather(*restarted)
        observed = await asyncio.gather(*observers)
        replayed = [await replay(client, pair.doomed_url, response_id) for response_id in order]

    for first, second, at_the_time, later in zip(before, rest, observed, replayed, strict=True):
        assert sum(map(is_delta, first)) >= DELTAS
        assert sum(map(is_delta, second)) >= DELTAS
        assert first + second == at_the_time
        assert at_the_time == later
        sse.well_formed(later)
    assert {process.pid for process in pair.worker.descendants("")} == engine_before, "the model was loaded again"
    print(f"{STREAMS} streams, frontend back after {back_after_s:.2f} s")  # noqa: T201 - the figure asked for
