"""Records to events: the pure fold that every stream, answer and replay of a response goes through.

Theory of operation
    A response is its log; what a client sees is this fold of it, from offset 0. Ids, sequence numbers and paddings
    derive from the response id and positions, times from records, so every frontend makes the same bytes from the same
    log. A reader with a cursor folds from offset 0 too, but only events past its cursor are encoded.

    At most one output item is open. What each record does:

    record or delta         when                     events                                              open item then
    ----------------------  -----------------------  --------------------------------------------------  --------------
    Opened                                           response.created; in the background response.queued none
    TurnStarted, Progress                            response.in_progress                                as before
    text, reasoning         an item of that kind     its delta                                           same
                            is open
                            otherwise                CLOSE(completed), output_item.added,                new
                                                     content_part.added, its delta
    reasoning that has      an item of that kind     its delta, CLOSE(completed)                         none
    ended                   is open
    tool call number i      call i is open           function_call_arguments.delta                       same
                            otherwise                CLOSE(completed), output_item.added, its delta      new
    TurnFinished            reason stop              CLOSE(completed)                                    none
                            any other reason         CLOSE(incomplete)                                   none
    Closed                  completed, no output     an empty message: added to done, then ...           none
                            completed                response.completed                                  none
                            incomplete               CLOSE(incomplete), response.incomplete              none
                            cancelled                CLOSE(incomplete), response.incomplete              none
                            failed                   CLOSE(incomplete), error, response.failed           none
    OwnerGranted,                                    no event                                            as before
    CancelRequested, DeleteRequested

    CLOSE(status), of an open item: its text or arguments again as `.done`, content_part.done, output_item.done.
    A delta without text and logprobs is no event of its own. A cancelled response ends in `response.incomplete`,
    because no client knows another terminal event; its `status` says `cancelled`.
"""

from copy import copy
from hashlib import blake2b
from typing import Final

import msgspec

from frontend.api.items import ItemStatus
from frontend.api.output import (
    EventBody,
    FunctionCallItem,
    MessageItem,
    OutputItem,
    ReasoningItem,
    logprob_json,
)
from frontend.api.request import RequestSettings, parse_wire
from frontend.api.response import Json, error_json, new_response, usage_json
from frontend.sse import EVENT_END, Event, event_head
from protocol.records import (
    CancelRequested,
    Closed,
    DeleteRequested,
    Delta,
    Dialect,
    ErrorDetail,
    Opened,
    OwnerGranted,
    Progress,
    ReasoningDelta,
    Record,
    Status,
    Step,
    TextDelta,
    ToolCallDelta,
    TurnFinished,
    TurnStarted,
)

PADDED_BYTES: Final = 32
"""With obfuscation, what varies in a delta is padded to a multiple of this, so that most tokens look alike."""

_TERMINAL_TYPE: Final[dict[Status, str]] = {
    "completed": "response.completed",
    "incomplete": "response.incomplete",
    "cancelled": "response.incomplete",
    "failed": "response.failed",
}
_CLOSING_EVENTS_MAX: Final = 10
"""No record `Closed` brings more events than this."""
_NO_LOGPROBS: Final = b',"logprobs":[]'
_UNEXPLAINED = ErrorDetail("server_error", "server_error", "The response failed.")

_encode = msgspec.json.Encoder().encode


