"""Many streaming clients in one light process: bare connections, and nothing parsed but the time that a delta says.

They share the machine with what they measure: an event costs them a system call and a search in its bytes.
"""

import asyncio
import json
import re
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Final, cast
from urllib.parse import urlsplit

from protocol.open_files import allow_open_files

_STAMP: Final = re.compile(rb'"delta":"@(\d+)')
"""What the scripted engine's stamped texts begin with: microseconds of the host's monotonic clock."""
_END: Final = b"\r\n0\r\n\r\n"
"""The end of the last chunk but one, and the last."""
_CONNECT_AT_ONCE: Final = 64
"""Connections that are being made at a time; a listener's backlog is bounded."""

SHARES: Final = {"p50": 0.5, "p99": 0.99, "max": 1.0}
"""The percentiles that are told of delays."""

Take = Callable[["Client", bytes, float], None]
"""Told of what arrives at a client, and when (monotonic, in seconds)."""


def create(**script: object) -> bytes:
    """A request that has the scripted engine play this script as a stream, which is not stored."""
    body = {"model": "scripted", "input": "x", "stream": True, "store": False}
    content = json.dumps(body | {"metadata": {"script": json.dumps(script)}}).encode()
    head = "POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def resume(response_id: str, after: int) -> bytes:
    """A request for the rest of a stream."""
    return f"GET /v1/responses/{response_id}?stream=true&starting_after={after} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files; raises `ValueError` where the system forbids so many."""
    wanted = count + 256
    if (allowed := allow_open_files(wanted)) < wanted:
        raise ValueError(f"{count} connections take {wanted} open files, and a process may have {allowed} (ulimit -Hn)")


class Client(asyncio.Protocol):
    """A connection that asks for one answer after another."""

    __slots__ = ("_tail", "_take", "begun", "ended", "status", "transport")

    def __init__(self, take: Take) -> None:
        self._take = take
        self._tail = b""
        self.transport: asyncio.Transport
        self.status = 0
        self.begun = asyncio.Event()
        """Set when an answer has begun, or the connection is lost (`status` is 0 then)."""
        self.ended = asyncio.Event()
        """Set when the answer is over, or the connection is lost."""

    def ask(self, request: bytes) -> None:
        """Send a request; the answer before it must be over."""
        self.status, self._tail = 0, b""
        self.begun.clear()
        self.ended.clear()
        self.transport.write(request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's says so of no class

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if not self.status:
            self.status = int(data[9:12])
            self.begun.set()
        self._take(self, data, now)
        self._tail = data[-len(_END) :] if len(data) >= len(_END) else (self._tail + data)[-len(_END) :]
        if self._tail == _END:
            self.ended.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.begun.set()
        self.ended.set()


async def connect(urls: Sequence[str], count: int, take: Take, receive_bytes: int = 0) -> list[Client]:
    """So many clients, over these servers in turn; with `receive_bytes` the kernel takes in no more than that ahead."""
    slots = asyncio.Semaphore(_CONNECT_AT_ONCE)

    async def one(number: int) -> Client:
        split = urlsplit(urls[number % len(urls)])
        sock = socket.socket()
        sock.setblocking(False)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        loop = asyncio.get_running_loop()
        async with slots:
            await loop.sock_connect(sock, (split.hostname, split.port))
        return (await loop.create_connection(lambda: Client(take), sock=sock))[1]

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def open_all(clients: Sequence[Client], request: bytes, at_once: int = 64) -> None:
    """Have each client's stream begin, so many at a time; raises `RuntimeError` when one is refused."""
    slots = asyncio.Semaphore(at_once)

    async def one(client: Client) -> None:
        async with slots:
            client.ask(request)
            await client.begun.wait()
        if client.status != 200:
            raise RuntimeError(f"a stream was answered {client.status}")

    await asyncio.gather(*(one(client) for client in clients))


class Delays:
    """Takes what clients get: counts stamped events, and how old they are at the socket."""

    def __init__(self) -> None:
        self.events: dict[Client, int] = {}
        self.delays_us = array("q")

    def reset(self) -> None:
        """Begin to count anew."""
        self.events = dict.fromkeys(self.events, 0)
        self.delays_us = array("q")

    def take(self, client: Client, data: bytes, now: float) -> None:
        """Count."""
        stamps = _STAMP.findall(data)
        self.events[client] = self.events.get(client, 0) + len(stamps)
        if stamps:
            now_us = int(now * 1e6)
            self.delays_us.extend([now_us - int(stamp) for stamp in stamps])


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
