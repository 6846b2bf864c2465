"""The live work on one response for one reader: records in, bytes out. No sockets, no clock, no HTTP.

Theory of operation
    A session folds the log of its response from offset 0 through a `Projection` and writes the events past its client's
    cursor. Batches are taken only while they flow:

        ATTACHING ── Attached ──► FLOWING ── a gap, or Again ──► ATTACHING
                                     │ Overflow                      ▲
                                     ▼                               │
                                   PAUSED ──────── Drained ──────────┘
        any ── Closed was folded, or the log is lost, or nobody needs the session ──► ENDED

    What arrives otherwise is dropped; attaching again by offset brings it back, so nothing is lost or said twice.

    The answer begins (200, headers) once it is certain: with the first event past the cursor, or, where there is none
    yet, when all that the log held has been read. Before that, a refusal is still an HTTP error.

    A session that reads in the log that this frontend is the owner drives the response (`owning.py`): it closes it when
    the turn has finished. Several sessions of the owner may do so; a second `Close` is ignored. When its client goes,
    the last one stays as a reader without a client until `Closed`.

    While the answer is under way most batches are one more delta, and there is nothing to decide: `more` is for these.
"""

import enum
import sys
from typing import Final

from frontend import sse
from frontend.api.errors import from_detail, idempotency_mismatch, invalid, response_not_found, unavailable
from frontend.messages import (
    Again,
    Begin,
    ClientGone,
    Drained,
    End,
    Leave,
    Lost,
    Overflow,
    Refusal,
    Refuse,
    Say,
    SessionEffect,
    SessionInput,
    Silence,
    Stopping,
    Write,
)
from frontend.owning import Owning
from frontend.projection import Projection
from frontend.silence import going_on
from frontend.wish import Wish
from protocol.codec import decode_record
from protocol.commands import Attach, Pause
from protocol.records import (
    CancelRequested,
    Closed,
    DeleteRequested,
    Opened,
    OwnerGranted,
    Progress,
    Record,
    Step,
    TurnFinished,
    TurnStarted,
)
from protocol.reports import Attached, Batch

_NOWHERE: Final = sys.maxsize
"""A cursor past every event, and a log's end before it is known."""


class _Flow(enum.Enum):
    ATTACHING = enum.auto()
    FLOWING = enum.auto()
    PAUSED = enum.auto()
    ENDED = enum.auto()


