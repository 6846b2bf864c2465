"""`python -m frontend` as processes: how it starts, what it weighs, how it dies, comes back and shares a port."""

import asyncio
import json
import math
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil
import pytest

from benchmarks.deployment import REPOSITORY, Deployment, Process, free_port, ready, status_of, wait_until
from frontend.__main__ import main
from frontend.arbiter import allow_streams
from frontend.parameters import keyed_response_id
from protocol.commands import Open
from tests.frontend.served import DONE, FINISHED, read_until, text
from tests.frontend.standin import StandIn
from tests.pace import DEADLINE_S, slowness

pytestmark = pytest.mark.slow

START_MAX_S = 1.0
RSS_MAX_BYTES = 80 * 10**6
BACK_MAX_S = 2.0
ATTEMPTS_MAX = 5
"""How often a figure of wall-clock time is measured until it is as it should be: noise only ever adds to it."""
SILENCE_S = 6.5
"""In which more than one keepalive comes, one a second, also where the frontend is held up for some of them."""
RENDER_S = 3.0
CREATE = {"model": "holdfast-demo", "input": "hi", "stream": True}


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(tmp_path) as deployment:
        yield deployment


def is_live(url: str) -> bool:
    return status_of(url + "/health/live") == 200


def is_ready(url: str) -> bool:
    return status_of(url + "/health/ready") == 200


def started(deployment: Deployment, **settings: Any) -> tuple[Process, str]:
    """A frontend that answers."""
    process, url = deployment.frontend(**settings)
    wait_until(lambda: is_live(url), DEADLINE_S, f"{url} live")
    return process, url


def serving(frontend: Process) -> psutil.Process:
    """The process below the arbiter."""
    [process] = frontend.descendants("")
    return process


# ---- start and weight ------------------------------------------------------------------------------------------------


def test_it_answers_within_a_second_of_its_start_and_is_light(deployment: Deployment) -> None:
    best_s = math.inf
    for _ in range(ATTEMPTS_MAX):
        before = time.monotonic()
        process, _ = started(deployment)
        best_s = min(best_s, (time.monotonic() - before) / slowness())
        if best_s < START_MAX_S:
            break
    assert best_s < START_MAX_S
    assert serving(process).memory_info().rss < RSS_MAX_BYTES
    assert psutil.Process(process.pid).memory_info().rss < RSS_MAX_BYTES


def test_it_may_open_as_many_connections_as_it_may_have_streams(deployment: Deployment) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    process, _ = started(deployment, streams_max=str(soft + 100))
    assert serving(process).rlimit(psutil.RLIMIT_NOFILE)[0] >= min(soft + 100, hard)


def test_a_system_that_allows_fewer_connections_than_streams_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: taken.append(limits))
    assert allow_streams(100) is None
    assert allow_streams(1000) is None
    assert "4096" in (allow_streams(10_000) or "")
    assert taken == [(1512, 4096), (4096, 4096)]


def test_it_loads_no_engine() -> None:
    script = "import sys, frontend.__main__; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    assert "frontend" in loaded
    assert not {"torch", "vllm", "transformers", "numpy", "pydantic", "engine_worker"} & set(loaded)


@pytest.mark.parametrize("arguments", ["--port eighty", "--port 70000", "--unknown-fields maybe", "--nonsense 1"])
def test_bad_settings_are_named(
    arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["frontend", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert arguments.split()[0] in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "value"), [("--host", "256.0.0.1"), ("--port", None)])
