"""What a create body must be: accepted in one canonical form, or refused with the parameter named."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from frontend.api.errors import ApiError
from frontend.api.request import Accepted, RequestSettings, parse_create, parse_wire
from frontend.projection import Projection
from protocol.records import Opened

Json = dict[str, Any]

FUNCTION: Json = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}


def accept(**fields: Any) -> Accepted:
    """Parse a body with a model, an input and these fields."""
    return parse_create(json.dumps({"model": "m", "input": "x", **fields}).encode())


def refusal(body: bytes) -> ApiError:
    """The error of a body that must be refused, which is always the client's."""
    with pytest.raises(ApiError) as caught:
        parse_create(body)
    assert (caught.value.status, caught.value.type) == (400, "invalid_request_error")
    return caught.value


def refused(**fields: Any) -> tuple[str | None, str | None]:
    """The parameter and code with which these fields are refused."""
    error = refusal(json.dumps({"model": "m", "input": "x", **fields}).encode())
    return error.param, error.code


def test_the_smallest_request() -> None:
    accepted = accept()
    assert accepted.wire == b'{"model":"m","input":"x"}'
    assert (accepted.request.model, accepted.request.input, accepted.omitted_tools) == ("m", "x", ())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"{", "not valid JSON"),
        (b'{"model": "m",}', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"model": NaN}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"model":' + b"[" * 128 + b"]" * 128 + b"}", "nested deeper"),
        (b"[]", "expected an object, got an array"),
        (b'"x"', "expected an object, got a string"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, words: str) -> None:
    error = refusal(body)
    assert words in error.message
    assert error.param is None


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": ""}, "model", "string_below_min_length"),
        ({"model": 3}, "model", "invalid_type"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": 3}, "input", "invalid_type"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": "x" * 10_485_761}, "input", "string_above_max_length"),
        ({"temperature": -1}, "temperature", "decimal_below_min_value"),
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
        ({"temperature": "1"}, "temperature", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
        ({"presence_penalty": -2.1}, "presence_penalty", "decimal_below_min_value"),
        ({"frequency_penalty": 2.1}, "frequency_penalty", "decimal_above_max_value"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"max_output_tokens": 1}, "max_output_tokens", "integer_below_min_value"),
        ({"max_output_tokens": 10**30}, "max_output_tokens", "integer_above_max_value"),
        ({"max_output_tokens": 16.5}, "max_output_tokens", "invalid_type"),
        ({"max_tool_calls": 0}, "max_tool_calls", "integer_below_min_value"),
        ({"min_tokens": 17, "max_output_tokens": 16}, "min_tokens", "invalid_value"),
        ({"seed": 2**63}, "seed", "integer_above_max_value"),
        ({"repetition_penalty": 0}, "repetition_penalty", "decimal_below_min_value"),
        ({"stop": ["a", ""]}, "stop[1]", "string_below_min_length"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {}}, "stream_options", "invalid_value"),
        ({"truncation": "middle"}, "truncation", "invalid_value"),
        ({"service_tier": "express"}, "service_tier", "invalid_value"),
        ({"include": ["everything"]}, "include[0]", "invalid_value"),
        ({"reasoning": {"effort": "heroic"}}, "reasoning.effort", "invalid_value"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata", "object_above_max_length"),
        ({"metadata": {"k" * 65: ""}}, "metadata", "string_above_max_length"),
        ({"metadata": {"k": "v" * 513}}, "metadata", "string_above_max_length"),
        ({"metadata": {"k": 1}}, "metadata", "invalid_type"),
        ({"prompt_cache_key": "k" * 65}, "prompt_cache_key", "string_above_max_length"),
        ({"safety_identifier": "s" * 65}, "safety_identifier", "string_above_max_length"),
        ({"text": {"verbosity": "loud"}}, "text.verbosity", "invalid_value"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a b", "schema": {}}}},
            "text.format.name",
            "invalid_value",
        ),
    ],
)
def test_what_is_wrong_is_named(fields: Json, param: str, code: str) -> None:
    assert refused(**fields) == (param, code)


def test_missing_fields_are_named() -> None:
    assert refusal(b'{"input": "x"}').param == "model"
    assert refusal(b'{"model": "m"}').param == "input"


def test_a_message_says_what_was_sent_and_what_would_be_right() -> None:
    assert refusal(b'{"model":"m","input":"x","temperature":3}').message == (
        "Invalid 'temperature': expected a number <= 2, got 3."
    )
    assert refusal(b'{"model":"m","input":"x","truncation":"no"}').message == (
        "Invalid value for 'truncation': 'no'. Supported values are: 'auto', 'disabled'."
    )


def test_a_message_repeats_little_of_a_long_value() -> None:
    error = refusal(json.dumps({"model": "m", "input": "x", "truncation": "secret" * 1000}).encode())
    assert len(error.message) < 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"colour": "blue"}, "colour"),
        ({"text": {"colour": 1}}, "text.colour"),
        ({"tools": [FUNCTION, {**FUNCTION, "name": "g", "colour": 1}]}, "tools[1].colour"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "", "colour": 1}]}]},
            "input[0].content[0].colour",
        ),
        ({"text": {"format": {"type": "text", "colour": 1}}}, "text.format.colour"),
    ],
)
def test_an_unknown_field_is_refused_by_name_or_left_out(fields: Json, param: str) -> None:
    assert refused(**fields) == (param, "unknown_parameter")
    body = json.dumps({"model": "m", "input": "x", **fields}).encode()
    assert b"colour" not in parse_create(body, unknown_fields="ignore").wire


