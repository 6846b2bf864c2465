"""A real nginx with the documented configuration, in front of two frontends: it adds no wait, and breaks no promise."""

import asyncio
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from benchmarks.deployment import Deployment, Process, ready
from frontend.config import Settings
from tests.pace import DEADLINE_S, UNHURRIED
from tests.system import sse
from tests.system.nginx import CONFIGURATION, Nginx
from tests.system.streams import Reader
from tests.system.workers import kill_everything

BODY_BYTES_MAX = msgspec.structs.fields(Settings)[Settings.__struct_fields__.index("body_bytes_max")].default
STREAMS = 6


class Site(NamedTuple):
    """Two frontends of one scripted worker, with nginx in front."""

    frontends: tuple[Process, Process]
    urls: tuple[str, str]
    nginx: Nginx


def site(directory: str, **worker: str) -> Iterator[Site]:
    with Deployment(Path(directory), **UNHURRIED, drain_s="0.2", keepalive_interval_s="0.5") as deployment:
        deployment.worker("--engine", "scripted", **worker)
        (one, one_url), (other, other_url) = deployment.frontend(), deployment.frontend()
        ready(one_url, deployment)
        ready(other_url, deployment)
        yield Site((one, other), (one_url, other_url), Nginx(deployment, [one_url, other_url]))


@pytest.fixture(scope="module")
def lasting() -> Iterator[Site]:
    """One that no test breaks. Whatever loses its last client is cancelled at once."""
    with tempfile.TemporaryDirectory(prefix="holdfast-") as directory:
        yield from site(directory, disconnect_grace_s="0.1")


@pytest.fixture
def doomed() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="holdfast-") as directory:
        yield from site(directory)


def create(steps: int) -> dict[str, Any]:
    """A create whose engine says so many steps, and then nothing more."""
    script = json.dumps({"steps": steps + 1, "silence_at": steps, "silence_s": 10_000})
    return {"model": "scripted", "input": "x", "stream": True, "metadata": {"script": script}}


def last_number(stream: list[bytes]) -> int:
    number: int = sse.events(stream)[-1]["sequence_number"]
    return number


async def until_silence(answer: aiohttp.ClientResponse) -> list[bytes]:
    """What comes before the second keepalive in a row."""
    stream: list[bytes] = []
    async for block in sse.blocks(answer):
        if stream and sse.is_comment(block) and sse.is_comment(stream[-1]):
            return stream
        stream.append(block)
    raise AssertionError("the stream has ended")


async def reaches(http: aiohttp.ClientSession, site: Site, steps: int) -> None:
    """Read one stream through nginx and, at another frontend, without it, while the engine has fallen silent."""
    async with http.post(site.nginx.url + "/v1/responses", json=create(steps)) as through:
        assert through.headers["Content-Type"] == "text/event-stream"
        assert through.headers["X-Accel-Buffering"] == "no"
        assert "Content-Encoding" not in through.headers
        there = f"{site.urls[steps % 2]}/v1/responses/{through.headers['x-response-id']}?stream=true"
        async with http.get(there) as without:
            said = await until_silence(without)
        last = last_number(said)
        blocks = sse.blocks(through)
        seen = [await anext(blocks)]
        while sse.is_comment(seen[-1]) or last_number(seen) < last:
            seen.append(await anext(blocks))
        assert sse.without_comments(seen) == sse.without_comments(said)
        while not sse.is_comment(await anext(blocks)):  # keepalives come through, too
            continue


async def test_each_event_comes_through_before_the_next_is_made(lasting: Site) -> None:
    async with asyncio.timeout(DEADLINE_S), lasting.nginx.client() as http, asyncio.TaskGroup() as streams:
        for steps in range(1, 9):
            streams.create_task(reaches(http, lasting, steps))


async def test_a_client_that_leaves_leaves_its_frontend(lasting: Site) -> None:
    async with asyncio.timeout(DEADLINE_S), lasting.nginx.client() as http:
        async with http.post(lasting.nginx.url + "/v1/responses", json=create(3)) as answer:
            await anext(sse.blocks(answer))
            response = f"{lasting.nginx.url}/v1/responses/{answer.headers['x-response-id']}"
        while (await got(http, response))["status"] != "cancelled":
            await asyncio.sleep(0.3)  # longer than the grace, should this count as a client


