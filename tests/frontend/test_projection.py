"""The fold of recorded logs: its bytes, what OpenAI's types and Open Responses say of them, and resuming anywhere."""

import json
from typing import Any

import pytest
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response

from frontend import sse
from frontend.api.request import parse_create
from frontend.projection import Projection
from protocol.records import (
    Closed,
    Delta,
    Opened,
    ReasoningDelta,
    Record,
    Step,
    TextDelta,
    ToolCallDelta,
    TurnFinished,
    TurnStarted,
    Usage,
)
from tests.frontend.conformance import check_stream, open_responses_complaints, openai_event, response_complaints
from tests.recordings.logs import fold, read_events, read_log, recorded

OPENAI = [name for name in recorded() if name != "reasoning_open_responses"]  # which has events OpenAI doesn't know
OPEN_RESPONSES = [name for name in recorded() if name != "hosted_tool"]  # which Open Responses doesn't have


@pytest.fixture(params=recorded())
def name(request: pytest.FixtureRequest) -> str:
    """The name of each recording in turn."""
    return str(request.param)


def last_response(name: str) -> dict[str, Any]:
    """The response in the terminal event."""
    response: dict[str, Any] = json.loads(read_events(name)[-1])["response"]
    return response


def bodies_of_type(name: str, kind: str) -> list[dict[str, Any]]:
    """The recorded events of one type."""
    return [event for event in map(json.loads, read_events(name)) if event["type"] == kind]


def test_a_log_gives_the_recorded_bytes(name: str) -> None:
    assert fold(read_log(name)) == read_events(name)


def test_a_fold_from_any_cursor_gives_exactly_the_tail(name: str) -> None:
    records, events = read_log(name), read_events(name)
    for after in range(-1, len(events) + 1):
        assert fold(records, after) == events[after + 1 :]


@pytest.mark.parametrize("after", [-1, 6])
def test_the_short_way_of_a_delta_gives_the_same_event_or_none_and_then_folds_nothing(name: str, after: int) -> None:
    short, long = Projection(after), Projection(after)
    for record in read_log(name):
        frame = short.delta_frame(record) if isinstance(record, Step) else None
        frames = sse.frames(short.apply(record)) if frame is None else frame
        assert frames == sse.frames(long.apply(record))
        assert (short.response(), short.next_sequence) == (long.response(), long.next_sequence)


@pytest.mark.parametrize("delta", [TextDelta("a"), ReasoningDelta("a"), ToolCallDelta(0, arguments="{")])
def test_one_more_delta_of_the_open_item_goes_the_short_way(delta: Delta) -> None:
    projection = Projection()
    projection.apply(read_log("text")[0])
    assert projection.delta_frame(Step((1,), (delta,))) is None
    projection.apply(Step((1,), (delta,)))
    assert projection.delta_frame(Step((2,), (delta,))) is not None
    assert projection.delta_frame(Step((3,), (delta, delta))) is None


def test_a_stream_is_in_order(name: str) -> None:
    check_stream(read_events(name))


@pytest.mark.parametrize("openai_name", OPENAI)
def test_openais_types_accept_every_event_strictly(openai_name: str) -> None:
    for body in read_events(openai_name):
        openai_event(body)


@pytest.mark.parametrize("open_name", OPEN_RESPONSES)
def test_open_responses_accepts_every_event(open_name: str) -> None:
    assert {body: found for body in read_events(open_name) if (found := open_responses_complaints(body))} == {}


@pytest.mark.parametrize("openai_name", [name for name in OPENAI if last_response(name)["status"] == "completed"])
def test_openais_stream_accumulator_arrives_at_the_final_response(openai_name: str) -> None:
    state = ResponseStreamState[Any](input_tools=omit, text_format=omit)
    for body in read_events(openai_name):
        state.handle_event(openai_event(body))  # type: ignore[arg-type]
    accumulated = state._completed_response
    assert accumulated is not None
    assert accumulated.output_text == Response.model_validate(last_response(openai_name)).output_text


def test_the_response_object_is_that_of_the_terminal_event(name: str) -> None:
    projection = Projection()
    for record in read_log(name):
        projection.apply(record)
    assert json.loads(json.dumps(projection.response())) == last_response(name)
    assert projection.next_sequence == len(read_events(name))


