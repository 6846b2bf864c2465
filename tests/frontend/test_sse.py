"""The bytes of a server-sent event stream."""

from frontend import sse
from frontend.sse import Event


def test_an_event_is_two_lines_and_an_empty_one() -> None:
    assert sse.frame(Event("response.created", b"{}")) == b"event: response.created\ndata: {}\n\n"


def test_an_id_comes_first_where_it_is_wanted() -> None:
    assert sse.frame_with_id(Event("a", b"{}"), 12) == b"id: 12\nevent: a\ndata: {}\n\n"


def test_a_comment_is_one_line() -> None:
    assert sse.comment("queued, position 3") == b": queued, position 3\n\n"


def test_ping_and_done_are_whole_blocks() -> None:
    assert sse.PING == b'event: response.ping\ndata: {"type":"response.ping"}\n\n'
    assert sse.DONE == b"data: [DONE]\n\n"