def test_where_it_cannot_listen_it_ends_with_the_reason(flag: str, value: str | None, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()  # without SO_REUSEPORT: by somebody else
        text = value or str(taken.getsockname()[1])
        command = [sys.executable, "-m", "frontend", "--data-dir", str(tmp_path), flag, text]
        ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ended.returncode == 1
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_it_says_where_to_send_a_request_and_the_curl_to_try(deployment: Deployment, tmp_path: Path) -> None:
    worker = StandIn(tmp_path)
    process, url = await asyncio.to_thread(started, deployment)
    await asyncio.to_thread(wait_until, lambda: "curl" in process.output.read_text(), DEADLINE_S, "the curl")
    *_, ready, curl = process.output.read_text().splitlines()
    assert ready.endswith(f"ready: holdfast-demo at {url}")
    command = shlex.split(curl)
    assert command[:4] == ["curl", "-X", "POST", url + "/v1/responses"]
    assert json.loads(command[-1]) == {"model": "gpt-4o-mini", "input": "Test streaming", "stream": True}
    curling = await asyncio.create_subprocess_exec(*command, "-s", stdout=asyncio.subprocess.PIPE)
    worker.append(await worker.next_response(), text("Hello"), FINISHED)
    printed, _ = await curling.communicate()
    assert printed.startswith(b"event: response.created\n")
    assert printed.endswith(DONE)
    worker.close()


def test_access_log_has_a_line_for_each_request_where_it_is_wanted(deployment: Deployment) -> None:
    silent, _ = started(deployment)
    talking, _ = started(deployment, access_log="true")
    wait_until(lambda: "GET /health/live" in talking.output.read_text(), DEADLINE_S, "a line")
    assert "GET" not in silent.output.read_text()


# ---- death and return ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_hanging_serving_process_is_replaced(deployment: Deployment) -> None:
    process, url = started(deployment, hang_after_s="2")
    victim = serving(process)
    victim.suspend()
    wait_until(lambda: not victim.is_running(), DEADLINE_S, "killed")
    wait_until(lambda: is_live(url), DEADLINE_S, "back")


async def test_hangup_replaces_the_serving_process_and_refuses_nobody(deployment: Deployment, tmp_path: Path) -> None:
    worker = StandIn(tmp_path)
    process, url = await asyncio.to_thread(started, deployment, drain_s=str(DEADLINE_S))
    old = serving(process)
    async with aiohttp.ClientSession() as client, client.post(url + "/v1/responses", json=CREATE) as stream:
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        os.kill(process.pid, signal.SIGHUP)
        while old in process.descendants("") and len(process.descendants("")) < 2:
            assert await asyncio.to_thread(status_of, url + "/health/live") == 200
        worker.append(response_id, text("Hello"), FINISHED)
        assert (await stream.read()).endswith(DONE)  # the old process lets it finish
    await asyncio.to_thread(wait_until, lambda: not old.is_running(), DEADLINE_S, "replaced")
    assert await asyncio.to_thread(is_live, url)
    worker.close()


async def test_sigterm_ends_streams_with_a_farewell_and_leaves_nothing(deployment: Deployment, tmp_path: Path) -> None:
    worker = StandIn(tmp_path)
    process, url = await asyncio.to_thread(started, deployment, drain_s="0.2")
    async with aiohttp.ClientSession() as client, client.post(url + "/v1/responses", json=CREATE) as stream:
        await read_until(stream, b"response.in_progress")
        stopping = asyncio.create_task(asyncio.to_thread(process.stop))
        rest = await stream.read()
        assert await stopping == 0
    assert rest == b": this frontend is stopping, resume with starting_after=1\n\n"
    assert await asyncio.to_thread(status_of, url + "/health/live") == 0
    worker.close()


# ---- one port --------------------------------------------------------------------------------------------------------


async def test_two_frontends_share_a_port_and_one_may_go(deployment: Deployment, tmp_path: Path) -> None:
    worker = StandIn(tmp_path)
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    first = deployment.start(sys.executable, "-m", "frontend", port=port)
    second = deployment.start(sys.executable, "-m", "frontend", port=port)
    await worker.until(lambda: len(worker.peers) == 2)
    async with asyncio.TaskGroup() as group:
        creates = [group.create_task(create_and_leave(url)) for _ in range(40)]
    assert [create.result() for create in creates] == [200] * 40
    assert len({peer for peer, command in worker.heard if isinstance(command, Open)}) == 2
    await asyncio.to_thread(first.stop)
    for _ in range(10):
        assert await asyncio.to_thread(is_live, url)
    assert psutil.pid_exists(second.pid)
    worker.close()


async def create_and_leave(url: str) -> int:
    """Create a response by a connection of its own, and hang up."""
    async with aiohttp.ClientSession() as client, client.post(url + "/v1/responses", json=CREATE) as stream:
        return stream.status


# ---- with the real worker process ------------------------------------------------------------------------------------


class Scripted(NamedTuple):
    """A frontend in front of a real worker process with the scripted engine."""

    process: Process
    url: str


@pytest.fixture
def scripted(deployment: Deployment) -> Scripted:
    deployment.worker("--engine", "scripted")
    process, url = started(deployment, keepalive_interval_s="1")
    ready(url, deployment)
    return Scripted(process, url)


def test_a_killed_serving_process_is_ready_again_at_once(scripted: Scripted) -> None:
    best_s = math.inf
    for _ in range(ATTEMPTS_MAX):
        victim = serving(scripted.process)
        before = time.monotonic()
        victim.kill()
        wait_until(lambda: not victim.is_running(), DEADLINE_S, "killed")  # noqa: B023 - used at once
        wait_until(lambda: is_ready(scripted.url), DEADLINE_S, "ready again")
        best_s = min(best_s, (time.monotonic() - before) / slowness())
    print(f"a killed frontend is ready again after {best_s:.2f} s")  # noqa: T201 - the figure asked for
    assert best_s < BACK_MAX_S


async def test_silence_of_the_engine_shows_keepalives_that_say_how_long(scripted: Scripted) -> None:
    script = {"steps": 4, "silence_s": SILENCE_S, "silence_at": 2}
    body = {"model": "scripted", "input": "hi", "stream": True, "metadata": {"script": json.dumps(script)}}
    async with aiohttp.ClientSession() as client, client.post(scripted.url + "/v1/responses", json=body) as post:
        url = f"{scripted.url}/v1/responses/{post.headers['x-response-id']}?stream=true"
        async with client.get(url) as get:
            for stream in await asyncio.gather(post.read(), get.read()):
                told = [int(seconds) for seconds in re.findall(rb"^: generating, silent for (\d+) s\n\n", stream, re.M)]
                assert len(told) >= 2
                assert all(seconds >= number for number, seconds in enumerate(told, 1)), told  # never too soon
                assert told == sorted(told)
                assert stream.endswith(DONE)


async def test_client_that_leaves_before_the_answer_began_does_not_orphan_the_response(scripted: Scripted) -> None:
    body = {"model": "scripted", "input": "hi", "metadata": {"script": json.dumps({"render_s": RENDER_S})}}
    create = f"{scripted.url}/v1/responses"
    async with aiohttp.ClientSession() as client, asyncio.timeout(ATTEMPTS_MAX * DEADLINE_S):
        for attempt in range(ATTEMPTS_MAX):
            key = f"k{attempt}"
            response = f"{create}/{keyed_response_id(key)}"
            creating = asyncio.create_task(client.post(create, json=body, headers={"Idempotency-Key": key}))
            while await status(client, response) is None:
                await asyncio.sleep(0.01)
            if creating.cancel():
                break
            creating.result().close()  # a busy machine took longer to find it than it took to begin
        else:
            pytest.fail(f"in {ATTEMPTS_MAX} attempts, it was never found before it began")
        while await status(client, response) != "completed":  # a frontend it is offered to drives it to its end
            await asyncio.sleep(0.01)


async def status(client: aiohttp.ClientSession, response: str) -> str | None:
    """The response's status; None while nobody knows it."""
    async with client.get(response) as answer:
        found: str | None = (await answer.json()).get("status")
        return found