def test_the_response_object_is_valid_after_every_record(name: str) -> None:
    projection = Projection()
    for record in read_log(name):
        projection.apply(record)
        response = projection.response()
        Response.model_validate_json(json.dumps(response), strict=True)
        assert name not in OPEN_RESPONSES or response_complaints(response) == []


def test_recorded_requests_are_canonical(name: str) -> None:
    opened = read_log(name)[0]
    assert isinstance(opened, Opened)
    assert json.loads(parse_create(opened.request).wire) == json.loads(opened.request)


def test_the_projection_says_how_far_the_log_is() -> None:
    projection = Projection()
    seen = []
    for record in read_log("text"):
        projection.apply(record)
        request, finished, closed = projection.request, projection.turn_finished, projection.closed
        seen.append((request is not None, finished is record, closed is record))
    assert seen == [(True, False, False)] * 7 + [(True, True, False), (True, False, True)]
    assert projection.response_id == "resp_0123456789abcdef0123456789abcdef"


def test_an_unfinished_response_shows_its_item_as_far_as_it_is() -> None:
    projection = Projection()
    for record in read_log("text")[:5]:
        projection.apply(record)
    response = projection.response()
    assert (response["status"], response["usage"]) == ("in_progress", None)
    assert [(item["status"], item["content"][0]["text"]) for item in response["output"]] == [
        ("in_progress", 'Hello, "wörld"')
    ]


def test_how_a_response_ended() -> None:
    ends = {
        name: (json.loads(read_events(name)[-1])["type"], response["status"], response["incomplete_details"])
        for name in ("text", "incomplete", "cancelled", "failed")
        for response in [last_response(name)]
    }
    assert ends == {
        "text": ("response.completed", "completed", None),
        "incomplete": ("response.incomplete", "incomplete", {"reason": "max_output_tokens"}),
        "cancelled": ("response.incomplete", "cancelled", None),
        "failed": ("response.failed", "failed", None),
    }


def test_only_a_completed_response_was_completed_at_a_time() -> None:
    times = {name: last_response(name)["completed_at"] for name in ("text", "incomplete", "cancelled", "failed")}
    assert times == {"text": 1764000002, "incomplete": None, "cancelled": None, "failed": None}


def test_the_item_that_was_cut_off_is_incomplete() -> None:
    cut = ("incomplete", "incomplete_tool_call", "cancelled", "failed", "engine_lost")
    assert {name: last_response(name)["output"][-1]["status"] for name in cut} == dict.fromkeys(cut, "incomplete")


def test_an_item_is_completed_when_another_begins() -> None:
    assert [(item["type"], item["status"]) for item in last_response("text_then_tool")["output"]] == [
        ("message", "completed"),
        ("function_call", "completed"),
    ]


def test_an_error_is_told_flat_and_nested_and_again_in_the_response() -> None:
    error = bodies_of_type("engine_lost", "error")[0]
    nested = error["error"]
    assert (nested["type"], nested["code"]) == ("server_error", "engine_lost")
    assert {key: error[key] for key in ("code", "message", "param")} == {
        key: nested[key] for key in nested.keys() - {"type"}
    }
    assert last_response("engine_lost")["error"]["message"] == nested["message"]


def test_a_completed_response_without_output_has_an_empty_message() -> None:
    (message,) = last_response("empty")["output"]
    assert (message["type"], message["content"][0]["text"]) == ("message", "")


def test_ids_derive_from_the_response_and_the_position() -> None:
    calls = last_response("two_tool_calls")["output"]
    digits = "0123456789abcdef" * 2
    assert [(call["id"], call["call_id"]) for call in calls] == [
        (f"fc_{digits}_0", f"call_{digits}_0"),
        (f"fc_{digits}_1", f"call_{digits}_1"),
    ]


def test_a_long_silence_shows_as_further_in_progress_events() -> None:
    responses = [event["response"] for event in bodies_of_type("long_silence", "response.in_progress")]
    assert [len(response["output"]) for response in responses] == [0, 0, 1]


def test_logprobs_carry_the_tokens_bytes_and_no_infinity() -> None:
    deltas = bodies_of_type("logprobs", "response.output_text.delta")
    assert [entry["bytes"] for event in deltas for entry in event["logprobs"]] == [[72, 195, 169], [], [33]]
    assert deltas[-1]["logprobs"][0]["top_logprobs"][1] == {"token": ".", "bytes": [46], "logprob": -9999.0}


