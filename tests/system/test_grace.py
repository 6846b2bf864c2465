"""Clients that go away and come back, over real processes with the scripted engine."""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.deployment import Deployment, ready
from tests.pace import DEADLINE_S, PATIENT
from tests.system import sse

pytestmark = pytest.mark.slow

GRACE_S = 4.0
ATTEMPTS_MAX = 5
"""How often a client tries to be back in time: a busy machine may hold it up for longer."""


@pytest.fixture(scope="module")
def urls() -> Iterator[tuple[str, str]]:
    """Two frontends on one scripted worker with a short grace."""
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as directory,
        Deployment(Path(directory), disconnect_grace_s=str(GRACE_S), **PATIENT) as deployment,
    ):
        deployment.worker("--engine", "scripted")
        _, first = deployment.frontend()
        _, second = deployment.frontend()
        ready(first, deployment)
        ready(second, deployment)
        yield first, second


def slow_answer(seconds: float) -> dict[str, Any]:
    """A create whose answer takes about this long."""
    script = json.dumps({"steps": int(seconds * 20), "interval_s": 0.05})
    return {"model": "scripted", "input": "x", "stream": True, "metadata": {"script": script}}


async def begin_and_leave(client: aiohttp.ClientSession, url: str, seconds: float) -> tuple[str, list[bytes]]:
    """Start a stream, read up to its third delta, and hang up."""
    async with client.post(url + "/v1/responses", json=slow_answer(seconds)) as answer:
        left = 3

        def enough(block: bytes) -> bool:
            nonlocal left
            left -= b"output_text.delta" in block
            return left == 0

        seen = await sse.read(answer, until=enough)
        answer.close()
        return answer.headers["x-response-id"], seen


async def resume(client: aiohttp.ClientSession, url: str, response_id: str, after: int) -> tuple[list[bytes], float]:
    """The rest of the stream, and when (monotonic seconds) its first block was there."""
    query = {"stream": "true", "starting_after": str(after)}
    async with client.get(f"{url}/v1/responses/{response_id}", params=query) as answer:
        assert answer.status == 200, await answer.text()
        blocks = sse.blocks(answer)
        first, begun = await anext(blocks), time.monotonic()
        return [first, *[block async for block in blocks]], begun


async def status(client: aiohttp.ClientSession, url: str, response_id: str) -> str:
    async with client.get(f"{url}/v1/responses/{response_id}") as answer:
        return str((await answer.json())["status"])


async def test_a_client_that_comes_back_within_the_grace_keeps_its_response(urls: tuple[str, str]) -> None:
    """And the one whose connection ended before does not cut it off: it reads for longer than the grace."""
    first, second = urls
    async with aiohttp.ClientSession() as client:
        for _ in range(ATTEMPTS_MAX):
            leaves = time.monotonic()
            response_id, seen = await begin_and_leave(client, first, seconds=1.5 * GRACE_S)
            rest, back = await resume(client, second, response_id, sse.parse(seen[-1])["sequence_number"])
            if back - leaves < GRACE_S:
                break
        else:
            pytest.fail(f"in {ATTEMPTS_MAX} attempts, it never was back within {GRACE_S} s")
    found = sse.well_formed(sse.without_comments(seen + rest))
    assert found[-1]["type"] == "response.completed"


async def test_a_client_that_stays_away_has_it_cancelled(urls: tuple[str, str]) -> None:
    first, second = urls
    async with aiohttp.ClientSession() as client, asyncio.timeout(DEADLINE_S):
        response_id, _ = await begin_and_leave(client, first, seconds=4 * DEADLINE_S)
        while (now := await status(client, second, response_id)) == "in_progress":
            await asyncio.sleep(0.1)
        assert now == "cancelled"
        replayed, _ = await resume(client, second, response_id, after=0)
        assert sse.parse(replayed[-2])["response"]["status"] == "cancelled"
        assert replayed[-1] == sse.DONE
