"""A session on the bench: what it is told, and what comes of it."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from frontend.messages import (
    Lost,
    Say,
    SessionEffect,
    SessionInput,
    Write,
)
from frontend.session import Session
from frontend.wish import Wish
from protocol.codec import encode_record
from protocol.records import (
    Closed,
    ErrorDetail,
    Opened,
    OwnerGranted,
    Record,
    Step,
    TextDelta,
    TurnFinished,
    TurnStarted,
    Usage,
)
from protocol.reports import Attached, Batch

ID = "resp_" + "0" * 32
REQUEST = b'{"model":"demo","input":"hi"}'
FINISHED = TurnFinished("stop", Usage(2, 0, 3, 0))
CLOSED = Closed("completed", 5)
LOG: list[Record] = [
    Opened(ID, 1, REQUEST),
    OwnerGranted("me", 1),
    TurnStarted(0, 2),
    Step((1,), (TextDelta("one "),)),
    Step((2,)),
    Step((3,), (TextDelta("two "), TextDelta("three"))),
    FINISHED,
    CLOSED,
]
FINISHED_AT = LOG.index(FINISHED)
EVENTS = 11
"""How many events the log makes."""
STREAM = Wish(stream=True)
LOST = Lost(ErrorDetail("server_error", "engine_lost", "gone"))
Kind = TypeVar("Kind", bound=SessionEffect)


class Bench:
    """A session and the log that it reads."""

    def __init__(self, wish: Wish = STREAM, *, client: bool = True, me: str = "me") -> None:
        self.session = Session(7, ID, me, wish, client=client)
        self.now = 10.0
        self.seen: list[SessionEffect] = []

    def do(self, message: SessionInput) -> list[SessionEffect]:
        effects = self.session.handle(message, self.now)
        self.seen += effects
        return effects

    def attach(self, end: int = FINISHED_AT + 1) -> list[SessionEffect]:
        return self.do(Attached(7, end))

    def feed(self, first: int, end: int, log: Sequence[Record] = LOG) -> list[SessionEffect]:
        """Deliver the records first to end - 1."""
        return self.do(Batch(7, first, tuple(msgspec.Raw(encode_record(record)) for record in log[first:end])))

    @property
    def written(self) -> bytes:
        return b"".join(effect.data for effect in self.seen if isinstance(effect, Write))


def only(effects: Sequence[SessionEffect], kind: type[Kind]) -> list[Kind]:
    """The effects of this kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def said(effects: Sequence[SessionEffect]) -> list[object]:
    """The commands to the worker."""
    return [effect.command for effect in only(effects, Say)]


def whole_stream() -> bytes:
    """What a client that reads from the start gets."""
    bench = Bench(me="somebody else")
    bench.attach()
    bench.feed(0, len(LOG))
    return bench.written
