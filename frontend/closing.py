"""How an owner ends a response that is stored: store it, then let its log be closed. Decisions only, no I/O.

Theory of operation
    A closing is one more reader of the response. It copies the log, so that nothing has to be kept while the response
    runs, has copy and outcome stored, and only then says `Close`, so that no reader sees an end that the store does not
    know. It is over when it reads `Closed` in the log.

        COPYING ── the log is whole ──► KEEPING ── Kept: Close ──► CLOSING ── Closed ──► over
                                           │ Unkept: Close(unstored); readers wait no longer, and Stored follows Kept
        any ── Overruled, or another owner in the log, or it is lost, or it was closed before us ──► over

    A log that is closed and `unstored` (its owner died before the store came back) is stored as it is.
"""

import enum

from frontend.messages import (
    Again,
    ClosingEffect,
    ClosingInput,
    End,
    Erase,
    Keep,
    Kept,
    Leave,
    Lost,
    Overruled,
    Refusal,
    Say,
    Unkept,
)
from protocol.codec import decode_record
from protocol.commands import Attach, Close, Release, Stored
from protocol.records import Closed, OwnerGranted, TurnFinished
from protocol.reports import Attached, Batch


class _State(enum.Enum):
    COPYING = enum.auto()
    KEEPING = enum.auto()
    CLOSING = enum.auto()
    OVER = enum.auto()


class Closing:
    """The end of one response, by its owner at `epoch`, as `closed`; `in_log` when the log says `Closed` already."""

    def __init__(self, reader: int, response_id: str, epoch: int, closed: Closed, *, in_log: bool) -> None:
        self.reader = reader
        self.response_id = response_id
        self.epoch = epoch
        self.closed = closed
        self._in_log = in_log
        self._state = _State.COPYING
        self._kept = False
        self._patience_over = False
        self._records: list[bytes] = []
        self._next_offset = 0
        self._end: int | None = None
        """The log's length when we attached; None until then."""

    def __repr__(self) -> str:
        return f"<Closing {self.response_id} {self._state.name} at {self._next_offset} of {self._end}>"

    def handle(self, message: ClosingInput) -> list[ClosingEffect]:
        """Take in what happened; returns what to do, in order."""
        if self._state is _State.OVER:
            return []
        match message:
            case Attached(end=end):
                self._end = end
                return self._on_attached()
            case Batch():
                return self._on_batch(message)
            case Again():
                return self._attach()
            case Kept():
                return self._on_kept(message)
            case Unkept():
                self._patience_over = True
                return [] if self._in_log else [self._close(unstored=True)]
            case Refusal() | Lost() | Overruled():
                return self._over()

    def _on_attached(self) -> list[ClosingEffect]:
        if not self._in_log and (self._kept or self._patience_over):  # the worker may not have heard it
            return [self._close(unstored=not self._kept)]
        return self._copied()

    def _on_batch(self, batch: Batch) -> list[ClosingEffect]:
        if self._end is None:  # it was sent before we are attached where we asked for
            return []
        known = self._next_offset - batch.offset
        if known < 0:
            return self._attach()
        fresh = batch.records[known:]
        self._next_offset += len(fresh)
        if self._state is _State.COPYING:
            # Bytes of their own: a `Raw` would keep the whole message, with other responses in it.
            self._records += map(bytes, fresh)
            return self._copied()
        for raw in fresh:
            match decode_record(raw):
                case Closed(unstored=unstored):
                    self._in_log = True
                    return self._done(unstored=unstored) if self._kept else []
                case OwnerGranted(epoch=epoch) if epoch != self.epoch:
                    return self._over()
        return []

    def _copied(self) -> list[ClosingEffect]:
        """What follows when the copy is whole."""
        if self._state is not _State.COPYING or self._end is None or self._next_offset < self._end:
            return []
        if not self._in_log and self._is_overtaken():
            return self._over()  # the worker offers what is left to be done, to us too if we don't read it any more
        self._state = _State.KEEPING
        records, self._records = tuple(self._records), []
        return [Keep(records)]

    def _is_overtaken(self) -> bool:
        """Whether the copy says, after the end of its turn, that it was closed, or was granted anew last."""
        for raw in reversed(self._records):
            match decode_record(raw):
                case Closed():
                    return True
                case OwnerGranted(epoch=epoch):
                    return epoch != self.epoch
                case TurnFinished():
                    break
                case _:
                    pass
        return False

    def _on_kept(self, kept: Kept) -> list[ClosingEffect]:
        self._kept = True
        erase = [Erase(self.response_id)] if kept.deleted else []  # its worker may not have heard of it
        if self._in_log:
            return [*erase, *self._done(unstored=True)]
        self._state = _State.CLOSING
        self.closed = kept.closed
        return [*erase, self._close(unstored=False)]

    def _done(self, *, unstored: bool) -> list[ClosingEffect]:
        """It is closed and stored: whoever wants to read it later finds it in the store."""
        stored = [Say(self.reader, Stored(self.response_id, self.epoch))] if unstored else []
        return [*stored, Say(self.reader, Release(self.response_id, self.epoch)), *self._over()]

    def _over(self) -> list[ClosingEffect]:
        self._state = _State.OVER
        self._records.clear()
        return [Leave(self.reader), End()]

    def _attach(self) -> list[ClosingEffect]:
        self._end = None
        return [Say(self.reader, Attach(self.reader, self.response_id, self._next_offset, client=False))]

    def _close(self, *, unstored: bool) -> Say:
        closed = self.closed
        return Say(
            self.reader,
            Close(self.response_id, self.epoch, closed.status, closed.at, closed.error, unstored),
        )
