"""Conversations: the bodies of their requests, and the objects of their answers (spec: "Conversations API")."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from frontend.api.errors import invalid
from frontend.api.items import Item, ItemReference, check_items, with_types
from frontend.api.request import Metadata, UnknownFields, decoded, refuse_strays
from frontend.api.validation import ApiObject, read, strays

ITEMS_MAX = 20
"""Items that one request may add."""

Json = dict[str, Any]
Items = Annotated[list[Item], Meta(max_length=ITEMS_MAX)]


class NewConversation(ApiObject, frozen=True):
    """A conversation to be made."""

    items: Items | None = None
    metadata: Metadata | None = None


class ConversationUpdate(ApiObject, frozen=True):
    """What a conversation's metadata is to be from now on."""

    metadata: Metadata | None = None


class NewItems(ApiObject, frozen=True):
    """Items to be added to a conversation."""

    items: Annotated[list[Item], Meta(min_length=1, max_length=ITEMS_MAX)]


Body = TypeVar("Body", NewConversation, ConversationUpdate, NewItems)


def parse(body: bytes, kind: type[Body], unknown_fields: UnknownFields) -> Body:
    """Validate a body; an empty one asks for nothing. Raises `ApiError` (400) that names the parameter."""
    sent = decoded(body) if body.strip() else {}
    spelled = {**sent, "items": with_types(sent["items"])} if "items" in sent else sent
    parsed = read(spelled, kind)
    refuse_strays(strays(spelled, msgspec.to_builtins(parsed)), unknown_fields)
    items = getattr(parsed, "items", None) or ()
    check_items(items, continues=True)
    for index, item in enumerate(items):
        if isinstance(item, ItemReference):
            raise invalid(f"items[{index}].type", "An item_reference can't be added to a conversation; send the item.")
    return parsed


def conversation_json(conversation_id: str, created_at: int, metadata: Mapping[str, str]) -> Json:
    """A conversation as the API shows it."""
    return {"id": conversation_id, "object": "conversation", "created_at": created_at, "metadata": dict(metadata)}


def list_json(items: Sequence[bytes], ids: Sequence[str], *, has_more: bool) -> bytes:
    """A page of items, each encoded already and named by its id, as the API shows a list."""
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    page = {"object": "list", "data": [msgspec.Raw(item) for item in items]}
    return msgspec.json.encode({**page, "first_id": first, "last_id": last, "has_more": has_more})
