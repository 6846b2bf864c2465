"""A session and its client: one that is slow, leaves, or hears nothing; and what ends it early."""

import pytest

from frontend import sse
from frontend.api.errors import unavailable
from frontend.messages import (
    Again,
    ClientGone,
    Drained,
    End,
    Leave,
    Overflow,
    Refusal,
    Refuse,
    Silence,
    Stopping,
    Verdict,
    Write,
)
from frontend.wish import Wish
from protocol.commands import Attach, Pause
from protocol.records import (
    CancelRequested,
    Record,
)
from tests.frontend.session_bench import ID, LOG, LOST, Bench, said, whole_stream

# ---- slow clients ----------------------------------------------------------------------------------------------------


def test_a_session_whose_client_is_slow_pauses_and_goes_on_where_it_was() -> None:
    bench = Bench(me="somebody else")
    bench.attach()
    bench.feed(0, 4)
    assert said(bench.do(Overflow())) == [Pause(7)]
    assert bench.feed(4, 6) == []
    assert bench.do(Silence()) == []
    assert said(bench.do(Drained())) == [Attach(7, ID, 4, True)]
    assert bench.do(Drained()) == []
    bench.attach()
    bench.feed(4, 8)
    assert bench.written == whole_stream()


def test_a_paused_session_told_again_shows_its_client_but_stays_paused() -> None:
    bench = Bench()
    bench.attach()
    bench.feed(0, 4)
    bench.do(Overflow())
    assert said(bench.do(Again())) == [Attach(7, ID, 4, True), Pause(7)]
    bench.attach()
    assert bench.feed(4, 6) == []


# ---- clients that leave ----------------------------------------------------------------------------------------------


def test_the_owners_last_session_stays_without_its_client_and_closes() -> None:
    bench = Bench()
    bench.attach()
    bench.feed(0, 5)
    assert said(bench.do(ClientGone(others=False))) == [Attach(7, ID, 5, False)]
    bench.attach()
    effects = bench.feed(5, 7)
    assert effects == [Verdict(1, "completed", None)]
    assert bench.feed(7, 8) == [Leave(7), End()]


@pytest.mark.parametrize(("me", "others"), [("me", True), ("somebody else", False)])
def test_other_sessions_leave_with_their_client(me: str, others: bool) -> None:
    bench = Bench(me=me)
    bench.attach()
    bench.feed(0, 5)
    assert bench.do(ClientGone(others=others)) == [Leave(7), End()]


# ---- losses and ends -------------------------------------------------------------------------------------------------


def test_a_lost_log_ends_the_stream_in_one_failed_event_and_done() -> None:
    bench = Bench()
    bench.attach()
    bench.feed(0, 4)
    [write, leave, end] = bench.do(LOST)
    assert isinstance(write, Write)
    assert write.data.count(b"event: response.failed\n") == 1
    assert b"engine_lost" in write.data
    assert write.data.endswith(sse.DONE)
    assert (leave, end) == (Leave(7), End())
    assert bench.do(LOST) == []


def test_a_log_lost_before_the_answer_began_is_an_http_error() -> None:
    bench = Bench()
    [refuse, *_] = bench.do(LOST)
    assert isinstance(refuse, Refuse)
    assert refuse.error.status == 503


def test_a_refusal_is_passed_on_and_ends_the_session() -> None:
    error = unavailable("none")
    assert Bench().do(Refusal(error)) == [Refuse(error), Leave(7), End()]


def test_a_session_of_a_stopping_frontend_says_where_to_resume_without_a_terminal_event() -> None:
    bench = Bench()
    bench.attach()
    bench.feed(0, 3)
    assert bench.do(Stopping()) == [
        Write(b": this frontend is stopping, resume with starting_after=1\n\n"),
        End(),
    ]
    [refuse, end] = Bench(Wish()).do(Stopping())
    assert isinstance(refuse, Refuse)
    assert refuse.error.status == 503
    assert end == End()


# ---- keepalives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "silence", "comment"),
    [
        (LOG[:3], Silence(), b": reading the prompt\n\n"),
        (LOG[:3], Silence(queue_position=3), b": queued, position 3\n\n"),
        (LOG[:4], Silence(queue_position=3), b": generating, silent for 2 s\n\n"),
        (LOG[:7], Silence(), b": finishing, silent for 2 s\n\n"),
        ([*LOG[:4], CancelRequested("client")], Silence(), b": cancelling, silent for 2 s\n\n"),
        (LOG[:4], Silence(away_s=3.2), b": recovering, the worker is away for 3 s\n\n"),
        (LOG[:4], Silence(loading=True), b": recovering, the worker is loading the model\n\n"),
        (LOG[:4], Silence(loading=True, looking=True), b": recovering, the worker is loading the model\n\n"),
        (LOG[:4], Silence(looking=True), b": recovering, looking for a worker that goes on\n\n"),
        (LOG[:7], Silence(loading=True), b": finishing, silent for 2 s\n\n"),
    ],
)
def test_a_session_says_in_silence_what_is_true(records: list[Record], silence: Silence, comment: bytes) -> None:
    bench = Bench()
    bench.attach()
    bench.feed(0, len(records), records)
    bench.now += 2
    assert bench.do(silence) == [Write(comment)]


def test_a_session_that_pings_writes_an_event_without_a_sequence_number() -> None:
    bench = Bench(Wish(stream=True, pings=True), me="somebody else")
    bench.attach()
    bench.feed(0, 4)
    assert bench.do(Silence()) == [Write(sse.PING)]
    bench.feed(4, 8)
    assert bench.written.replace(sse.PING, b"") == whole_stream()


def test_a_session_that_has_not_begun_or_does_not_stream_stays_silent() -> None:
    assert Bench().do(Silence()) == []
    plain = Bench(Wish())
    plain.attach()
    plain.feed(0, 4)
    assert plain.do(Silence()) == []
