"""`Session`, a plain function of messages and time: what one reader of one response writes, says and when it ends."""

from collections.abc import Sequence

import pytest

from frontend import sse
from frontend.messages import (
    Again,
    Begin,
    Charge,
    End,
    Leave,
    Refuse,
    Verdict,
    Write,
)
from frontend.wish import Wish
from protocol.commands import Attach
from protocol.records import (
    Closed,
    ErrorDetail,
    FinishReason,
    Opened,
    OwnerGranted,
    Record,
    Status,
    TurnFinished,
    Usage,
)
from tests.frontend.session_bench import (
    EVENTS,
    FINISHED,
    FINISHED_AT,
    ID,
    LOG,
    REQUEST,
    Bench,
    only,
    said,
    whole_stream,
)

# ---- folding ---------------------------------------------------------------------------------------------------------


def test_a_session_begins_with_the_first_event_and_ends_with_done() -> None:
    bench = Bench(me="somebody else")
    assert bench.attach() == []
    begin, write = bench.feed(0, 3)
    assert isinstance(begin, Begin)
    assert isinstance(write, Write)
    *_, last, leave, end = bench.feed(3, 8)
    assert isinstance(last, Write)
    assert last.data.endswith(sse.DONE)
    assert (leave, end) == (Leave(7), End())
    assert bench.written.count(sse.DONE) == 1
    assert bench.feed(0, 8) == []


@pytest.mark.parametrize("cuts", [range(1, 9), (2, 4, 8), (8,), (3, 8)])
def test_a_session_writes_the_same_bytes_however_the_log_is_cut(cuts: Sequence[int]) -> None:
    bench = Bench(me="somebody else")
    bench.attach()
    first = 0
    for cut in cuts:
        bench.feed(first, cut)
        first = cut
    assert bench.written == whole_stream()


def test_a_session_makes_one_write_of_a_batch() -> None:
    bench = Bench()
    bench.attach()
    bench.feed(0, 3)
    assert len(only(bench.feed(3, 6), Write)) == 1
    assert only(bench.feed(6, 6), Write) == []


def test_a_session_skips_records_it_knows() -> None:
    bench = Bench(me="somebody else")
    bench.attach()
    bench.feed(0, 5)
    assert only(bench.feed(2, 5), Write) == []
    bench.feed(3, 8)
    assert bench.written == whole_stream()


def test_a_session_attaches_again_at_a_gap_and_drops_what_is_in_flight() -> None:
    bench = Bench(me="somebody else")
    bench.attach()
    bench.feed(0, 3)
    assert said(bench.feed(5, 6)) == [Attach(7, ID, 3, True)]
    assert bench.feed(6, 7) == []
    bench.attach()
    bench.feed(3, 8)
    assert bench.written == whole_stream()


def test_a_session_told_again_attaches_from_where_it_is() -> None:
    bench = Bench()
    assert said(bench.do(Again())) == [Attach(7, ID, 0, True)]
    bench.attach()
    bench.feed(0, 5)
    assert said(bench.do(Again())) == [Attach(7, ID, 5, True)]


# ---- driving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "status"),
    [("stop", "completed"), ("length", "incomplete"), ("aborted", "cancelled"), ("error", "failed")],
)
def test_the_owners_session_closes_when_the_turn_has_finished(reason: FinishReason, status: Status) -> None:
    error = ErrorDetail("server_error", "boom", "boom") if reason == "error" else None
    log = [*LOG[:6], TurnFinished(reason, Usage(), error)]
    bench = Bench()
    bench.attach()
    bench.feed(0, 6)
    assert only(bench.feed(6, 7, log), Verdict) == [Verdict(1, status, error)]


def test_a_session_of_another_frontend_does_not_close() -> None:
    bench = Bench(me="somebody else")
    bench.attach()
    bench.feed(0, 7)
    assert only(bench.seen, Verdict) == []


def test_a_session_closes_with_the_epoch_it_was_granted_last() -> None:
    log = [*LOG[:7], OwnerGranted("other", 2), OwnerGranted("me", 3)]
    bench = Bench()
    bench.attach()
    assert only(bench.feed(0, 7, log), Verdict) == [Verdict(1, "completed", None)]
    assert only(bench.feed(7, 8, log), Verdict) == []
    assert only(bench.feed(8, 9, log), Verdict) == [Verdict(3, "completed", None)]


def test_a_verdict_is_repeated_after_attaching_again_and_not_after_closing() -> None:
    bench = Bench()
    bench.attach()
    assert len(only(bench.feed(0, 7), Verdict)) == 1
    assert only(bench.feed(7, 7), Verdict) == []
    bench.do(Again())
    assert len(only(bench.attach(), Verdict)) == 1
    assert only(bench.feed(7, 8), Verdict) == []


