"""Input items: which are taken, how they are spelled in what is accepted, and the rules that reach across them."""

import json
from typing import Any

import pytest

from frontend.api.errors import ApiError
from frontend.api.request import parse_create
from tests.recordings.logs import read_events

Json = dict[str, Any]

CALL: Json = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def accept(*items: Any) -> list[Json]:
    """The items as they stand in the accepted request."""
    body = {"model": "m", "input": list(items)}
    accepted: list[Json] = json.loads(parse_create(json.dumps(body).encode()).wire)["input"]
    return accepted


def refused(*items: Any) -> tuple[str | None, str | None]:
    """The parameter and code with which the items are refused."""
    with pytest.raises(ApiError) as caught:
        accept(*items)
    assert caught.value.status == 400
    return caught.value.param, caught.value.code


def user(*parts: Json) -> Json:
    """A user's message of these parts."""
    return {"role": "user", "content": list(parts)}


def test_a_message_needs_no_type() -> None:
    assert accept({"role": "user", "content": "x"}) == [{"type": "message", "role": "user", "content": "x"}]
    assert accept({"role": "user", "content": "x", "type": None}) == accept({"role": "user", "content": "x"})


def test_messages_of_every_role() -> None:
    roles = ("system", "developer", "user", "assistant")
    assert [item["role"] for item in accept(*({"role": role, "content": "x"} for role in roles))] == list(roles)


@pytest.mark.parametrize("name", ["reasoning_then_text", "text_then_tool", "logprobs", "incomplete"])
def test_an_earlier_answers_output_is_taken_back_as_it_was(name: str) -> None:
    output = json.loads(read_events(name)[-1])["response"]["output"]
    assert accept(*output) == output


def test_a_call_and_its_output() -> None:
    parts = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:image/png;base64,AA=="}]
    outputs = [{"type": "function_call_output", "call_id": "c", "output": output} for output in ("x", parts)]
    assert accept(CALL, *outputs) == [CALL, *outputs]


def test_arguments_need_not_be_json_since_models_err() -> None:
    assert accept({**CALL, "arguments": '{"a": '})[0]["arguments"] == '{"a": '


@pytest.mark.parametrize(
    ("items", "param", "code"),
    [
        ([3], "input[0]", "invalid_type"),
        ([None], "input[0]", "invalid_type"),
        ([{}], "input[0].type", "missing_required_parameter"),
        ([{"type": "letter"}], "input[0].type", "invalid_value"),
        ([{"content": "x"}], "input[0].role", "missing_required_parameter"),
        ([{"role": "user"}], "input[0].content", "missing_required_parameter"),
        ([{"role": "narrator", "content": "x"}], "input[0].role", "invalid_value"),
        (
            [user({"type": "input_text", "text": "x"}, {"type": "input_text"})],
            "input[0].content[1].text",
            "missing_required_parameter",
        ),
        ([user({"type": "smell"})], "input[0].content[0].type", "invalid_value"),
        ([user({"type": "output_text", "text": "x"})], "input[0].content[0].type", "invalid_value"),
        ([user({"type": "input_image"})], "input[0].content[0].image_url", "missing_required_parameter"),
        (
            [user({"type": "input_image", "image_url": "file:///etc/passwd"})],
            "input[0].content[0].image_url",
            "invalid_image_url",
        ),
        ([{**CALL, "call_id": ""}], "input[0].call_id", "string_below_min_length"),
        ([{**CALL, "call_id": "c" * 65}], "input[0].call_id", "string_above_max_length"),
        ([{**CALL, "name": None}], "input[0].name", "missing_required_parameter"),
    ],
)
def test_what_is_wrong_is_named(items: list[Any], param: str, code: str) -> None:
    assert refused(*items) == (param, code)


def test_an_output_needs_its_call_before_it() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": "x"}
    assert refused(output) == ("input[0].call_id", "invalid_value")
    assert refused(output, CALL) == ("input[0].call_id", "invalid_value")
    assert refused(CALL, {**output, "call_id": "d"}) == ("input[1].call_id", "invalid_value")


def test_an_output_may_answer_a_call_that_is_stored() -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": "x"}
    reference = {"id": "fc_1"}
    assert accept(reference, output)[0] == {"type": "item_reference", "id": "fc_1"}
    continued = {"model": "m", "input": [output], "previous_response_id": "resp_1"}
    assert parse_create(json.dumps(continued).encode()).request.continues


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "compaction", "encrypted_content": "x"}, "input[0].type"),
        ({"type": "mcp_call", "id": "x"}, "input[0].type"),
        (user({"type": "input_file", "file_id": "f"}), "input[0].content[0].type"),
        ({"type": "reasoning", "summary": [], "encrypted_content": "x"}, "input[0].encrypted_content"),
        ({**CALL, "namespace": "n"}, "input[0].namespace"),
    ],
)
def test_what_is_not_served_is_refused(item: Json, param: str) -> None:
    assert refused(item) == (param, "unsupported_parameter")
