"""The endpoints of conversations: what is asked of the store, and how it is answered."""

import secrets
import time
from collections.abc import Sequence
from typing import Final

import msgspec
from aiohttp import web

from frontend import parameters
from frontend.answers import SETTINGS, STORE, json_answer, page_answer
from frontend.api.conversations import ConversationUpdate, NewConversation, NewItems, conversation_json, parse
from frontend.api.errors import conversation_not_found, item_not_found
from frontend.api.items import Item
from frontend.api.stored_items import as_stored
from frontend.store.conversations import Conversation
from frontend.store.pages import Page, StoredItem
from frontend.tenants.access import TENANT

_NO_METADATA: Final = b"{}"


async def create_conversation(request: web.Request) -> web.Response:
    """POST /v1/conversations."""
    settings = request.app[SETTINGS]
    body = await parameters.body_of(request, settings.body_bytes_max)
    new = parse(body, NewConversation, settings.unknown_fields)
    metadata = msgspec.json.encode(new.metadata or {})
    conversation_id = "conv_" + secrets.token_hex(16)
    conversation = Conversation(conversation_id, request[TENANT], int(time.time()), metadata)
    await request.app[STORE].conversations.create(conversation, _named(new.items or ()))
    return _answer(conversation)


async def get_conversation(request: web.Request) -> web.Response:
    """GET /v1/conversations/{conversation_id}."""
    return _answer(await _found(request))


async def update_conversation(request: web.Request) -> web.Response:
    """POST /v1/conversations/{conversation_id}: new metadata in place of the old."""
    settings, conversation_id = request.app[SETTINGS], _id(request)
    body = await parameters.json_body(request, settings.body_bytes_max)
    update = parse(body, ConversationUpdate, settings.unknown_fields)
    metadata = msgspec.json.encode(update.metadata or {})
    store = request.app[STORE]
    conversation = await store.conversations.set_metadata(request[TENANT], conversation_id, metadata)
    if conversation is None:
        raise conversation_not_found(conversation_id)
    return _answer(conversation)


async def delete_conversation(request: web.Request) -> web.Response:
    """DELETE /v1/conversations/{conversation_id}: with its items; responses made in it stay."""
    conversation_id = _id(request)
    if not await request.app[STORE].conversations.delete(request[TENANT], conversation_id):
        raise conversation_not_found(conversation_id)
    return json_answer({"id": conversation_id, "object": "conversation.deleted", "deleted": True})


async def list_items(request: web.Request) -> web.Response:
    """GET /v1/conversations/{conversation_id}/items."""
    conversation_id, wish = _id(request), parameters.page(request)
    page = await request.app[STORE].conversation_items.page(request[TENANT], conversation_id, wish)
    if page is None:
        raise conversation_not_found(conversation_id)
    return page_answer(page)


async def add_items(request: web.Request) -> web.Response:
    """POST /v1/conversations/{conversation_id}/items; answers with the items as they are kept."""
    settings, conversation_id = request.app[SETTINGS], _id(request)
    parameters.include(request)
    body = await parameters.json_body(request, settings.body_bytes_max)
    items = _named(parse(body, NewItems, settings.unknown_fields).items)
    if not await request.app[STORE].conversation_items.add(request[TENANT], conversation_id, items):
        raise conversation_not_found(conversation_id)
    return page_answer(Page(items, has_more=False))


async def get_item(request: web.Request) -> web.Response:
    """GET /v1/conversations/{conversation_id}/items/{item_id}."""
    parameters.include(request)
    item_id = request.match_info["item_id"]
    item = await request.app[STORE].conversation_items.get(request[TENANT], _id(request), item_id)
    if item is None:
        raise item_not_found(item_id)
    return web.Response(body=item.json, content_type="application/json")


async def delete_item(request: web.Request) -> web.Response:
    """DELETE /v1/conversations/{conversation_id}/items/{item_id}; answers with the conversation."""
    item_id = request.match_info["item_id"]
    if not await request.app[STORE].conversation_items.delete(request[TENANT], _id(request), item_id):
        raise item_not_found(item_id)
    return _answer(await _found(request))


def _id(request: web.Request) -> str:
    return request.match_info["conversation_id"]


async def _found(request: web.Request) -> Conversation:
    conversation_id = _id(request)
    conversation = await request.app[STORE].conversations.get(request[TENANT], conversation_id)
    if conversation is None:
        raise conversation_not_found(conversation_id)
    return conversation


def _answer(conversation: Conversation) -> web.Response:
    metadata = msgspec.json.decode(conversation.metadata or _NO_METADATA, type=dict[str, str])
    return json_answer(conversation_json(conversation.conversation_id, conversation.created_at, metadata))


def _named(items: Sequence[Item]) -> list[StoredItem]:
    """The items in full, as they are kept."""
    stored = as_stored(items, secrets.token_hex(16))
    return [StoredItem(item["id"], msgspec.json.encode(item)) for item in stored]
