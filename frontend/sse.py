"""Events and keepalives as bytes of a server-sent event stream (https://html.spec.whatwg.org/#server-sent-events).

LF only, one `data:` line, no byte order mark, no `retry:`. An `id:` line only where asked for: with a comment after it
it breaks every client of openai-python.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}
"""What a stream is answered with; nginx would otherwise buffer it."""

DONE: Final = b"data: [DONE]\n\n"
"""Ends every stream, after its terminal event."""

PING: Final = b'event: response.ping\ndata: {"type":"response.ping"}\n\n'
"""A keepalive for clients that ignore comments. It is not part of the response: it has no sequence number."""


EVENT_END: Final = b"\n\n"


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event for a client: its type, and its body as one line of JSON with `type` and `sequence_number` set."""

    type: str
    body: bytes


def event_head(event_type: str) -> bytes:
    """What stands before the body of an event; `EVENT_END` stands after it."""
    return b"event: %b\ndata: " % event_type.encode()


def frame(event: Event) -> bytes:
    """One event, whole."""
    return b"".join((event_head(event.type), event.body, EVENT_END))


def frames(events: Sequence[Event], ids_end: int | None = None) -> bytes:
    """Events one after another, most often one; with ids where they are asked for, up to `ids_end`."""
    if ids_end is not None:
        return b"".join([frame_with_id(event, number) for number, event in enumerate(events, ids_end - len(events))])
    return frame(events[0]) if len(events) == 1 else b"".join([frame(event) for event in events])


def frame_with_id(event: Event, sequence_number: int) -> bytes:
    """One event whose `id:` is its sequence number, which a browser's EventSource sends back as `Last-Event-ID`."""
    return b"id: %d\n%b" % (sequence_number, frame(event))


def comment(text: str) -> bytes:
    """A line that clients skip."""
    return b": %b\n\n" % text.encode()
