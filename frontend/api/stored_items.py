"""Items as they are stored and listed, and requests put together with those that came before them. Pure.

A stored item has an id, a status and its content in parts, whatever its sender left away. Ids that clients made are
kept: they need not be unique, and nothing here assumes that they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from frontend.api.errors import invalid, item_not_found
from frontend.api.items import (
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    Message,
    Reasoning,
)
from frontend.api.request import CreateRequest
from frontend.api.validation import read
from protocol.records import Opened

Json = dict[str, Any]

_PREFIX_OF_TYPE: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
}


class Context(msgspec.Struct, frozen=True):
    """A request whose input is complete: its canonical JSON, and how many of its first items are history."""

    wire: bytes
    history_items: int


class _Input(msgspec.Struct):
    """The part of an accepted body that holds the items."""

    input: str | list[Item]


def references(request: CreateRequest) -> list[str]:
    """The ids of the stored items that the request refers to, in order."""
    items = request.input if isinstance(request.input, list) else []
    return [item.id for item in items if isinstance(item, ItemReference)]


def with_history(request: CreateRequest, history: Sequence[Json], referenced: Mapping[str, Json]) -> Context:
    """Put what came before (`history`, stored items) before the request's own input, and items for references to them.

    Raises `ApiError` (400, 404) where a reference leads nowhere, or an output answers no call.
    """
    before = read(list(history), list[Item])
    own = [_referenced(item, index, referenced) for index, item in enumerate(as_items(request.input))]
    _check_outputs([*before, *own], len(before))
    complete = msgspec.structs.replace(request, input=[*before, *own])
    return Context(msgspec.json.encode(complete), len(before))


def own_items(opened: Opened) -> list[Json]:
    """The items that this response's request brought itself, as they are stored."""
    items = as_items(msgspec.json.decode(opened.request, type=_Input).input)
    return as_stored(items[opened.history_items :], opened.response_id.removeprefix("resp_") + "_in")


def without_history(opened: Opened) -> Opened:
    """The same with the response's own input alone: no event tells more, and what came before has a life of its own.

    It may be deleted before this response is.
    """
    if not opened.history_items:
        return opened
    request: Json = msgspec.json.decode(opened.request)
    request["input"] = request["input"][opened.history_items :]
    return msgspec.structs.replace(opened, request=msgspec.json.encode(request), history_items=0)


def as_items(sent: str | list[Item]) -> list[Item]:
    """An input as items: a string is a user's message."""
    return [Message(role="user", content=sent)] if isinstance(sent, str) else sent


def as_stored(items: Sequence[Item], stem: str) -> list[Json]:
    """Items in full; those without an id get one of `stem` and their place in the sequence."""
    return [_stored(item, f"{stem}_{index}") for index, item in enumerate(items)]


def _stored(item: Item, name: str) -> Json:
    full: Json = msgspec.to_builtins(item)
    full.setdefault("id", f"{_PREFIX_OF_TYPE.get(full['type'], 'item')}_{name}")
    full.setdefault("status", "completed")
    match item:
        case Message():
            full["content"] = [_part(part) for part in _parts(item)]
        case Reasoning():
            full.setdefault("summary", [])
        case FunctionCall() | FunctionCallOutput() | ItemReference():
            pass
    return full


def _parts(message: Message) -> list[Json]:
    if isinstance(message.content, str):
        kind = "output_text" if message.role == "assistant" else "input_text"
        return [{"type": kind, "text": message.content}]
    parts: list[Json] = msgspec.to_builtins(message.content)
    return parts


def _part(part: Json) -> Json:
    """A content part with all that readers of stored items expect."""
    match part["type"]:
        case "output_text":
            return {"annotations": [], "logprobs": [], **part}
        case "input_image":
            return {"detail": "auto", **part}
        case _:
            return part


def _referenced(item: Item, index: int, referenced: Mapping[str, Json]) -> Item:
    if not isinstance(item, ItemReference):
        return item
    found = referenced.get(item.id)
    if found is None:
        raise item_not_found(item.id, f"input[{index}].id")
    return read([found], list[Item])[0]


def _check_outputs(items: Sequence[Item], history_items: int) -> None:
    """See that every output of the request's own answers a call; the path in the error is one of its own input."""
    calls = {item.call_id for item in items if isinstance(item, FunctionCall)}
    for index, item in enumerate(items[history_items:]):
        if isinstance(item, FunctionCallOutput) and item.call_id not in calls:
            message = f"No function call found for the function call output with call_id '{item.call_id}'."
            raise invalid(f"input[{index}].call_id", message)
