"""Items as they are stored, and requests put together with what came before them."""

import json
from typing import Any

import pytest

from frontend.api.errors import ApiError
from frontend.api.request import parse_create
from frontend.api.stored_items import Context, own_items, references, with_history, without_history
from frontend.projection import Projection
from protocol.records import Opened
from tests.recordings.logs import read_events

Json = dict[str, Any]

RESPONSE_ID = "resp_" + "0" * 32
STEM = "0" * 32
CALL: Json = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT: Json = {"type": "function_call_output", "call_id": "c", "output": "x"}


def context(history: list[Json], referenced: dict[str, Json] | None = None, **fields: Any) -> Context:
    """A request that continues, put together."""
    body = {"model": "m", "previous_response_id": "resp_1", **fields}
    return with_history(parse_create(json.dumps(body).encode()).request, history, referenced or {})


def items(context: Context) -> list[Json]:
    """The items of a complete request."""
    found: list[Json] = json.loads(context.wire)["input"]
    return found


def stored(context_: Context) -> list[Json]:
    """The own items of a response opened with that request."""
    return own_items(Opened(RESPONSE_ID, 1, context_.wire, history_items=context_.history_items))


def user(text: str) -> Json:
    """A stored message of a user."""
    parts = [{"type": "input_text", "text": text}]
    return {"id": f"msg_{text}", "type": "message", "role": "user", "content": parts, "status": "completed"}


def test_history_comes_before_the_input() -> None:
    complete = context([user("a"), user("b")], input="c")
    assert complete.history_items == 2
    assert items(complete) == [user("a"), user("b"), {"type": "message", "role": "user", "content": "c"}]


@pytest.mark.parametrize("name", ["reasoning_then_text", "text_then_tool", "logprobs", "incomplete"])
def test_an_earlier_answers_output_is_history_as_it_was(name: str) -> None:
    output = json.loads(read_events(name)[-1])["response"]["output"]
    assert items(context(output, input="x"))[:-1] == output


def test_own_items_are_stored_in_full_and_history_is_not_stored_again() -> None:
    own = stored(context([user("a")], input="c"))
    parts = [{"type": "input_text", "text": "c"}]
    message = {"id": f"msg_{STEM}_in_0", "type": "message", "role": "user", "content": parts, "status": "completed"}
    assert own == [message]


def test_a_log_without_history_has_the_same_input_and_the_same_events() -> None:
    complete = context([user("a"), user("b")], input="c", instructions="d")
    opened = Opened(RESPONSE_ID, 1, complete.wire, tenant="t", history_items=complete.history_items)
    alone = without_history(opened)
    assert (alone.history_items, alone.tenant) == (0, "t")
    assert items(Context(alone.request, 0)) == items(complete)[2:]
    assert own_items(alone) == own_items(opened)
    assert Projection().apply(alone) == Projection().apply(opened)


def test_a_log_without_history_stays_as_it_is() -> None:
    opened = Opened(RESPONSE_ID, 1, parse_create(b'{"model": "m", "input": "x"}').wire)
    assert without_history(opened) is opened


def test_what_is_stored_is_stored_the_same_again() -> None:
    assistant = {"role": "assistant", "content": "hi"}
    image = {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}
    reasoning = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}
    first = stored(context([], input=[assistant, image, reasoning, CALL, OUTPUT]))
    assert [item["id"] for item in first] == [
        f"msg_{STEM}_in_0",
        f"msg_{STEM}_in_1",
        f"rs_{STEM}_in_2",
        "fc_1",
        f"fco_{STEM}_in_4",
    ]
    assert all(item["status"] == "completed" for item in first)
    assert stored(context([], input=first)) == first


def test_a_text_alone_is_a_users_message() -> None:
    accepted = parse_create(b'{"model": "m", "input": "hi"}')
    [message] = own_items(Opened(RESPONSE_ID, 1, accepted.wire))
    assert (message["role"], message["content"]) == ("user", [{"type": "input_text", "text": "hi"}])


def test_references_stand_for_stored_items() -> None:
    sent = [{"type": "item_reference", "id": "fc_1"}, OUTPUT]
    body = {"model": "m", "input": sent}
    request = parse_create(json.dumps(body).encode()).request
    assert references(request) == ["fc_1"]
    assert items(with_history(request, [], {"fc_1": CALL})) == [CALL, OUTPUT]


def test_a_reference_that_leads_nowhere_is_named() -> None:
    with pytest.raises(ApiError, match="'msg_9' not found") as caught:
        context([], input=[{"id": "msg_9"}])
    assert (caught.value.status, caught.value.param) == (404, "input[0].id")


def test_an_output_may_answer_a_call_in_the_history() -> None:
    assert items(context([CALL], input=[OUTPUT])) == [CALL, OUTPUT]


def test_an_output_that_answers_no_call_is_refused() -> None:
    with pytest.raises(ApiError, match="call_id 'c'") as caught:
        context([user("a")], input=[OUTPUT])
    assert (caught.value.status, caught.value.param) == (400, "input[0].call_id")
