"""/metrics of real serving processes that share a run directory and a port, and are killed: every count is exact.

Two frontends of two processes each, one worker with the scripted engine. Whichever process is asked tells the same.
"""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.deployment import START_DEADLINE_S, Deployment, Process, free_port, ready
from tests.pace import PATIENT

PROCESSES: Final = 2
WORDS: Final = 6
CREATED: Final = 'holdfast_requests_total{code="200",endpoint="/v1/responses",method="POST"}'
TURNS: Final = 'holdfast_turns_total{model="scripted",reason="stop"}'
TOKENS: Final = 'holdfast_output_tokens_total{model="scripted"}'
GAPS: Final = 'holdfast_inter_event_gap_seconds_count{model="scripted"}'


class Client:
    """Opens a connection for each request, so that any process may get it; sees that no counter ever falls."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._seen: dict[str, float] = {}

    async def scrape(self) -> dict[str, float]:
        async with self._session.get(self._url + "/metrics") as answer:
            assert answer.status == 200
            families = list(text_string_to_metric_families(await answer.text()))
        found, counters = {}, {}
        for family in families:
            for sample in family.samples:
                labels = ",".join(f'{label}="{value}"' for label, value in sorted(sample.labels.items()))
                found[name := f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
                if family.type != "gauge" and "worker" not in sample.labels:
                    counters[name] = sample.value
        assert {name: value for name, value in self._seen.items() if counters.get(name, 0.0) < value} == {}
        self._seen = counters
        return found

    async def until(self, **expected: float) -> dict[str, float]:
        """Wait until the metrics without labels have these values; returns all."""
        async with asyncio.timeout(START_DEADLINE_S):
            while True:
                with suppress(aiohttp.ClientError):  # whoever accepted it was killed just now
                    found = await self.scrape()
                    if all(found[f"holdfast_{name}"] == value for name, value in expected.items()):
                        return found
                await asyncio.sleep(0.05)

    async def create(self, steps: int = WORDS, interval_s: float = 0.01) -> aiohttp.ClientResponse:
        script = json.dumps({"steps": steps, "interval_s": interval_s})
        body = {"model": "scripted", "input": "x", "stream": True, "metadata": {"script": script}}
        answer = await self._session.post(self._url + "/v1/responses", json=body)
        assert answer.status == 200
        return answer

    async def answers(self, count: int) -> None:
        """Have so many streams, and read each to its end."""

        async def one() -> None:
            async with await self.create() as answer:
                assert (await answer.read()).endswith(b"data: [DONE]\n\n")

        await asyncio.gather(*(one() for _ in range(count)))


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as path,
        Deployment(Path(path), processes=str(PROCESSES), **PATIENT) as deployment,
    ):
        yield deployment


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


def serving(frontend: Process) -> list[int]:
    return [process.pid for process in frontend.descendants("")]


async def test_counts_are_exact_whoever_is_asked_and_whoever_is_killed(
    deployment: Deployment, session: aiohttp.ClientSession
) -> None:
    deployment.worker("--engine", "scripted")
    port = free_port()
    frontends = [deployment.frontend(port)[0] for _ in range(2)]
    url = f"http://127.0.0.1:{port}"
    ready(url, deployment)
    client = Client(session, url)
    await client.until(processes=2 * PROCESSES, process_starts_total=2 * PROCESSES)

    await client.answers(20)
    before = await client.until(streams=0)
    for frontend in frontends:
        os.kill(serving(frontend)[0], signal.SIGKILL)
    await client.until(processes=2 * PROCESSES, process_starts_total=3 * PROCESSES)
    await client.answers(20)
    after = await client.until(streams=0)
    for found, streams in ((before, 20), (after, 40)):
        assert (found[CREATED], found[TURNS], found[TOKENS]) == (streams, streams, streams * WORDS)
        assert 0 < found[GAPS] <= streams * WORDS  # words that come together are one event

    async with AsyncExitStack() as open_streams:
        for _ in range(8):
            await open_streams.enter_async_context(await client.create(steps=100_000, interval_s=0.1))
        assert (await client.until(streams=8))[CREATED] == 48
        for pid in [pid for frontend in frontends for pid in serving(frontend)]:
            os.kill(pid, signal.SIGKILL)
        found = await client.until(processes=2 * PROCESSES, process_starts_total=5 * PROCESSES, streams=0)
        assert (found[CREATED], found[TURNS]) == (48, 40)
        left = {path.name for path in (deployment.directory / "metrics").iterdir()}
        assert len(left) <= 2 * PROCESSES + 2  # theirs, the sum of the dead, and its lock
