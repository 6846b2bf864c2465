"""Whatever an engine says, in whatever steps, the stream is in order and resumes anywhere."""

import json
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from frontend.api.request import parse_create
from protocol.records import (
    CancelRequested,
    Closed,
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
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    TurnFinished,
    TurnStarted,
    Usage,
)
from tests.frontend.conformance import check_stream, open_responses_complaints, openai_event
from tests.recordings.logs import fold

REQUEST = parse_create(b'{"model": "m", "input": "x"}').wire

counts = st.integers(0, 1000)
texts = st.text(max_size=8)
top_logprobs = st.builds(TopLogprob, texts, st.floats(max_value=0.0))
logprobs = st.builds(TokenLogprob, texts, st.floats(max_value=0.0), st.tuples(top_logprobs))
deltas: st.SearchStrategy[Delta] = st.one_of(
    st.builds(TextDelta, texts, st.one_of(st.just(()), st.tuples(logprobs))),
    st.builds(ReasoningDelta, texts),
    st.builds(ToolCallDelta, st.integers(0, 2), st.one_of(st.none(), st.just("f")), texts),
)
middles: st.SearchStrategy[Record] = st.one_of(
    st.builds(Step, st.just((1,)), st.lists(deltas, max_size=3).map(tuple)),
    st.builds(Progress, st.just(2.5)),
    st.builds(OwnerGranted, st.just("f00d"), counts),
    st.builds(CancelRequested, st.just("client")),
)
usages = st.builds(Usage, counts, counts, counts, counts)
finishes = st.builds(TurnFinished, st.sampled_from(["stop", "length", "aborted", "error"]), usages)
errors = st.one_of(st.none(), st.builds(ErrorDetail, st.just("server_error"), st.just("engine_failed"), texts))


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """A whole log, from `Opened` to `Closed`, perhaps without a finished turn, as when the engine was lost."""
    dialect = draw(st.sampled_from(get_args(Dialect)))
    opened = Opened("resp_" + draw(st.text("0123456789abcdef", min_size=4, max_size=4)), 1, REQUEST, dialect)
    turn = [TurnStarted(0, 1), *draw(st.lists(middles, max_size=12)), *draw(st.lists(finishes, max_size=1))]
    closed = Closed(draw(st.sampled_from(get_args(Status))), 2, draw(errors))
    return [opened, OwnerGranted("f00d", 1), *turn, closed]


@given(logs())
def test_any_log_gives_a_stream_in_order(log: list[Record]) -> None:
    check_stream(fold(log))


@given(logs())
def test_both_references_accept_the_events_of_any_log(log: list[Record]) -> None:
    assert isinstance(log[0], Opened)
    for body in fold(log):
        assert open_responses_complaints(body) == []
        if log[0].dialect == "openai":
            openai_event(body)


@given(logs(), st.data())
def test_any_log_resumes_at_any_cursor(log: list[Record], data: st.DataObject) -> None:
    events = fold(log)
    after = data.draw(st.integers(-1, len(events)))
    assert fold(log, after) == events[after + 1 :]


@given(logs(), st.booleans())
def test_nothing_the_model_said_is_lost(log: list[Record], obfuscate: bool) -> None:
    assert isinstance(log[0], Opened)
    opened = Opened("resp_0", 1, REQUEST, log[0].dialect, obfuscate)
    said = [delta for record in log if isinstance(record, Step) for delta in record.deltas]
    texts = [delta.arguments if isinstance(delta, ToolCallDelta) else delta.text for delta in said]
    bodies = [json.loads(body) for body in fold([opened, *log[1:]])]
    assert "".join(event["delta"] for event in bodies if event["type"].endswith(".delta")) == "".join(texts)
