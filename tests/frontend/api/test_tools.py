"""Tools, their schemas, and the choice among them."""

import json
from typing import Any

import pytest

from frontend.api.errors import ApiError
from frontend.api.json_schema import SCHEMA_BYTES_MAX
from frontend.api.request import Accepted, parse_create

Json = dict[str, Any]

FUNCTION: Json = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
WEB_SEARCH: Json = {"type": "web_search", "user_location": None, "filters": {"allowed_domains": ["a.example"]}}


def accept(tools: Any, tool_choice: Any = None) -> Accepted:
    """Parse a request with these tools."""
    body = {"model": "m", "input": "x", "tools": tools, "tool_choice": tool_choice}
    return parse_create(json.dumps(body).encode())


def refusal(tools: Any, tool_choice: Any = None) -> ApiError:
    """The error of tools or a choice that must be refused."""
    with pytest.raises(ApiError) as caught:
        accept(tools, tool_choice)
    assert caught.value.status == 400
    return caught.value


def allowed(*names: str) -> Json:
    """A choice of `allowed_tools`."""
    return {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": name} for name in names]}


def test_a_hosted_tool_is_kept_as_sent_and_named_as_omitted() -> None:
    accepted = accept([WEB_SEARCH, FUNCTION, WEB_SEARCH, {"type": "local_shell"}])
    assert accepted.omitted_tools == ("web_search", "local_shell")
    assert json.loads(accepted.wire)["tools"] == [WEB_SEARCH, FUNCTION, WEB_SEARCH, {"type": "local_shell"}]


@pytest.mark.parametrize(
    ("tools", "param", "code"),
    [
        ({}, "tools", "invalid_type"),
        ([3], "tools[0]", "invalid_type"),
        ([{}], "tools[0].type", "missing_required_parameter"),
        ([{"type": 3}], "tools[0].type", "invalid_type"),
        ([{"type": "hammer"}], "tools[0].type", "invalid_value"),
        ([{"type": "custom", "name": "c"}], "tools[0].type", "unsupported_parameter"),
        ([{"type": "mcp", "server_label": "s"}], "tools[0].type", "unsupported_parameter"),
        ([{"type": "namespace", "name": "n"}], "tools[0].type", "unsupported_parameter"),
        ([{"type": "function"}], "tools[0].name", "missing_required_parameter"),
        ([{**FUNCTION, "name": "a b"}], "tools[0].name", "invalid_value"),
        ([{**FUNCTION, "name": "f\n"}], "tools[0].name", "invalid_value"),
        ([{**FUNCTION, "name": "f" * 129}], "tools[0].name", "invalid_value"),
        ([FUNCTION, FUNCTION], "tools[1].name", "invalid_value"),
        ([{**FUNCTION, "strict": "yes"}], "tools[0].strict", "invalid_type"),
        ([{**FUNCTION, "parameters": []}], "tools[0].parameters", "invalid_type"),
        ([{**FUNCTION, "defer_loading": True}], "tools[0].defer_loading", "unsupported_parameter"),
    ],
)
def test_what_is_wrong_is_named(tools: Any, param: str, code: str) -> None:
    error = refusal(tools)
    assert (error.param, error.code) == (param, code)


def test_what_asks_for_nothing_is_no_reason_to_refuse() -> None:
    tool = {**FUNCTION, "defer_loading": False, "allowed_callers": None, "strict": None}
    assert accept([tool]).wire == accept([FUNCTION]).wire


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "strin"}, "tools[0].parameters.type"),
        ({"properties": {"a": {"items": [{}]}}}, "tools[0].parameters.properties.a.items"),
        ({"anyOf": [{}, 3]}, "tools[0].parameters.anyOf[1]"),
        ({"required": "a"}, "tools[0].parameters.required"),
    ],
)
def test_a_message_says_where_a_schema_is_wrong(schema: Json, place: str) -> None:
    error = refusal([{**FUNCTION, "parameters": schema}])
    assert (error.param, error.code) == ("tools[0].parameters", "invalid_json_schema")
    assert f"'{place}'" in error.message


@pytest.mark.parametrize(
    "dialect", ["http://json-schema.org/draft-07/schema#", "https://example.org/a-dialect-of-ours"]
)
def test_a_schema_may_name_its_dialect(dialect: str) -> None:
    schema = {"$schema": dialect, "type": "object"}
    assert json.loads(accept([{**FUNCTION, "parameters": schema}]).wire)["tools"][0]["parameters"] == schema


def test_a_text_formats_schema_is_checked_too() -> None:
    text = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "strin"}}}
    with pytest.raises(ApiError) as caught:
        parse_create(json.dumps({"model": "m", "input": "x", "text": text}).encode())
    assert (caught.value.param, caught.value.code) == ("text.format.schema", "invalid_json_schema")


@pytest.mark.parametrize(
    "choice", ["none", "auto", "required", {"type": "function", "name": "f"}, allowed("f"), allowed(*["f"] * 128)]
)
def test_choices(choice: Any) -> None:
    assert json.loads(accept([FUNCTION], choice).wire)["tool_choice"] == choice


@pytest.mark.parametrize(
    ("choice", "param", "code"),
    [
        ("always", "tool_choice", "invalid_value"),
        (3, "tool_choice", "invalid_type"),
        ({}, "tool_choice.type", "missing_required_parameter"),
        ({"type": "hammer"}, "tool_choice.type", "invalid_value"),
        ({"type": "function"}, "tool_choice.name", "missing_required_parameter"),
        ({"type": "function", "name": "g"}, "tool_choice.name", "invalid_value"),
        ({"type": "web_search"}, "tool_choice.type", "unsupported_parameter"),
        ({"type": "mcp", "server_label": "s"}, "tool_choice.type", "unsupported_parameter"),
        (allowed(), "tool_choice.tools", "array_below_min_length"),
        (allowed(*["f"] * 129), "tool_choice.tools", "array_above_max_length"),
        (allowed("f", "g"), "tool_choice.tools[1].name", "invalid_value"),
        ({**allowed("f"), "mode": "maybe"}, "tool_choice.mode", "invalid_value"),
        ({"type": "allowed_tools", "tools": [{"type": "web_search"}]}, "tool_choice.tools[0].type", "invalid_value"),
    ],
)
def test_a_choice_that_can_not_be_had_is_refused(choice: Any, param: str, code: str) -> None:
    error = refusal([FUNCTION, WEB_SEARCH], choice)
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize("tools", [None, [], [WEB_SEARCH]])
def test_a_call_can_not_be_required_where_there_is_nothing_to_call(tools: Any) -> None:
    assert refusal(tools, "required").param == "tool_choice"
    assert accept(tools, "none").request.tool_choice == "none"


def test_schemas_that_would_hold_up_a_worker_are_refused() -> None:
    def tools(count: int, schema_bytes: int) -> list[Json]:
        schema = {"type": "object", "description": "x" * schema_bytes}
        return [{"type": "function", "name": f"f{number}", "parameters": schema} for number in range(count)]

    accept(tools(2, SCHEMA_BYTES_MAX // 3))
    together, alone = refusal(tools(5, SCHEMA_BYTES_MAX // 4)), refusal(tools(1, SCHEMA_BYTES_MAX))
    assert (together.param, together.code) == ("tools", "json_schema_too_large")
    assert (alone.param, alone.code) == ("tools[0].parameters", "json_schema_too_large")
