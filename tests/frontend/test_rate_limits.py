"""Limits of a key at work: over all frontends of a host, while they come, go and are killed."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import openai
import psutil
import pytest

from benchmarks.deployment import REPOSITORY, Deployment, free_port, wait_until
from frontend.api.errors import ApiError
from frontend.config import Settings
from frontend.messages import Charge
from frontend.tenants.gate import Gate
from frontend.tenants.key_file import Key
from protocol.commands import Open
from protocol.records import Usage
from tests.frontend.served import DONE, FINISHED, Frontend, read_until, served, text
from tests.frontend.standin import StandIn
from tests.frontend.tenants import make_key
from tests.pace import DEADLINE_S

HOLDS_A_STREAM = """
import sys, time
from pathlib import Path
from frontend.config import Settings
from frontend.tenants.gate import Gate

run_dir = Path(sys.argv[1])
gate = Gate(Settings(run_dir=run_dir, data_dir=run_dir / "data"))
with gate.admitted(gate.key_for("sk-alice")):
    print("held", flush=True)
    time.sleep(300)
"""
CREATE = {"model": "holdfast-demo", "input": "hi", "stream": True}


class Host:
    """The gates of some processes of one host, at a virtual time."""

    def __init__(self, run_dir: Path, **limits: int) -> None:
        self.now = 5000.0
        self.settings = Settings(run_dir=run_dir, data_dir=run_dir / "data", keys_max=3)
        self.gates: list[Gate] = []
        make_key(run_dir, "alice", "alice", **limits)

    def gate(self) -> Gate:
        """One more process."""
        gate = Gate(self.settings, lambda: self.now)
        self.gates.append(gate)
        return gate

    @property
    def key(self) -> Key:
        key = self.gates[0].key_for("sk-alice")
        assert key is not None
        return key

    def lets_in(self, gate: Gate, tokens: int = 0) -> bool:
        """Whether a short request is let in."""
        with suppress(ApiError), gate.admitted(self.key, requests=1, tokens=tokens):
            return True
        return False


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Makes a host whose one key has these limits, and closes its gates."""
    made: list[Host] = []

    def make(**limits: int) -> Host:
        made.append(Host(tmp_path, **limits))
        return made[-1]

    yield make
    for host in made:
        for gate in host.gates:
            gate.close()


# ---- gates -----------------------------------------------------------------------------------------------------------


def test_requests_of_all_processes_make_up_one_limit(hosts: Callable[..., Host]) -> None:
    host = hosts(requests_per_minute=10)
    for _ in range(4):
        host.gate()
    assert sum(host.lets_in(gate) for _ in range(5) for gate in host.gates) == 10
    host.now += 61
    assert sum(host.lets_in(gate) for _ in range(5) for gate in host.gates) == 10


def test_streams_of_a_process_that_is_gone_are_free_and_its_requests_are_not(hosts: Callable[..., Host]) -> None:
    host = hosts(streams=1, requests_per_minute=2)
    first, second = host.gate(), host.gate()
    admitted = first.admitted(host.key, requests=1)
    admitted.__enter__()
    assert not host.lets_in(second)
    first.close()  # as its death does; nothing is taken back
    host.gates.remove(first)
    assert host.lets_in(second)
    assert not host.lets_in(second)
    with pytest.raises(ValueError, match="released"):  # a process that is dead never gets here
        admitted.__exit__(None, None, None)


def test_what_a_dead_process_leaves_is_removed_after_its_last_minute(
    hosts: Callable[..., Host], tmp_path: Path
) -> None:
    host = hosts(requests_per_minute=100)
    first, second = host.gate(), host.gate()
    for gate in (first, second):
        assert host.lets_in(gate)
    host.gates.remove(first)
    first.close()
    assert host.lets_in(second)
    host.now += 60
    assert host.lets_in(second)
    assert len(list((tmp_path / "limits").iterdir())) == 2
    host.now += 1
    assert host.lets_in(second)
    assert len(list((tmp_path / "limits").iterdir())) == 1


def test_what_a_process_left_that_died_while_it_began_is_removed(hosts: Callable[..., Host], tmp_path: Path) -> None:
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "empty").touch()
    (tmp_path / "limits" / "unwritten").write_bytes(bytes(4096))
    host = hosts(requests_per_minute=100)
    assert host.lets_in(host.gate())
    assert len(list((tmp_path / "limits").iterdir())) == 1


def test_nothing_is_counted_for_a_key_without_limits(hosts: Callable[..., Host], tmp_path: Path) -> None:
    host = hosts()
    gate = host.gate()
    assert host.lets_in(gate)
    assert gate.headers(host.key) == {}
    assert not (tmp_path / "limits").exists()