def test_no_verdict_is_given_before_all_is_read_that_was_there_when_it_attached() -> None:
    bench = Bench(Wish(), client=False)
    bench.attach(len(LOG))
    assert only(bench.feed(0, FINISHED_AT + 1), Verdict) == []
    closed = Closed("completed", 5, unstored=True)
    log = [*LOG[:-1], closed]
    assert only(bench.feed(FINISHED_AT + 1, len(log), log), Verdict) == [Verdict(1, "completed", None, closed)]


# ---- cursors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cursor", range(EVENTS))
def test_a_session_with_a_cursor_writes_the_tail_of_the_stream(cursor: int) -> None:
    parts = [part + b"\n\n" for part in whole_stream().split(b"\n\n")[:-1]]
    assert len(parts) == EVENTS + 1
    bench = Bench(Wish(stream=True, after=cursor))
    bench.attach(len(LOG))
    for offset in range(len(LOG)):
        bench.feed(offset, offset + 1)
    assert bench.written == b"".join(parts[cursor + 1 :])
    assert len(only(bench.seen, Begin)) == 1


def test_a_cursor_beyond_the_end_is_refused_once_all_is_read() -> None:
    bench = Bench(Wish(stream=True, after=EVENTS))
    bench.attach(len(LOG))
    assert bench.feed(0, 7) == []
    refuse, leave, end = bench.feed(7, 8)
    assert isinstance(refuse, Refuse)
    assert (refuse.error.status, refuse.error.param) == (400, "starting_after")
    assert (leave, end) == (Leave(7), End())


def test_a_cursor_at_the_end_of_what_there_is_begins_and_waits() -> None:
    bench = Bench(Wish(stream=True, after=1))
    bench.attach(3)
    assert bench.feed(0, 3) == [Begin()]
    assert len(only(bench.feed(3, 4), Write)) == 1


def test_a_session_for_the_response_as_it_is_now_ends_when_it_has_caught_up() -> None:
    bench = Bench(Wish(to_the_end=False), client=False)
    bench.attach(5)
    assert bench.feed(0, 4) == [Begin()]
    assert bench.feed(4, 6) == [Leave(7), End()]
    assert bench.session.projection.response()["status"] == "in_progress"
    assert bench.written == b""


def test_a_session_without_stream_writes_nothing_and_ends_at_closed() -> None:
    bench = Bench(Wish())
    bench.attach(3)
    bench.feed(0, 7)
    assert bench.feed(7, 8) == [Leave(7), End()]
    assert bench.written == b""


def test_event_ids_are_the_sequence_numbers() -> None:
    bench = Bench(Wish(stream=True, after=3, event_ids=True))
    bench.attach()
    bench.feed(0, len(LOG))
    ids = [line for line in bench.written.split(b"\n") if line.startswith(b"id: ")]
    assert ids == [b"id: %d" % number for number in range(4, EVENTS)]


def test_a_session_that_joins_a_run_of_another_request_is_refused() -> None:
    bench = Bench(Wish(stream=True, asked=b"other"))
    bench.attach()
    [refuse, *_] = bench.feed(0, 3)
    assert isinstance(refuse, Refuse)
    assert refuse.error.status == 409
    same = Bench(Wish(stream=True, asked=b""))
    same.attach()
    assert only(same.feed(0, 3), Begin)


def test_to_another_tenant_a_response_does_not_exist() -> None:
    log: list[Record] = [Opened(ID, 1, REQUEST, tenant="alice"), *LOG[1:]]
    for after in (-1, EVENTS):  # also not by what is said of a cursor
        stranger = Bench(Wish(stream=True, after=after, tenant="bob"))
        stranger.attach()
        [refuse, *rest] = stranger.feed(0, len(LOG), log)
        assert isinstance(refuse, Refuse)
        assert (refuse.error.status, refuse.error.code) == (404, "response_not_found")
        assert rest == [Leave(7), End()]
    for tenant in ("alice", None):
        known = Bench(Wish(stream=True, tenant=tenant))
        known.attach()
        assert only(known.feed(0, 3, log), Begin)


# ---- charges ---------------------------------------------------------------------------------------------------------

CHARGED: list[Record] = [Opened(ID, 1, REQUEST, key="agent"), *LOG[1:]]
CHARGE = Charge(ID, 0, "agent", "demo", "stop", FINISHED.usage)


def test_the_owner_has_a_turn_charged_for_once_however_often_it_attaches() -> None:
    bench = Bench()
    bench.attach(end=3)
    bench.feed(0, 4, CHARGED)
    bench.do(Again())
    bench.attach(end=len(LOG))  # the turn ended while the session was away
    assert only(bench.feed(4, 7, CHARGED), Charge) == [CHARGE]
    assert only(bench.feed(7, 8, CHARGED), Charge) == []


def test_nobody_else_has_it_charged_for() -> None:
    for bench, end, log in (
        (Bench(me="somebody else"), 3, CHARGED),
        (Bench(), len(LOG), CHARGED),  # a replay
    ):
        bench.attach(end)
        bench.feed(0, len(LOG), log)
        assert only(bench.seen, Charge) == []
