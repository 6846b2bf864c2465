"""One session with what it acts on: the client's connection, the keepalive timer, and the way to its worker.

The decisions are in `session.py`. Per batch of records this costs one call and one write: no task, timer or queue.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiohttp.abc import AbstractStreamWriter

from frontend.api.errors import ApiError, from_detail
from frontend.config import Settings
from frontend.hosts import Hosts
from frontend.messages import (
    Begin,
    Charge,
    ClientGone,
    Drained,
    End,
    HostsInput,
    Leave,
    Lost,
    Overflow,
    Refuse,
    Say,
    SessionEffect,
    SessionInput,
    Started,
    Verdict,
    Write,
)
from frontend.metrics.pacing import Pace
from frontend.session import Session
from protocol.records import ErrorDetail
from protocol.reports import Batch

logger = logging.getLogger(__name__)

_OUR_FAULT: Final = ErrorDetail("server_error", "internal_error", "The server failed while handling this response.")
_FAILED: Final = "response %s: the session failed"
_TIMER_SLACK_S: Final = 0.001
"""A timer may fire this much early."""


Chunk = tuple[asyncio.Transport, bytes]
"""Bytes to be written as they are, and where."""


class Outlet:
    """A client's connection, written to without awaiting; it is in the middle of an HTTP answer's body."""

    __slots__ = ("_bytes_max", "_chunked", "transport")

    def __init__(self, transport: asyncio.Transport, *, chunked: bool, bytes_max: int) -> None:
        self.transport = transport
        self._chunked = chunked
        self._bytes_max = bytes_max
        transport.set_write_buffer_limits(high=bytes_max)  # so that `drain` waits from there on, and to a quarter of it

    def write(self, data: bytes) -> bool:
        """Send the bytes in one piece; returns whether the client is too slow for more.

        What a client that is gone would have got is dropped.
        """
        transport = self.transport
        if not transport.is_closing():
            transport.write(self.framed(data))
        return transport.get_write_buffer_size() > self._bytes_max

    def framed(self, data: bytes) -> bytes:
        """The same as part of the answer's body (RFC 9112, section 7.1)."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data

    @property
    def is_free(self) -> bool:
        """Whether a write would be sent, and the client has taken what was written before, or nearly."""
        return not self.transport.is_closing() and self.transport.get_write_buffer_size() <= self._bytes_max


