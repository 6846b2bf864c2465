"""Judges of events and response objects: OpenAI's types, the Open Responses document, and the order of a stream."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
from openai import BaseModel
from openai.types.responses import ResponseStreamEvent

Json = dict[str, Any]

TERMINAL = {"response.completed", "response.incomplete", "response.failed"}

BEYOND_OPENAI = {
    # Open Responses has these and OpenAI's types do not.
    ("Response", "frequency_penalty"),
    ("Response", "presence_penalty"),
    ("Response", "store"),
    ("ResponseErrorEvent", "error"),
    ("ResponseFunctionCallArgumentsDeltaEvent", "obfuscation"),
    ("ResponseReasoningTextDeltaEvent", "obfuscation"),
    ("ResponseTextDeltaEvent", "obfuscation"),
    ("Logprob", "bytes"),
    ("LogprobTopLogprob", "bytes"),
    # OpenAI's types had this until openai 3, and required it.
    ("ResponseFunctionCallArgumentsDoneEvent", "name"),
    # vLLM's fields, echoed when sent.
    *(
        ("Response", name)
        for name in (
            "chat_template_kwargs",
            "ignore_eos",
            "min_p",
            "min_tokens",
            "priority",
            "repetition_penalty",
            "seed",
            "stop",
            "top_k",
        )
    ),
}
"""(model, field): what we send although OpenAI's types don't name it."""

BEYOND_OPEN_RESPONSES = {"response.reasoning_text.delta", "response.reasoning_text.done"}
"""Event types of the openai dialect that Open Responses does not have."""


def openai_event(body: bytes) -> BaseModel:
    """The event as OpenAI's strictest type for it; fails where a field is wrong, missing, or unknown to everybody."""
    kind = json.loads(body)["type"]
    event = _openai_models()[kind].model_validate_json(body, strict=True)
    assert set(_extras(event)) <= BEYOND_OPENAI
    return event


def open_responses_complaints(body: bytes) -> list[str]:
    """What the Open Responses document holds against an event."""
    event = json.loads(body)
    if event["type"] in BEYOND_OPEN_RESPONSES:
        return []
    return [error.message for error in _open_responses_validators()[event["type"]].iter_errors(event)]


def response_complaints(response: Json) -> list[str]:
    """What the Open Responses document holds against a response object."""
    return [error.message for error in _open_responses_validator("ResponseResource").iter_errors(response)]


def check_stream(bodies: list[bytes]) -> None:
    """A whole stream is in order: numbers, one terminal event, each item and part opened, filled and closed once."""
    events: list[Json] = [json.loads(body) for body in bodies]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    assert [index for index, event in enumerate(events) if event["type"] in TERMINAL] == [len(events) - 1]
    assert [event["type"] for event in events if event["type"] == "error"] == ["error"] * _failed(events[-1])
    assert not any(b"\n" in body for body in bodies)
    added = [event for event in events if event["type"] == "response.output_item.added"]
    assert [event["output_index"] for event in added] == list(range(len(added)))
    assert [_item_from_its_events(events, index) for index in range(len(added))] == events[-1]["response"]["output"]
    _check_one_item_at_a_time(events)


def _failed(terminal: Json) -> bool:
    return bool(terminal["type"] == "response.failed")


def _item_from_its_events(events: list[Json], index: int) -> Json:
    """The item as the events of `output_index` tell it; fails where they contradict each other."""
    own = [event for event in events if event.get("output_index") == index]
    added, *inner, done = own
    assert added["type"] == "response.output_item.added"
    assert done["type"] == "response.output_item.done"
    assert {event["item_id"] for event in inner} == {added["item"]["id"]} == {done["item"]["id"]}
    written = "".join(event["delta"] for event in inner if event["type"].endswith(".delta"))
    item: Json = done["item"]
    if item["type"] == "function_call":
        assert [event["type"] for event in inner if not event["type"].endswith(".delta")] == [inner[-1]["type"]]
        assert added["item"] == item | {"arguments": "", "status": "in_progress"}
        assert (inner[-1]["name"], inner[-1]["arguments"], item["arguments"]) == (item["name"], written, written)
        return item
    assert added["item"] == item | {"content": [], "status": "in_progress"}
    part_added, *_, text_done, part_done = inner
    assert part_added["type"] == "response.content_part.added"
    assert part_added["part"]["text"] == ""
    assert part_done["type"] == "response.content_part.done"
    assert text_done["text"] == part_done["part"]["text"] == written
    assert item["content"] == [part_done["part"]]
    logprobs = [entry for event in inner if event["type"].endswith(".delta") for entry in event.get("logprobs", ())]
    assert text_done.get("logprobs", []) == part_done["part"].get("logprobs", []) == logprobs
    return item


def _check_one_item_at_a_time(events: list[Json]) -> None:
    open_index: int | None = None
    for event in events:
        match event["type"]:
            case "response.output_item.added":
                assert open_index is None
                open_index = event["output_index"]
            case "response.output_item.done":
                assert open_index == event["output_index"]
                open_index = None
            case _:
                assert event.get("output_index") in (None, open_index)
    assert open_index is None


@cache
def _openai_models() -> dict[str, type[BaseModel]]:
    """Event type -> OpenAI's model of it."""
    union = get_args(ResponseStreamEvent)[0]
    return {get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(union)}


def _extras(value: Any) -> Iterator[tuple[str, str]]:
    """(model, field) of everything in the model that its type does not name."""
    if isinstance(value, BaseModel):
        yield from ((type(value).__name__, name) for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from _extras(getattr(value, name))
    elif isinstance(value, list):
        for element in value:
            yield from _extras(element)


@cache
def _open_responses() -> Json:
    path = Path(__file__).parents[1] / "recordings" / "open-responses-2026-04-24.json"
    document: Json = json.loads(path.read_text())
    # The document allows only null here, plainly a slip: its own request schema takes an object.
    document["components"]["schemas"]["JsonSchemaResponseFormat"]["properties"]["schema"] = {"type": "object"}
    return document


@cache
def _open_responses_validators() -> dict[str, jsonschema_rs.Draft202012Validator]:
    """Event type -> the validator of its schema."""
    events = {
        name: schema for name, schema in _open_responses()["components"]["schemas"].items() if "Streaming" in name
    }
    return {schema["properties"]["type"]["enum"][0]: _open_responses_validator(name) for name, schema in events.items()}


@cache
def _open_responses_validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = {"$ref": f"#/components/schemas/{name}", "components": _open_responses()["components"]}
    return jsonschema_rs.Draft202012Validator(schema)