async def test_an_answer_that_is_not_streamed_may_take_longer_than_keepalives(lasting: Site) -> None:
    script = json.dumps({"first_s": 1.5})  # nginx is told elsewhere to give up after 1 s
    body = {"model": "scripted", "input": "x", "metadata": {"script": script}}
    url = lasting.nginx.url + "/v1/responses"
    async with asyncio.timeout(DEADLINE_S), lasting.nginx.client() as http, http.post(url, json=body) as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "completed")


async def test_metrics_stay_behind_nginx(lasting: Site) -> None:
    async with asyncio.timeout(DEADLINE_S), lasting.nginx.client() as http:
        statuses = [(await http.get(url + "/metrics")).status for url in (lasting.nginx.url, lasting.urls[0])]
    assert statuses == [404, 200]


async def got(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def test_a_body_may_be_as_large_as_for_a_frontend_and_no_larger(lasting: Site) -> None:
    body = json.dumps({"model": "scripted", "input": "x", "store": False}).encode()

    async def post(url: str, size: int) -> tuple[int, str | None, dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        async with http.post(url + "/v1/responses", data=io.BytesIO(body.ljust(size)), headers=headers) as answer:
            return answer.status, answer.headers.get("Content-Type"), await answer.json()

    async with asyncio.timeout(DEADLINE_S), lasting.nginx.client() as http:
        status, _, response = await post(lasting.nginx.url, BODY_BYTES_MAX)
        refused = await post(lasting.nginx.url, BODY_BYTES_MAX + 1)
        refused_without = await post(lasting.urls[0], BODY_BYTES_MAX + 1)
    assert (status, response["status"]) == (200, "completed")
    assert refused[0] == 413
    assert refused[2] == refused_without[2]
    assert (refused[1] or "").split(";")[0] == "application/json"
    assert "temporary file" not in lasting.nginx.errors(), "a prompt was written to a disk"


class Follower:
    """A client that comes back when its connection breaks."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.broken = 0

    async def follow(self, http: aiohttp.ClientSession, url: str) -> None:
        """Read one response to its end."""
        asked = self.reader.create(http, url, 0, **{**create(12), "background": True})
        while True:
            try:
                return await asked
            except aiohttp.ClientError:
                self.broken += 1
                asked = self.reader.get(http, url, self.reader.response_id)


@pytest.mark.slow
async def test_streams_outlive_a_reload_of_nginx_and_the_death_of_a_frontend(doomed: Site) -> None:
    nginx, followers = doomed.nginx, [Follower() for _ in range(STREAMS)]
    responses = nginx.url + "/v1/responses"
    async with asyncio.timeout(DEADLINE_S), nginx.client() as http:
        async with asyncio.TaskGroup() as following:
            for each in followers:
                following.create_task(each.follow(http, nginx.url))
            for each in followers:
                await each.reader.half_way.wait()

            await asyncio.to_thread(nginx.reload)
            await got(http, nginx.url + "/health/ready")
            assert sum(each.broken for each in followers) == 0

            await asyncio.to_thread(kill_everything, [doomed.frontends[0]])
            for _ in range(STREAMS):  # creates go to the other one, also where nginx tries the dead one first
                async with http.post(responses, json={"model": "scripted", "input": "x"}) as answer:
                    assert answer.status == 200, await answer.text()
            for each in followers:
                async with http.post(f"{responses}/{each.reader.response_id}/cancel") as answer:
                    assert answer.status == 200, await answer.text()

        assert 0 < sum(each.broken for each in followers) <= STREAMS
        for each in followers:
            again = Reader()
            await again.get(http, doomed.urls[1], each.reader.response_id)
            assert each.reader.without_comments == again.without_comments
            assert sse.well_formed(again.blocks)[-1]["response"]["status"] == "cancelled"

        await asyncio.to_thread(kill_everything, [doomed.frontends[1]])
        async with http.get(responses + "/resp_1") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
            assert (await answer.json())["error"]["code"] == "unreachable"


def test_the_size_of_a_body_is_the_frontends_default() -> None:
    assert f"client_max_body_size {BODY_BYTES_MAX // 2**20}m;" in CONFIGURATION.read_text()
    assert f"larger than the {BODY_BYTES_MAX:,} bytes" in CONFIGURATION.read_text()
