"""Another process holds SQLite's write lock for long: no stream waits for it, and all is stored once it is gone."""

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from benchmarks.deployment import Deployment, Process, ready
from tests.pace import DEADLINE_S, PATIENT
from tests.system import sse
from tests.system.workers import kill_everything

pytestmark = pytest.mark.slow

STEPS = 20


class Trio(NamedTuple):
    """A scripted worker with two frontends; the first may be killed."""

    database: Path
    doomed: Process
    doomed_url: str
    other_url: str


@pytest.fixture
def trio() -> Iterator[Trio]:
    settings = {**PATIENT, "store_wait_s": "1"}
    with tempfile.TemporaryDirectory(prefix="holdfast-") as directory, Deployment(Path(directory), **settings) as all_:
        all_.worker("--engine", "scripted")
        doomed, doomed_url = all_.frontend()
        _, other_url = all_.frontend()
        ready(doomed_url, all_)
        ready(other_url, all_)
        yield Trio(Path(directory) / "data/holdfast.db", doomed, doomed_url, other_url)


def body(**fields: Any) -> dict[str, Any]:
    script = json.dumps({"steps": STEPS, "interval_s": 0.05})
    return {"model": "scripted", "input": "x", "metadata": {"script": script}, **fields}


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else writes in the block."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=DEADLINE_S)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


async def streamed(http: aiohttp.ClientSession, url: str) -> tuple[str, list[bytes]]:
    async with http.post(url + "/v1/responses", json=body(stream=True)) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["x-response-id"], sse.without_comments(await sse.read(answer))


async def until_stored(database: Path, response_id: str) -> None:
    """Wait until the store has its end."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        async with asyncio.timeout(DEADLINE_S):
            while not reader.execute(
                "SELECT 1 FROM responses WHERE response_id = ? AND closed IS NOT NULL", (response_id,)
            ).fetchone():
                await asyncio.sleep(0.05)


async def read(http: aiohttp.ClientSession, url: str, response_id: str) -> list[bytes]:
    async with http.get(f"{url}/v1/responses/{response_id}", params={"stream": "true"}) as answer:
        assert answer.status == 200, await answer.text()
        return sse.without_comments(await sse.read(answer))


async def test_streams_end_without_the_store_and_are_stored_later(trio: Trio) -> None:
    url = trio.doomed_url
    async with aiohttp.ClientSession() as http:
        with locked(trio.database):
            response_id, whole = await streamed(http, url)
            assert sse.well_formed(whole)[-1]["type"] == "response.completed"
            async with http.post(url + "/v1/responses", json=body()) as refused:
                assert refused.status == 503, await refused.text()
                assert int(refused.headers["Retry-After"]) > 0
            async with http.post(url + "/v1/responses", json=body(store=False)) as served:
                assert served.status == 200
            assert await read(http, trio.other_url, response_id) == whole
        await until_stored(trio.database, response_id)
        assert await read(http, trio.other_url, response_id) == whole
        async with asyncio.timeout(DEADLINE_S):
            while (await status_of_create(http, url)) != 200:
                await asyncio.sleep(0.1)


async def status_of_create(http: aiohttp.ClientSession, url: str) -> int:
    async with http.post(url + "/v1/responses", json=body()) as answer:
        return answer.status


async def test_what_a_killed_frontend_could_not_store_another_stores(trio: Trio) -> None:
    async with aiohttp.ClientSession() as http:
        with locked(trio.database):
            response_id, whole = await streamed(http, trio.doomed_url)
            await asyncio.to_thread(kill_everything, [trio.doomed])
        await until_stored(trio.database, response_id)
        assert await read(http, trio.other_url, response_id) == whole


async def test_a_frontend_killed_before_it_lost_patience_is_followed_by_another(trio: Trio) -> None:
    async with aiohttp.ClientSession() as http:
        with locked(trio.database):
            async with http.post(trio.doomed_url + "/v1/responses", json=body(stream=True)) as answer:
                response_id = answer.headers["x-response-id"]
                seen = await sse.read(answer, lambda block: block.startswith(b"event: response.output_text.done"))
                await asyncio.to_thread(kill_everything, [trio.doomed])
            whole = await read(http, trio.other_url, response_id)  # which ends while the store fails there too
        assert whole[: len(seen)] == sse.without_comments(seen)
        assert sse.well_formed(whole)[-1]["type"] == "response.completed"
        await until_stored(trio.database, response_id)
        assert await read(http, trio.other_url, response_id) == whole