class Reading:
    """A session at work. `tell` passes a message on to `hosts`, which is asked questions only; `drive`
    does for the response what its session, which owns it, has decided."""

    __slots__ = (
        "_begun",
        "_drive",
        "_ended",
        "_full",
        "_hosts",
        "_loop",
        "_outlet",
        "_settings",
        "_tell",
        "_timer",
        "_unsent",
        "_waiter",
        "_written_at",
        "pace",
        "refusal",
        "session",
    )

    def __init__(
        self,
        session: Session,
        hosts: Hosts,
        tell: Callable[[HostsInput], None],
        drive: Callable[[Session, Verdict | Started | Charge], None],
        settings: Settings,
    ) -> None:
        self.session = session
        self.pace: Pace | None = None
        """Follows the output, where that is measured."""
        self.refusal: ApiError | None = None
        self._hosts = hosts
        self._tell = tell
        self._drive = drive
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        """What the client's request waits for; not an `asyncio.Event`, which is 600 bytes while nobody waits."""
        self._begun = False
        self._ended = False
        self._full = False
        self._unsent: list[bytes] = []
        """What was written between the beginning and the opening of the outlet."""
        self._outlet: Outlet | None = None
        self._written_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Reading {self.session!r}{' ended' if self._ended else ''}{' full' if self._full else ''}>"

    # ---- for the links -----------------------------------------------------------------------------------------------

    def deliver(self, message: SessionInput) -> None:
        """Let the session take this in, and carry out what it asks for.

        A session that raises ends as if its log were lost, with an error that says it is our fault.
        """
        self._handle(message, self._loop.time())

    def more(self, batch: Batch, now: float) -> Chunk | None:
        """The short way of `deliver` for one more delta (`Session.more`): what is to be written next, and where.

        None where there is more to it, and the batch is to be delivered. `now` is by the loop's clock. Raises whatever
        the session does, and then `fail` is to be called.
        """
        outlet = self._outlet
        if outlet is None or not outlet.is_free:
            return None
        data = self.session.more(batch, now)
        if data is None:
            return None
        self._written_at = now
        if self.pace is not None:
            self.pace.more(now)
        return outlet.transport, outlet.framed(data)

    def fail(self, error: Exception) -> None:
        """The session has raised this: it ends, as in `deliver`."""
        logger.error(_FAILED, self.session.response_id, exc_info=error)
        self.deliver(Lost(_OUR_FAULT))

    def _handle(self, message: SessionInput, now: float) -> None:
        sequence = self.session.projection.next_sequence
        for attempt in (message, Lost(_OUR_FAULT)):
            try:
                effects = self.session.handle(attempt, now)
                break
            except Exception:
                logger.exception(_FAILED, self.session.response_id)
        else:
            effects = [Refuse(from_detail(_OUR_FAULT)), Leave(self.session.reader), End()]
        for effect in effects:
            self._carry_out(effect, now)
        if self.pace is not None and self.session.projection.next_sequence != sequence:
            self.pace.heard(self.session.projection, now)

    # ---- for the endpoints -------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Wait until the answer is certain to be a success. Raises `ApiError` when it is not."""
        while not self._begun:
            await self._change()
        if self.refusal is not None:
            raise self.refusal

    async def finish(self) -> None:
        """Wait until the session has ended. Raises `ApiError` where there is no response to answer with."""
        while not self._ended:
            await self._change()
        if self.refusal is not None:
            raise self.refusal

    async def stream(self, outlet: Outlet, writer: AbstractStreamWriter) -> None:
        """Write all there is and will be to the outlet; `writer` is its HTTP answer, for waiting on a slow client."""
        self._outlet = outlet
        self._written_at = self._loop.time()
        if self._unsent:  # an empty chunk would end the answer
            self._write(b"".join(self._unsent), self._written_at)
            self._unsent.clear()
        if self._settings.keepalive_interval_s:
            self._timer = self._loop.call_later(self._settings.keepalive_interval_s, self._on_timer)
        while not self._ended:
            if self._full:
                await writer.drain()
                self._full = False
                self.deliver(Drained())
            else:
                await self._change()

    def leave(self) -> None:
        """The client's request is over, one way or another; called once, at its end."""
        if self._timer is not None:
            self._timer.cancel()
        self._outlet = None
        if not self._ended:
            alone = self._hosts.is_alone(self.session.reader, self.session.response_id)
            self.deliver(ClientGone(others=not alone))

    def _change(self) -> asyncio.Future[None]:
        """The next change of what a request waits for; only one request, in one task, waits on a reading."""
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- effects -----------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: SessionEffect, now: float) -> None:
        match effect:
            case Write():
                self._write(effect.data, now)
            case Say() | Leave():
                self._tell(effect)
            case Begin():
                self._begun = True
                self._wake()
            case Verdict() | Started() | Charge():
                self._drive(self.session, effect)
            case Refuse():
                self.refusal = effect.error
                self._begun = True
                self._wake()
            case End():
                self._ended = True
                self._wake()

    def _write(self, data: bytes, now: float) -> None:
        self._written_at = now
        if self._outlet is None:
            self._unsent.append(data)
            full = sum(map(len, self._unsent)) > self._settings.stream_buffer_bytes_max
        else:
            full = self._outlet.write(data)
        if full and not self._full:
            self._full = True
            self._wake()
            self.deliver(Overflow())

    def _on_timer(self) -> None:
        """Write a keepalive if nothing was written for an interval, and come back when that may be so again."""
        interval_s = self._settings.keepalive_interval_s
        now = self._loop.time()
        due = self._written_at + interval_s
        if now >= due - _TIMER_SLACK_S:
            self.deliver(self._hosts.silence_of(self.session.reader, now))
            self._written_at = now  # also where the session had nothing to say
            due = now + interval_s
        self._timer = self._loop.call_at(due, self._on_timer)
