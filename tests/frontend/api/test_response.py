"""The response object: all fields always, the API's defaults, and an echo of everything that was sent."""

import json
from typing import Any

from frontend.api.request import parse_create, parse_wire
from frontend.api.response import error_json, new_response
from protocol.records import ErrorDetail, Opened, SamplingDefaults
from tests.recordings.logs import read_events, read_log

Json = dict[str, Any]


def response(**fields: Any) -> Json:
    """The response to a request with these fields, as it is opened."""
    wire = parse_create(json.dumps({"model": "m", "input": "x", **fields}).encode()).wire
    return new_response(Opened("resp_1", 1764000000, wire), parse_wire(wire))


def test_every_field_is_there_with_the_apis_default() -> None:
    assert response() == {
        "id": "resp_1",
        "object": "response",
        "created_at": 1764000000,
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "conversation": None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "model": "m",
        "output": [],
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def test_what_was_sent_is_echoed() -> None:
    opened = read_log("every_field")[0]
    assert isinstance(opened, Opened)
    sent: Json = json.loads(opened.request)
    echo = json.loads(read_events("every_field")[0])["response"]
    not_shown = {"input", "include", "stream", "stream_options", "client_metadata", "cache_salt"}
    sent["text"]["format"] |= {"description": None, "strict": False}
    assert {name: echo.get(name) for name in sent.keys() - not_shown} == {
        name: value for name, value in sent.items() if name not in not_shown
    }
    assert echo.keys().isdisjoint(not_shown)


def test_zero_and_false_are_no_defaults() -> None:
    echo = response(temperature=0, top_p=0, store=False, parallel_tool_calls=False)
    assert (echo["temperature"], echo["top_p"], echo["store"], echo["parallel_tool_calls"]) == (0.0, 0.0, False, False)


def test_what_was_not_sent_is_echoed_as_the_model_uses_it() -> None:
    wire = parse_create(b'{"model": "m", "input": "x", "top_p": 0.5}').wire
    opened = Opened("resp_1", 1764000000, wire, sampling=SamplingDefaults(temperature=0.3, top_p=0.9))
    echo = new_response(opened, parse_wire(wire))
    assert (echo["temperature"], echo["top_p"]) == (0.3, 0.5)


def test_a_function_is_echoed_with_all_its_fields_and_a_hosted_tool_as_sent() -> None:
    hosted = {"type": "web_search", "filters": None}
    assert response(tools=[{"type": "function", "name": "f"}, hosted])["tools"] == [
        {"type": "function", "name": "f", "description": None, "parameters": None, "strict": None},
        hosted,
    ]


def test_allowed_tools_are_echoed_with_their_mode_and_tools_in_full() -> None:
    function = {"type": "function", "name": "f"}
    echo = response(tools=[function], tool_choice={"type": "allowed_tools", "tools": [function]})
    assert echo["tool_choice"] == {"type": "allowed_tools", "mode": "auto", "tools": [function]}
    assert len(echo["tools"]) == 1


def test_an_automatic_service_tier_is_shown_as_the_one_it_was() -> None:
    tiers = ("auto", "default", "flex", "priority")
    assert [response(service_tier=tier)["service_tier"] for tier in tiers] == ["default", "default", "flex", "priority"]


def test_an_errors_code_is_one_of_openais_and_its_type_our_own() -> None:
    kinds = {"server_error": "server_error", "invalid_request_error": "invalid_prompt"}
    details = {kind: ErrorDetail(kind, "engine_lost", "Gone.") for kind in kinds}
    assert {kind: error_json(detail)["code"] for kind, detail in details.items()} == kinds
    assert error_json(details["server_error"]) == {
        "code": "server_error",
        "message": "Gone.",
        "type": "server_error",
        "param": None,
    }
