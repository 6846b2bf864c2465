"""Three hosts with their own networks: two frontends, two workers, one PostgreSQL. Links are cut while streams run.

Whatever is cut, once it is healed every client has its whole answer on the connection it had from the beginning, in the
bytes that everybody else reads then.
"""

import asyncio
import itertools
import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.deployment import Deployment, Process, wait_until
from protocol.curve import public_of
from protocol.curve_files import read_secret
from protocol.curve_keys import main as curve_keys
from tests.postgres import Postgres
from tests.system import namespaces, sse
from tests.system.namespaces import Host, Switch
from tests.system.streams import Reader, words
from tests.system.workers import is_in_service

pytestmark = pytest.mark.slow

STREAMS = 12
STEPS = 110
INTERVAL_S = 0.12
"""Some thirteen seconds an answer: longer than both cuts on a machine that is not busy."""
DEADLINE_S = 240.0
URL = "http://127.0.0.1:8000"
"""Of the frontend on whichever host asks."""
PORT = 5600


class Hosts:
    """a: a frontend. b: a frontend, a worker. c: a worker, PostgreSQL."""

    def __init__(self, deployment: Deployment, switch: Switch, postgres: Postgres) -> None:
        self._deployment = deployment
        self.a, self.b, self.c = (switch.host(name) for name in "abc")
        with self.c:
            postgres.start()
        postgres.command("CREATE DATABASE many_hosts")
        self._store = f"postgresql://holdfast@{self.c.address}/many_hosts"
        self.workers = [self._worker(self.b), self._worker(self.c)]
        self.frontends = [self._frontend(self.a), self._frontend(self.b)]
        for worker in self.workers:
            wait_until(partial(is_in_service, worker, 2), DEADLINE_S, "both frontends know both workers")

    def _own(self, host: Host) -> dict[str, str]:
        directory = self._deployment.directory / host.name
        return {
            "run_dir": f"{directory}/run",
            "data_dir": f"{directory}/data",
            "journal_volatile_dir": f"{directory}/v",
        }

    def _worker(self, host: Host) -> Process:
        with host:
            listen = f"tcp://{host.address}:{PORT}"
            return self._deployment.worker("--engine", "scripted", listen=listen, **self._own(host))

    def _frontend(self, host: Host) -> Process:
        workers = f"{self.b.address}:{PORT} {self.c.address}:{PORT}"
        with host:
            frontend, _ = self._deployment.frontend(
                8000, workers=workers, store=self._store, worker_wait_s=str(DEADLINE_S), **self._own(host)
            )
        return frontend


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if problem := namespaces.why_not():
        pytest.skip(f"no hosts on this machine: {problem}")
    switch, postgres = Switch(), Postgres(network="10.77.0.0/24")
    try:
        with tempfile.TemporaryDirectory(prefix="holdfast-") as path:
            make_keys(Path(path, "curve"))
            with Deployment(Path(path), curve_dir=f"{path}/curve") as deployment:
                try:
                    yield Hosts(deployment, switch, postgres)
                except BaseException:
                    print(deployment.logs())  # noqa: T201
                    raise
    finally:
        postgres.remove()
        switch.close()


def make_keys(directory: Path) -> None:
    curve_keys(["--curve-dir", str(directory), "worker"])
    curve_keys(["--curve-dir", str(directory), "frontend"])
    public = public_of(read_secret(directory / "frontend.key")).hex()
    curve_keys(["--curve-dir", str(directory), "authorize", "frontends", public])


def client_on(host: Host) -> aiohttp.ClientSession:
    def connect(address: tuple[Any, ...]) -> socket.socket:
        with host:
            return socket.socket(*address[:3])

    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, socket_factory=connect))


def logged(process: Process, text: str, times: int) -> bool:
    return process.output.read_text().count(text) >= times


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.05)


async def ready(client: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with client.get(f"{URL}/health/ready") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.1)


async def test_links_are_cut_and_healed_while_streams_run_and_nothing_is_lost(hosts: Hosts) -> None:
    on_a, on_b = hosts.frontends
    async with asyncio.timeout(DEADLINE_S), client_on(hosts.a) as at_a, client_on(hosts.b) as at_b:
        await ready(at_a)
        await ready(at_b)
        async with asyncio.TaskGroup() as streams:
            readers, observers = [Reader() for _ in range(STREAMS)], [Reader() for _ in range(STREAMS)]
            for number, reader in enumerate(readers):
                streams.create_task(create(reader, at_a if number % 2 else at_b, number))
            for reader, observer, client in zip(readers, observers, itertools.cycle([at_a, at_b]), strict=False):
                await reader.begun.wait()
                streams.create_task(observer.get(client, URL, reader.response_id))
            for reader in [*readers, *observers]:
                await reader.half_way.wait()

            hosts.c.cut()  # a worker, and the store
            await until(lambda: logged(on_a, " is lost", 1) and logged(on_b, " is lost", 1))
            hosts.c.heal()
            await until(lambda: logged(on_a, "5600 is ready", 3) and logged(on_b, "5600 is ready", 3))

            hosts.a.cut()  # a frontend, from all of them
            await until(lambda: logged(on_a, " is lost", 3) and logged(hosts.workers[0], " is lost", 1))
            hosts.a.heal()
        told = [reader.response_id for reader in readers]
        for number, (response_id, reader, observer) in enumerate(zip(told, readers, observers, strict=True)):
            for client in (at_a, at_b):
                replay = await replayed(client, response_id)
                assert reader.without_comments == observer.without_comments == replay
            assert len(words(reader.without_comments)) == pytest.approx(STEPS + number, abs=STEPS // 4)


async def replayed(client: aiohttp.ClientSession, response_id: str) -> list[bytes]:
    """The whole stream of a response, once the store, whose connections were cut too, answers."""
    while True:
        async with client.get(f"{URL}/v1/responses/{response_id}", params={"stream": "true"}) as answer:
            if answer.status == 503:
                await asyncio.sleep(0.2)
                continue
            assert answer.status == 200, await answer.text()
            return sse.without_comments(await sse.read(answer))


async def create(reader: Reader, client: aiohttp.ClientSession, number: int) -> None:
    script = json.dumps({"steps": STEPS + number, "interval_s": INTERVAL_S})
    await reader.create(client, URL, number, metadata={"script": script}, store=number % 4 > 1)
