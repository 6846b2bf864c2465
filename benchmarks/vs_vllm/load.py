"""The clients: bare connections that find the ends of events and the time, and parse nothing.

They share the machine with what they measure, so a read costs them a search in its bytes and two clock readings.
Both servers get the same bytes from the same code.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

END_DEADLINE_S: Final = 300.0
"""How long a run may take before it is given up."""
SETTLE_S: Final = 0.2
"""What follows a stream's end (closing its log, letting go of the request) is counted in its processor time."""
_TAIL_BYTES: Final = 8192
"""Of the end of an answer; the terminal event has its usage there."""
_DELTA: Final = b".delta"
_DELTA_BYTES: Final = 64
"""Longer than what `_TEXT` finds."""
_TEXT: Final = re.compile(rb'"delta": ?"(?:\\[nr])*(?:[^\\"]|\\[^nr])')
"""A delta that is more than newlines, of which nothing is seen."""
_EVENT_END: Final = b"\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_OUTPUT_TOKENS: Final = re.compile(rb'"output_tokens":\s*(\d+)')


class Answer(msgspec.Struct):
    """What one stream was: events, bytes and output tokens, seconds to its first delta, to the first that is more than
    newlines, and those between events.

    A gap is between two reads that each ended at least one event, from the first delta on: events that arrive in one
    packet reach a client at one time.
    """

    events: int
    wire_bytes: int
    tokens: int
    first_s: float
    text_s: float
    gaps_s: list[float]


class EventScan:
    """Finds the ends of events in the bytes of an HTTP answer, however they are cut into reads."""

    def __init__(self, begun_s: float) -> None:
        self._begun_s = begun_s
        self._first_s: float | None = None
        self._text_s: float | None = None
        self._last_s = begun_s
        self._events = 0
        self._bytes = 0
        self._gaps_s: list[float] = []
        self._head = b""
        self._tail = b""

    def feed(self, data: bytes, now_s: float) -> None:
        """Take what a read brought."""
        ended = data.count(_EVENT_END)
        if data[:1] == b"\n" and self._tail[-1:] == b"\n":
            ended += 1
        if self._text_s is None and _TEXT.search(self._tail[-_DELTA_BYTES:] + data):
            self._text_s = now_s - self._begun_s
        if self._first_s is None:
            if _DELTA in self._tail[-len(_DELTA) :] + data:
                self._first_s = now_s - self._begun_s
            self._head += data
        elif ended:
            self._gaps_s.append(now_s - self._last_s)
        if ended:
            self._last_s = now_s
        self._events += ended
        self._bytes += len(data)
        self._tail = data if len(data) >= _TAIL_BYTES else (self._tail + data)[-_TAIL_BYTES:]

    def answer(self) -> Answer:
        """The whole, once the connection is closed. Raises `ValueError` where it was not a stream with a usage."""
        tokens = _OUTPUT_TOKENS.findall(self._tail)
        if not self._head.startswith(b"HTTP/1.1 200 ") or self._first_s is None or self._text_s is None or not tokens:
            raise ValueError(f"not a whole stream: {self._head[:2000]!r} ... {self._tail[-2000:]!r}")
        events = self._events - self._tail.count(_DONE)
        return Answer(events, self._bytes, int(tokens[-1]), self._first_s, self._text_s, self._gaps_s)


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self._request = request
        self._scan = EventScan(time.perf_counter())
        self.closed: asyncio.Future[EventScan] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._scan.feed(data, time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed.cancelled():
            return
        if exc is not None:
            self.closed.set_exception(exc)
        else:
            self.closed.set_result(self._scan)


def request_bytes(body: dict[str, Any]) -> bytes:
    """A create over a connection of its own, as bytes."""
    content = json.dumps(body).encode()
    head = "POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def play(port: int, bodies: Sequence[dict[str, Any]], streams: int) -> list[Answer]:
    """Send these creates, `streams` at a time, and read each to its end. Raises `ValueError` for a broken one."""
    waiting = iter([request_bytes(body) for body in bodies])
    answers: list[Answer] = []
    async with asyncio.timeout(END_DEADLINE_S), asyncio.TaskGroup() as clients:
        for _ in range(streams):
            clients.create_task(_one_after_another(port, waiting, answers))
    return answers


async def _one_after_another(port: int, waiting: Iterator[bytes], answers: list[Answer]) -> None:
    loop = asyncio.get_running_loop()
    for request in waiting:
        connection = _Connection(request)
        await loop.create_connection(lambda made=connection: made, "127.0.0.1", port)  # type: ignore[misc]
        answers.append((await connection.closed).answer())