def charge(key: str, tokens: int) -> Charge:
    """So many tokens, input and output."""
    return Charge("resp_1", 0, key, "demo", "stop", Usage(tokens - 10, 0, 10, 0))


def test_tokens_are_reserved_while_a_request_runs_and_charged_when_its_turn_ends(hosts: Callable[..., Host]) -> None:
    host = hosts(tokens_per_minute=100)
    gate, other = host.gate(), host.gate()
    with gate.admitted(host.key, requests=1, tokens=60):
        assert other.headers(host.key)["x-ratelimit-remaining-tokens"] == "40"
        assert not host.lets_in(other, tokens=50)
        gate.charge(charge("alice", 70))
    assert other.headers(host.key)["x-ratelimit-remaining-tokens"] == "30"
    gate.charge(charge("alice", 20))
    assert not host.lets_in(other, tokens=11)
    assert host.lets_in(other, tokens=10)
    gate.charge(charge("nobody", 70))


def test_a_request_larger_than_the_limit_is_let_in_when_nothing_else_was_used(hosts: Callable[..., Host]) -> None:
    host = hosts(tokens_per_minute=100)
    gate = host.gate()
    assert host.lets_in(gate, tokens=10_000)
    gate.charge(charge("alice", 11))
    assert not host.lets_in(gate, tokens=10_000)


def test_a_full_disk_is_answered_503(hosts: Callable[..., Host], tmp_path: Path) -> None:
    host = hosts(requests_per_minute=1)
    gate = host.gate()
    (tmp_path / "limits").touch()  # no directory can be there
    with pytest.raises(ApiError) as raised, gate.admitted(host.key, requests=1):
        pass
    assert raised.value.status == 503


def test_a_process_that_is_stopped_holds_its_stream_but_nobody_up(tmp_path: Path) -> None:
    make_key(tmp_path, "alice", "alice", streams=2)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_A_STREAM, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        os.kill(other.pid, signal.SIGSTOP)
        gate = Gate(Settings(run_dir=tmp_path, data_dir=tmp_path / "data"))
        key = gate.key_for("sk-alice")
        with gate.admitted(key):
            with pytest.raises(ApiError), gate.admitted(key):
                pass
            other.kill()
            other.wait()
            with gate.admitted(key):
                pass
        gate.close()


# ---- frontends -------------------------------------------------------------------------------------------------------


async def test_the_sdk_raises_its_rate_limit_error_and_answers_say_what_is_left(
    worker: StandIn, tmp_path: Path
) -> None:
    make_key(tmp_path, "alice", requests_per_minute=1, tokens_per_minute=1000)
    async with (
        served(tmp_path) as limited,
        openai.AsyncOpenAI(base_url=limited.url + "/v1", api_key="sk-alice", max_retries=0) as sdk,
    ):
        create = asyncio.ensure_future(sdk.responses.with_raw_response.create(model="holdfast-demo", input="hi"))
        worker.append(await worker.next_response(), FINISHED)
        answer = await create
        assert answer.headers["x-ratelimit-limit-requests"] == "1"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert re.fullmatch(r"(1m)?[0-9]{1,2}s", answer.headers["x-ratelimit-reset-requests"])
        with pytest.raises(openai.RateLimitError) as raised:
            await sdk.responses.create(model="holdfast-demo", input="hi")
        refused = raised.value.response.headers
        assert raised.value.code == "rate_limit_exceeded"
        assert 0 < int(refused["retry-after"]) <= 60
        assert refused["x-ratelimit-remaining-requests"] == "0"
        used = FINISHED.usage.input_tokens + FINISHED.usage.output_tokens
        assert refused["x-ratelimit-remaining-tokens"] == str(1000 - used)  # charged for what it came to
        models = await sdk.models.with_raw_response.list()
        assert models.headers["x-ratelimit-remaining-requests"] == "0"  # reading is not limited
    assert len(worker.logs) == 1