class Session:
    """One reader of one response. `now` is in seconds by a monotonic clock."""

    __slots__ = (
        "_begun",
        "_client",
        "_doing",
        "_end",
        "_first_end",
        "_flow",
        "_heard_at",
        "_is_stranger",
        "_joined_another",
        "_next_offset",
        "_only_writes",
        "_owning",
        "_wish",
        "opened",
        "projection",
        "reader",
        "response_id",
    )

    def __init__(self, reader: int, response_id: str, frontend_id: str, wish: Wish, *, client: bool = True) -> None:
        self.reader = reader
        self.response_id = response_id
        self.projection = Projection(wish.after if wish.stream else _NOWHERE)
        self.opened: Opened | None = None
        self._wish = wish
        self._client = client
        self._flow = _Flow.ATTACHING
        self._next_offset = 0
        self._end = _NOWHERE
        """The log's length when we attached."""
        self._first_end = _NOWHERE
        """The same, when we attached first: what is beyond has happened before our eyes."""
        self._begun = False
        self._is_stranger = False
        """Whether the response is another tenant's."""
        self._joined_another = False
        """Whether the log was opened with another request than the one we want to join."""
        self._owning = Owning(response_id, frontend_id)
        self._doing = "starting"
        self._heard_at = 0.0
        self._only_writes = False
        """Whether one more delta leaves nothing to decide."""

    def __repr__(self) -> str:
        return f"<Session {self.reader} of {self.response_id} {self._flow.name} at {self._next_offset}, {self._doing}>"

    @property
    def epoch(self) -> int:
        """The epoch of the owner that the log names last, whoever that is."""
        return self._owning.log_epoch

    def handle(self, message: SessionInput, now: float) -> list[SessionEffect]:
        """Take in what happened; returns what to do, in order."""
        effects = self._decide(message, now)
        self._only_writes = self._is_under_way()
        return effects

    def more(self, batch: Batch, now: float) -> bytes | None:
        """The short way of `handle` for what most batches are, one more delta and nothing to decide: what to write.

        None for any other batch, which is not taken in. Raises as `decode_record` does.
        """
        if not self._only_writes or batch.offset != self._next_offset or len(batch.records) != 1:
            return None
        record = decode_record(batch.records[0])
        frame = self.projection.delta_frame(record) if type(record) is Step else None
        if frame is not None:
            self._next_offset += 1
            self._heard_at = now
        return frame

    def _decide(self, message: SessionInput, now: float) -> list[SessionEffect]:
        if self._flow is _Flow.ENDED:
            return []
        match message:
            case Batch():
                return self._on_batch(message, now)
            case Attached() | Again() | Refusal() | Lost():
                return self._on_host(message)
            case Overflow() | Drained() | ClientGone() | Silence() | Stopping():
                return self._on_client(message, now)

    # ---- what comes from the worker ----------------------------------------------------------------------------------

    def _on_host(self, message: Attached | Again | Refusal | Lost) -> list[SessionEffect]:
        match message:
            case Attached():
                return self._on_attached(message)
            case Again():
                return self._on_again()
            case Refusal():
                return [Refuse(message.error), *self._leave()]
            case Lost():
                return self._on_lost(message)

    def _on_batch(self, batch: Batch, now: float) -> list[SessionEffect]:
        if self._flow is not _Flow.FLOWING:
            return []
        known = self._next_offset - batch.offset
        if known < 0:
            return self._attach()
        fresh = batch.records[known:] if known else batch.records
        data = b"".join([self._fold(decode_record(raw)) for raw in fresh])
        self._next_offset += len(fresh)
        self._heard_at = now
        return self._settle(data)

    def _is_under_way(self) -> bool:
        """Whether more output is only to be written."""
        projection = self.projection
        return (
            self._flow is _Flow.FLOWING
            and self._begun
            and self._doing == "generating"
            and projection.turn_finished is None
            and projection.closed is None
            and self._wish.to_the_end
            and self._wish.stream
            and not self._wish.event_ids
            and not projection.background
        )

    def _on_attached(self, message: Attached) -> list[SessionEffect]:
        self._end = message.end
        self._first_end = min(self._first_end, message.end)
        self._owning.attached()
        if self._flow is _Flow.ATTACHING:
            self._flow = _Flow.FLOWING
        return self._settle(b"")

    def _on_again(self) -> list[SessionEffect]:
        if self._flow is _Flow.PAUSED:  # the worker must know that there is a client, but the client can't take more
            return [*self._attach(), *self._pause()]
        return self._attach()

    def _on_lost(self, message: Lost) -> list[SessionEffect]:
        if not self._begun:
            return [Refuse(from_detail(message.error)), *self._leave()]
        outcome = Closed("failed", 0, message.error)  # the time of a failure is shown nowhere
        return self._settle(self._fold(outcome))

    # ---- what comes from the client ----------------------------------------------------------------------------------

    def _on_client(
        self, message: Overflow | Drained | ClientGone | Silence | Stopping, now: float
    ) -> list[SessionEffect]:
        match message:
            case Overflow():
                return self._pause()
            case Drained():
                return self._attach() if self._flow is _Flow.PAUSED else []
            case ClientGone():
                return self._on_client_gone(message)
            case Silence():
                return self._on_silence(message, now)
            case Stopping():
                return self._on_stopping()

    def _on_client_gone(self, message: ClientGone) -> list[SessionEffect]:
        if self._owning.epoch is None or message.others:
            return self._leave()
        self._client, self._wish = False, Wish()
        return self._attach()

    def _on_silence(self, message: Silence, now: float) -> list[SessionEffect]:
        if not self._wish.stream or not self._begun or self._flow is _Flow.PAUSED:
            return []
        words = going_on(message, self._doing, now - self._heard_at)
        return [Write(sse.PING if self._wish.pings else sse.comment(words))]

    def _on_stopping(self) -> list[SessionEffect]:
        self._flow = _Flow.ENDED
        if self._wish.stream and self._begun:
            last = self.projection.next_sequence - 1
            return [Write(sse.comment(f"this frontend is stopping, resume with starting_after={last}")), End()]
        return [Refuse(unavailable("This frontend is stopping; the response goes on.")), End()]

    # ---- folding -----------------------------------------------------------------------------------------------------

    def _fold(self, record: Record) -> bytes:
        """Fold one record; returns its events past the cursor as bytes."""
        match record:
            case Step():
                self._doing = "generating"
            case Opened():
                self._on_opened(record)
            case OwnerGranted():
                self._owning.granted(record)
            case TurnStarted():
                self._owning.turn = record.turn
                self._doing = "queued"
            case TurnFinished():
                self._doing = "finishing"
            case CancelRequested() | DeleteRequested():
                self._doing = "cancelling"
            case Progress() | Closed():
                pass
        events = self.projection.apply(record)
        if not self._wish.stream:
            return b""
        return sse.frames(events, self.projection.next_sequence if self._wish.event_ids else None)

    def _on_opened(self, record: Opened) -> None:
        self._is_stranger = self._wish.tenant not in (None, record.tenant)
        self._joined_another = self._wish.asked not in (None, record.asked)
        if self._wish.keeps_opened:
            self.opened = record
        self._owning.key = record.key

    def _settle(self, data: bytes) -> list[SessionEffect]:
        """What follows from what was folded: a verdict, the beginning, more to write (`data`), the end."""
        if self._is_stranger:
            return [Refuse(response_not_found(self.response_id)), *self._leave()]
        if self._joined_another:
            return [Refuse(idempotency_mismatch()), *self._leave()]
        effects = self._drive()
        if not self._begun:
            beginning = self._beginning()
            if not self._begun:
                return effects + beginning
            effects += beginning
        if self.projection.closed is not None:
            done: list[SessionEffect] = [Write(data + sse.DONE)] if self._wish.stream else []
            return effects + done + self._leave()
        if data:
            effects.append(Write(data))
        if not self._wish.to_the_end and self._has_caught_up():
            return effects + self._leave()
        return effects

    def _drive(self) -> list[SessionEffect]:
        """What the owner does for the response, if this is its session."""
        projection, owning = self.projection, self._owning
        effects: list[SessionEffect] = [*owning.start(projection, generating=self._doing == "generating")]
        if self._has_caught_up():  # Else it may be closed already.
            effects += owning.verdict(projection, client=self._client)
        return [*effects, *owning.charge(projection, before_our_eyes=self._next_offset > self._first_end)]

    def _beginning(self) -> list[SessionEffect]:
        """Begin if the answer is certain to be a success, refuse if it is certain not to be."""
        last = self.projection.next_sequence - 1
        if last > self._wish.after or (last == self._wish.after and self._has_caught_up()):
            self._begun = True
            return [Begin()]
        if not self._has_caught_up():
            return []
        message = f"starting_after is {self._wish.after}, but the last event of this response so far is {last}."
        return [Refuse(invalid("starting_after", message)), *self._leave()]

    def _has_caught_up(self) -> bool:
        return self._next_offset >= self._end

    # ---- flow --------------------------------------------------------------------------------------------------------

    def _attach(self) -> list[SessionEffect]:
        self._flow = _Flow.ATTACHING
        return [Say(self.reader, Attach(self.reader, self.response_id, self._next_offset, self._client))]

    def _pause(self) -> list[SessionEffect]:
        self._flow = _Flow.PAUSED
        return [Say(self.reader, Pause(self.reader))]

    def _leave(self) -> list[SessionEffect]:
        self._flow = _Flow.ENDED
        return [Leave(self.reader), End()]
