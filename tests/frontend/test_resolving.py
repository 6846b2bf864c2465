"""The workers' names, resolved again and again."""

import socket
from typing import Any

import pytest

from benchmarks.deployment import wait_until
from frontend.config import Settings
from frontend.resolving import Resolver
from tests.pace import DEADLINE_S


class NameServer:
    """Stands in for the system's resolver."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}

    def getaddrinfo(self, host: str, port: int, **_: Any) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(0, 0, 0, "", (address, port)) for address in self.addresses[host]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server.getaddrinfo)
    return server


def test_each_address_of_a_name_is_a_worker(names: NameServer) -> None:
    names.addresses = {"workers.ns": ["10.0.0.2", "10.0.0.1", "fd00::1"], "six": ["fd00::2"], "10.0.0.1": ["10.0.0.1"]}
    resolver = Resolver(Settings(workers="workers.ns:5600 six:5600 10.0.0.1:5600"))
    resolver.resolve()
    assert resolver.endpoints == {"tcp://10.0.0.1:5600", "tcp://10.0.0.2:5600", "tcp://[fd00::2]:5600"}


def test_a_name_that_moves_is_followed_and_one_that_cant_be_resolved_stays(
    names: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    names.addresses = {"a": ["10.0.0.1"], "b": ["10.0.0.2"]}
    resolver = Resolver(Settings(workers="a:1 b:2"))
    resolver.resolve()
    names.addresses = {"a": ["10.0.0.9"]}
    resolver.resolve()
    resolver.resolve()
    assert resolver.endpoints == {"tcp://10.0.0.9:1", "tcp://10.0.0.2:2"}
    assert caplog.text.count("the worker's name b can't be resolved") == 1


def test_there_is_a_bound_on_addresses(names: NameServer, caplog: pytest.LogCaptureFixture) -> None:
    names.addresses = {"many": [f"10.0.0.{number}" for number in range(10)]}
    resolver = Resolver(Settings(workers="many:1", worker_addresses_max=3))
    resolver.resolve()
    resolver.resolve()
    assert len(resolver.endpoints) == 3
    assert caplog.text.count("have 10 addresses") == 1


def test_names_are_resolved_in_the_background(names: NameServer) -> None:
    resolver = Resolver(Settings(workers="a:1", workers_resolve_s=0.01))
    resolver.start()
    names.addresses = {"a": ["10.0.0.1"]}
    wait_until(lambda: resolver.endpoints == {"tcp://10.0.0.1:1"}, DEADLINE_S, "found")
    names.addresses = {"a": ["10.0.0.2"]}
    wait_until(lambda: resolver.endpoints == {"tcp://10.0.0.2:1"}, DEADLINE_S, "followed")
    resolver.close()