async def test_streams_are_counted_while_they_last_whoever_reads(worker: StandIn, tmp_path: Path) -> None:
    alice = make_key(tmp_path, "alice", streams=2)
    async with served(tmp_path) as first, served(tmp_path) as second:
        async with first.create(stream=True, headers=alice) as original:
            response_id = await worker.next_response()
            async with second.read(response_id, headers=alice, params={"stream": "true"}) as reader:
                await read_until(reader, b"response.in_progress")
                for refused in (
                    first.create(headers=alice),
                    first.read(response_id, headers=alice, params={"stream": "true"}),
                ):
                    async with refused as answer:
                        assert answer.status == 429
                        assert answer.headers["Retry-After"] == "1"
                async with first.read(response_id, headers=alice) as answer:
                    assert answer.status == 200  # as it is now: not a stream
                worker.append(response_id, FINISHED)
                assert (await original.read()).endswith(DONE)
                assert (await reader.read()).endswith(DONE)
        async with second.create(stream=True, headers=alice) as one, first.create(stream=True, headers=alice) as two:
            assert (one.status, two.status) == (200, 200)


async def test_a_response_whose_client_left_is_charged_for_all_the_same(worker: StandIn, tmp_path: Path) -> None:
    alice = make_key(tmp_path, "alice", tokens_per_minute=1000)

    async def remaining(frontend: Frontend) -> str:
        async with frontend.client.get(frontend.url + "/v1/models", headers=alice) as answer:
            return answer.headers["x-ratelimit-remaining-tokens"]

    async with served(tmp_path) as frontend:
        async with frontend.create(stream=True, headers=alice) as stream:
            response_id = await worker.next_response()
            await read_until(stream, b"response.in_progress")
        worker.append(response_id, text("Hello"), FINISHED)
        await worker.until(lambda: worker.logs[response_id].closed)
        assert await remaining(frontend) == "988"
        async with frontend.read(response_id, headers=alice, params={"stream": "true"}) as replay:
            assert (await replay.read()).endswith(DONE)
        assert await remaining(frontend) == "988"


# ---- processes -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def four_frontends(tmp_path: Path) -> AsyncIterator[tuple[str, Deployment, StandIn]]:
    """A deployment of four frontends on one port, each known to the worker."""
    worker = StandIn(tmp_path)
    port = str(free_port())
    deployment = Deployment(tmp_path)
    try:
        for _ in range(4):
            deployment.start(sys.executable, "-m", "frontend", port=port)
        async with asyncio.timeout(DEADLINE_S):
            while len(worker.peers) < 4:
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}", deployment, worker
    finally:
        worker.close()
        await asyncio.to_thread(deployment.__exit__, None, None, None)


async def create_and_leave(url: str, headers: dict[str, str]) -> int:
    """Create a response by a connection of its own, and hang up when it has begun."""
    async with aiohttp.ClientSession() as client, client.post(url, json=CREATE, headers=headers) as stream:
        return stream.status


@pytest.mark.slow
async def test_four_frontends_that_are_hammered_let_in_what_the_limit_allows(tmp_path: Path) -> None:
    limit = 100
    alice = make_key(tmp_path, "alice", requests_per_minute=limit)
    async with four_frontends(tmp_path) as (url, _, worker):
        statuses: list[int] = []
        until = time.monotonic() + 50  # a second minute would let in more

        async def hammer() -> None:
            while len(statuses) < 4 * limit and time.monotonic() < until:
                statuses.append(await create_and_leave(url + "/v1/responses", alice))

        await asyncio.gather(*(hammer() for _ in range(16)))
        admitted = statuses.count(200)
        assert set(statuses) == {200, 429}
        assert 0.95 * limit <= admitted <= limit
        creates = [peer for peer, command in worker.heard if isinstance(command, Open)]
        assert len(creates) == admitted
        assert len(set(creates)) == 4


@pytest.mark.slow
async def test_streams_of_a_killed_frontend_are_free_again(tmp_path: Path) -> None:
    alice = make_key(tmp_path, "alice", streams=8)
    async with four_frontends(tmp_path) as (url, deployment, worker), AsyncExitStack() as stack:

        async def hold_a_stream() -> int:
            client = await stack.enter_async_context(aiohttp.ClientSession())
            create = client.post(url + "/v1/responses", json=CREATE, headers=alice)
            return (await stack.enter_async_context(create)).status

        assert [await hold_a_stream() for _ in range(8)] == [200] * 8
        assert await create_and_leave(url + "/v1/responses", alice) == 429
        for arbiter in deployment.processes:
            [victim] = arbiter.descendants("")
            await asyncio.to_thread(kill, victim)
        async with asyncio.timeout(DEADLINE_S):
            while len(set(worker.peers)) < 8:  # each has a successor
                await asyncio.sleep(0.05)
        assert [await hold_a_stream() for _ in range(8)] == [200] * 8
        assert await create_and_leave(url + "/v1/responses", alice) == 429


def kill(victim: psutil.Process) -> None:
    """SIGKILL, and wait until it is gone."""
    victim.kill()
    wait_until(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE, DEADLINE_S, "gone")