def test_free_form_objects_keep_every_key() -> None:
    schema = {"type": "object", "properties": {"b": {"enum": [None, 1]}, "a": {"default": None}}}
    free: Json = {"chat_template_kwargs": {"any": {"thing": None}}, "tools": [{**FUNCTION, "parameters": schema}]}
    wire = json.loads(accept(**free).wire)
    assert wire["chat_template_kwargs"] == free["chat_template_kwargs"]
    assert list(wire["tools"][0]["parameters"]["properties"]) == ["b", "a"]
    assert wire["tools"][0]["parameters"] == schema


def test_what_is_not_served_is_refused_unless_it_asks_for_nothing() -> None:
    assert refused(include=["reasoning.encrypted_content"]) == ("include[0]", "unsupported_parameter")
    assert accept(moderation=False).wire == accept().wire
    with pytest.raises(ApiError, match="'prompt' is not supported"):
        parse_create(b'{"model": "m", "prompt": {"id": "p"}}', unknown_fields="ignore")


def test_null_means_absent() -> None:
    fields = dict.fromkeys(set(RequestSettings.__struct_fields__) - {"model"})
    assert accept(**fields, colour=None).wire == accept().wire


def test_what_is_continued_is_named_in_one_way() -> None:
    conversation = {"id": "conv_1"}
    assert accept(conversation="conv_1").wire == accept(conversation=conversation).wire
    assert parse_create(b'{"model": "m", "conversation": "conv_1"}').request.input == []
    assert parse_create(b'{"model": "m", "previous_response_id": "resp_1"}').request.input == []
    both = refused(conversation="conv_1", previous_response_id="resp_1")
    assert both == ("previous_response_id", "mutually_exclusive_parameters")


def test_a_background_response_must_be_stored() -> None:
    assert accept(background=True).request.background
    assert refused(background=True, store=False) == ("background", "invalid_value")
    assert refused(background="yes") == ("background", "invalid_type")


def test_equal_requests_give_equal_bytes() -> None:
    body = b'{"temperature":1,"metadata":null,"input":[{"content":"x","role":"user"}],"model":"m"}'
    again = b'{"model": "m", "input": [{"type": "message", "role": "user", "content": "x"}], "temperature": 1.0}'
    assert parse_create(body).wire == parse_create(again).wire


def test_what_was_accepted_is_read_again_without_its_input() -> None:
    accepted = accept(temperature=0.5, tools=[FUNCTION], tool_choice="required", text={"format": {"type": "text"}})
    read = parse_wire(accepted.wire)
    assert not hasattr(read, "input")
    assert {name: getattr(accepted.request, name) for name in RequestSettings.__struct_fields__} == {
        name: getattr(read, name) for name in RequestSettings.__struct_fields__
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [], "text": {}},
        {"input": "", "instructions": None},
        {"input": [], "instructions": "Greet me."},
        {"max_output_tokens": 16, "min_tokens": 16, "top_logprobs": 20, "temperature": 0, "top_p": 0, "top_k": -1},
        {"service_tier": "auto", "truncation": "auto", "store": False, "background": False},
        {"reasoning": {"effort": "xhigh", "summary": "auto"}, "include": ["message.output_text.logprobs"]},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"client_metadata": {"a": "b"}, "user": "u", "safety_identifier": "s", "prompt_cache_key": "k"},
        {"stop": "END", "seed": -1, "ignore_eos": True, "priority": 3, "cache_salt": "s", "min_p": 0.1},
    ],
)
def test_what_clients_send_is_accepted(fields: Json) -> None:
    accept(**fields)


FULL: Json = {
    "model": "m",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "x"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ],
    "tools": [FUNCTION],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
    "reasoning": {"effort": "low"},
    "metadata": {"k": "v"},
    "temperature": 1,
    "stop": ["a"],
    "include": ["message.output_text.logprobs"],
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def nearly_right_requests(draw: st.DrawFn) -> Json:
    """A request that uses everything, with one value somewhere in it replaced, or one key added."""
    request: Json = json.loads(json.dumps(FULL))
    node: Any = request
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys)) if keys else draw(st.text(max_size=3))
        if isinstance(node[key], dict | list) and node[key] and draw(st.booleans()):
            node = node[key]
            continue
        if isinstance(node, dict) and draw(st.booleans()):
            key = draw(st.text(max_size=3))
        node[key] = draw(json_values)
        return request


def outcome(body: bytes) -> Accepted | ApiError:
    """What becomes of a body; nothing else may be raised."""
    try:
        return parse_create(body)
    except ApiError as error:
        return error


@given(nearly_right_requests())
def test_any_request_is_refused_by_name_or_accepted_for_good(request: Json) -> None:
    result = outcome(json.dumps(request).encode())
    if isinstance(result, ApiError):
        assert result.status == 400
        assert result.param is not None
        return
    assert parse_create(result.wire).wire == result.wire
    projection = Projection()
    projection.apply(Opened("resp_0", 1, result.wire))
    Response.model_validate_json(json.dumps(projection.response()), strict=True)