class Projection:
    """The fold of one response's log.

    `after` is the client's cursor: events up to that sequence number are counted but not made. `request` is None until
    `Opened` was folded, `turn_finished` and `closed` are None until those records were.
    """

    __slots__ = (
        "_after",
        "_delta_head",
        "_dialect",
        "_events",
        "_frame_head",
        "_hex",
        "_item",
        "_obfuscate",
        "_output",
        "_response",
        "background",
        "closed",
        "delete_requested",
        "next_sequence",
        "request",
        "response_id",
        "turn_finished",
    )

    def __init__(self, after: int = -1) -> None:
        self.next_sequence = 0
        self.response_id = ""
        self.request: RequestSettings | None = None
        self.turn_finished: TurnFinished | None = None
        self.closed: Closed | None = None
        self.delete_requested = False
        self.background = False
        self._after = after
        self._hex = ""
        self._dialect: Dialect = "openai"
        self._obfuscate = False
        self._response: Json = {}
        self._output: list[Json] = []
        self._item: OutputItem | None = None
        self._delta_head = self._frame_head = b""
        self._events: list[Event] = []

    def __repr__(self) -> str:
        counts = f"next={self.next_sequence} items={len(self._output)}"
        return f"<Projection {self.response_id} {counts} closed={self.closed}>"

    @property
    def is_stored(self) -> bool:
        """Whether it is to be stored at its end: its request allows it, and nobody has deleted it."""
        return self.request is not None and self.request.store is not False and not self.delete_requested

    @property
    def has_output(self) -> bool:
        """Whether an output item has begun."""
        return self._item is not None or bool(self._output)

    def apply(self, record: Record) -> list[Event]:
        """Fold the log's next record; return its events past the cursor."""
        self._events = []
        match record:
            case Step():
                for delta in record.deltas:
                    self._on_delta(delta)
            case Opened():
                self._on_opened(record)
            case TurnStarted() | Progress():
                self._response["status"] = "in_progress"
                self._emit_response("response.in_progress")
            case TurnFinished():
                self.turn_finished = record
                self._close_item("completed" if record.reason == "stop" else "incomplete")
            case Closed():
                self._on_closed(record)
            case DeleteRequested():
                self.delete_requested = True
            case OwnerGranted() | CancelRequested():
                pass
        events, self._events = self._events, []  # not kept until the next: the first ones hold the whole request
        return events

    def delta_frame(self, step: Step) -> bytes | None:
        """The short way of `apply` for what most steps are, one more delta of the open item: its event, framed.

        None where it is anything else, or not past the cursor: then nothing was folded.
        """
        item = self._item
        if item is None or len(step.deltas) != 1 or self.next_sequence <= self._after:
            return None
        delta = step.deltas[0]
        if type(delta) is TextDelta and type(item) is MessageItem and delta.text and not delta.logprobs:
            return self._delta(item, delta.text, _NO_LOGPROBS, self._frame_head, EVENT_END)
        if type(delta) is ReasoningDelta and type(item) is ReasoningItem and delta.text and not delta.ended:
            return self._delta(item, delta.text, b"", self._frame_head, EVENT_END)
        if type(delta) is ToolCallDelta and type(item) is FunctionCallItem and delta.index == item.call:
            return self._delta(item, delta.arguments, b"", self._frame_head, EVENT_END) if delta.arguments else None
        return None

    def response(self) -> Json:
        """The response object as of now, as it stands in events; once `Opened` was folded."""
        unfinished = [self._item.as_json("in_progress")] if self._item else []
        return {**self._response, "output": [*self._output, *unfinished]}

    def response_closed(self, closed: Closed) -> Json:
        """The response object as it will be once `closed` is folded, which it is not yet; after `TurnFinished`."""
        ahead = copy(self)
        ahead._after = ahead.next_sequence + _CLOSING_EVENTS_MAX
        ahead._response, ahead._output = dict(self._response), list(self._output)
        ahead.apply(closed)
        return ahead.response()

    def _on_opened(self, opened: Opened) -> None:
        self._dialect, self._obfuscate = opened.dialect, opened.obfuscate
        self.response_id, self.background = opened.response_id, opened.background
        self._hex = opened.response_id.removeprefix("resp_")
        self.request = parse_wire(opened.request)
        self._response = new_response(opened, self.request)
        self._emit_response("response.created")
        if opened.background:
            self._emit_response("response.queued")

    def _on_delta(self, delta: Delta) -> None:
        match delta:
            case TextDelta():
                self._on_text(delta)
            case ReasoningDelta():
                if delta.text:
                    self._emit_delta(self._reasoning_item(), delta.text)
                if delta.ended and isinstance(self._item, ReasoningItem):
                    self._close_item("completed")
            case ToolCallDelta():
                item = self._call_item(delta)
                if delta.arguments:
                    self._emit_delta(item, delta.arguments)

    def _on_text(self, delta: TextDelta) -> None:
        if delta.logprobs:
            item = self._message_item()
            logprobs = [logprob_json(entry) for entry in delta.logprobs]
            item.logprobs += logprobs
            self._emit_delta(item, delta.text, b',"logprobs":' + _encode(logprobs))
            return
        item = self._item if isinstance(self._item, MessageItem) else self._message_item()
        if delta.text:
            self._emit_delta(item, delta.text, _NO_LOGPROBS)

    def _message_item(self) -> MessageItem:
        if isinstance(self._item, MessageItem):
            return self._item
        item = MessageItem(self._hex, self._next_index())
        self._open_item(item)
        return item

    def _reasoning_item(self) -> ReasoningItem:
        if isinstance(self._item, ReasoningItem):
            return self._item
        item = ReasoningItem(self._hex, self._next_index(), self._dialect)
        self._open_item(item)
        return item

    def _call_item(self, delta: ToolCallDelta) -> FunctionCallItem:
        if isinstance(self._item, FunctionCallItem) and self._item.call == delta.index:
            return self._item
        item = FunctionCallItem(self._hex, self._next_index(), delta.index, delta.name or "")
        self._open_item(item)
        return item

    def _next_index(self) -> int:
        """Close what is open, and give the index of the next item."""
        self._close_item("completed")
        return len(self._output)

    def _open_item(self, item: OutputItem) -> None:
        self._item = item
        self._delta_head = _encode({"type": item.delta_type, **item.place})[:-1] + b',"delta":'
        self._frame_head = event_head(item.delta_type) + self._delta_head
        for event in item.opening():
            self._emit(event)

    def _close_item(self, status: ItemStatus) -> None:
        item, self._item = self._item, None
        if item is None:
            return
        for event in item.closing(status):
            self._emit(event)
        self._output.append(item.as_json(status))

    def _on_closed(self, closed: Closed) -> None:
        self.closed = closed
        self._close_item("incomplete")  # still open only where the engine was lost
        if closed.status == "completed" and not self._output:
            self._message_item()
            self._close_item("completed")
        self._response["status"] = closed.status
        if self.turn_finished is not None:
            self._response["usage"] = usage_json(self.turn_finished.usage)
        match closed.status:
            case "completed":
                self._response["completed_at"] = closed.at
            case "incomplete":
                self._response["incomplete_details"] = {"reason": "max_output_tokens"}
            case "failed":
                self._fail(closed.error or _UNEXPLAINED)
            case "cancelled":
                pass
        self._emit_response(_TERMINAL_TYPE[closed.status])

    def _fail(self, error: ErrorDetail) -> None:
        """Say what went wrong in the one shape that all clients read: flat for OpenAI's, nested for Open Responses."""
        self._response["error"] = error_json(error)
        flat = {"code": error.code, "message": error.message, "param": error.param}
        self._emit(EventBody("error", {**flat, "error": {"type": error.type, **flat}}))

    def _emit_response(self, kind: str) -> None:
        self._emit(EventBody(kind, {"response": self.response()}))

    def _emit(self, event: EventBody) -> None:
        number = self.next_sequence
        self.next_sequence = number + 1
        if number > self._after:
            body = _encode({"type": event.type, "sequence_number": number, **event.fields})
            self._events.append(Event(event.type, body))

    def _emit_delta(self, item: OutputItem, text: str, tail: bytes = b"") -> None:
        """Emit that an open item has more text; `tail` is what else there is to say of it."""
        if self.next_sequence > self._after:
            self._events.append(Event(item.delta_type, self._delta(item, text, tail, self._delta_head)))
        else:
            item.written += text.encode()
            self.next_sequence += 1

    def _delta(self, item: OutputItem, text: str, tail: bytes, head: bytes, end: bytes = b"") -> bytes:
        """The hot path: one event a token, put together from bytes."""
        item.written += text.encode()
        number = self.next_sequence
        self.next_sequence = number + 1
        varying = _encode(text) + tail
        if self._obfuscate:
            varying += b',"obfuscation":"%b"' % self._padding(number, len(varying))
        return b'%b%b,"sequence_number":%d}%b' % (head, varying, number, end)

    def _padding(self, number: int, length: int) -> bytes:
        """What brings `length` bytes to a multiple of `PADDED_BYTES`; each time another, lest it compress."""
        digest = blake2b(b"%b:%d" % (self.response_id.encode(), number), digest_size=PADDED_BYTES // 2).hexdigest()
        return digest[: -length % PADDED_BYTES].encode()
