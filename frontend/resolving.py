"""Where the workers of the setting `workers` are now: their names are resolved again and again.

Each address that a name resolves to is a worker of its own, known by its endpoint. So a worker that moved is a new one
at the new address, which is asked for what the old one had, as any other; and a name of many addresses (a headless
service of Kubernetes) is as many workers. Of a name that has addresses of both kinds those of IPv4 are taken: the
others lead to the same processes.

ZeroMQ would resolve names too, but in the thread that carries all messages, which a name server that does not answer
holds up for seconds.
"""

import logging
import socket
import threading
from ipaddress import IPv4Address, ip_address
from typing import Final

from frontend.config import Settings
from protocol.curve_files import FrontendKeys, frontend_keys
from protocol.endpoints import HostPort, parse_workers, tcp_endpoint

logger = logging.getLogger(__name__)

_THREAD: Final = "resolve workers"


def curve_keys(settings: Settings) -> FrontendKeys | None:
    """The keys for these workers; None where there are none to be reached, or without keys. Raises `BadCurveKeys`."""
    return frontend_keys(settings.curve_dir, plain=settings.allow_plain_tcp) if settings.workers else None


class Resolver:
    """Resolves in a thread of its own between `start` and `close`; without names there is none."""

    def __init__(self, settings: Settings) -> None:
        self.endpoints: frozenset[str] = frozenset()
        """What the names resolve to now, or last did."""
        self._names = parse_workers(settings.workers)
        self._interval_s = settings.workers_resolve_s
        self._addresses_max = settings.worker_addresses_max
        self._found: dict[HostPort, list[str]] = {}
        self._failing: set[HostPort] = set()
        self._closed = threading.Event()

    def __repr__(self) -> str:
        return f"<Resolver {len(self._names)} names, {len(self.endpoints)} endpoints>"

    def start(self) -> None:
        if self._names:
            # A daemon, and not waited for at the end: nobody can interrupt a question to a name server.
            threading.Thread(target=self._run, name=_THREAD, daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self.resolve()
            self._closed.wait(self._interval_s)

    def resolve(self) -> None:
        """Resolve all names now, one after the other."""
        for name in self._names:
            self._resolve(name)
            found = dict.fromkeys(endpoint for name in self._names for endpoint in self._found.get(name, ()))
            endpoints = frozenset(list(found)[: self._addresses_max])
            if len(found) > len(endpoints) and endpoints != self.endpoints:
                logger.warning("the workers' names have %d addresses; --worker-addresses-max is fewer", len(found))
            self.endpoints = endpoints

    def _resolve(self, name: HostPort) -> None:
        try:
            found = socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            if name not in self._failing:
                logger.warning("the worker's name %s can't be resolved: %s", name.host, error)
            self._failing.add(name)
            return
        self._failing.discard(name)
        addresses = sorted({ip_address(address[0]) for *_, address in found}, key=str)
        first_kind = [address for address in addresses if isinstance(address, IPv4Address)] or addresses
        self._found[name] = [tcp_endpoint(str(address), name.port) for address in first_kind]