def test_usage_is_counted_with_its_details() -> None:
    assert last_response("reasoning_then_text")["usage"] == {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 17,
    }


def test_dialects_differ_in_the_names_of_reasoning_events_alone() -> None:
    translated = {
        body.replace(b"response.reasoning.", b"response.reasoning_text.")
        for body in read_events("reasoning_open_responses")
    }
    records = read_log("reasoning_open_responses")
    assert isinstance(records[0], Opened)
    in_openai = Opened(records[0].response_id, records[0].created_at, records[0].request, "openai")
    assert translated == set(fold([in_openai, *records[1:]]))


def test_padding_is_on_every_delta_and_only_where_asked_for(name: str) -> None:
    deltas = [event for event in map(json.loads, read_events(name)) if event["type"].endswith(".delta")]
    assert {isinstance(event.get("obfuscation"), str) for event in deltas} <= {name == "obfuscated"}


def test_padding_hides_the_size_of_short_tokens() -> None:
    request = parse_create(b'{"model": "m", "input": "x"}').wire
    tokens = ["a", "word", " several", "\u00e9\u00e9", '"\n"']
    head: list[Record] = [Opened("resp_" + "0" * 32, 1, request, obfuscate=True), TurnStarted(0, 1)]
    bodies = fold([*head, *(Step((1,), (TextDelta(token),)) for token in tokens)])
    deltas = [body for body in bodies if b"obfuscation" in body]
    assert len({len(body) for body in deltas}) == 1
    assert len({json.loads(body)["obfuscation"] for body in deltas}) == len(tokens)


def test_a_closed_log_without_a_turn_still_ends_once() -> None:
    opened = read_log("text")[0]
    closed = [Closed("cancelled", 3), Closed("incomplete", 3), Closed("completed", 3), Closed("failed", 3)]
    for record in closed:
        check_stream(fold([opened, record]))


def test_a_turn_that_brought_nothing_and_was_cut_has_no_output() -> None:
    opened, _, turn, *_ = read_log("text")
    bodies = fold([opened, turn, TurnFinished("length", Usage(1, 0, 0, 0)), Closed("incomplete", 3)])
    assert json.loads(bodies[-1])["response"]["output"] == []


def test_reasoning_that_has_ended_is_closed_at_once_in_the_events_that_the_next_item_would_have_closed_it_with() -> (
    None
):
    log = read_log("reasoning_then_text")
    text = next(
        at for at, record in enumerate(log) if isinstance(record, Step) and TextDelta in map(type, record.deltas)
    )
    ended = Step((1,), (ReasoningDelta("", ended=True),))
    before = fold(log[:text])
    assert fold([*log[:text], ended, *log[text:]]) == read_events("reasoning_then_text")
    assert [json.loads(body)["type"] for body in fold([*log[:text], ended])[len(before) :]] == [
        "response.reasoning_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    assert fold([*log[:text], ended, ended]) == fold([*log[:text], ended])


def test_text_of_which_nothing_is_shown_yet_opens_the_message_with_the_events_that_its_first_text_would_have() -> None:
    log = read_log("reasoning_then_text")
    text = next(
        at for at, record in enumerate(log) if isinstance(record, Step) and TextDelta in map(type, record.deltas)
    )
    begun = Step((1,), (TextDelta(""),))
    before = fold(log[:text])
    assert fold([*log[:text], begun, *log[text:]]) == read_events("reasoning_then_text")
    assert [json.loads(body)["type"] for body in fold([*log[:text], begun])[len(before) :]][-2:] == [
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert fold([*log[:text], begun, begun]) == fold([*log[:text], begun])


def test_the_closed_response_is_known_before_it_is_closed(name: str) -> None:
    *before, closed = read_log(name)
    projection = Projection()
    for record in before:
        projection.apply(record)
    assert isinstance(closed, Closed)
    ahead = projection.response_closed(closed)
    assert projection.closed is None
    events = [event.body for event in projection.apply(closed)]
    assert events == read_events(name)[-len(events) :]
    assert ahead == json.loads(events[-1])["response"]
