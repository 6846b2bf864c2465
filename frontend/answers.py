"""What endpoints share: what they find in the application, and how they answer."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from frontend.api.conversations import list_json
from frontend.config import Settings
from frontend.contexts import Contexts
from frontend.links import Links
from frontend.store.errors import UnknownCursor
from frontend.store.pages import Page, PageWish, StoredItem
from frontend.store.store import Store

LINKS: Final = web.AppKey("links", Links)
STORE: Final = web.AppKey("store", Store)
CONTEXTS: Final = web.AppKey("contexts", Contexts)
SETTINGS: Final = web.AppKey("settings", Settings)
STARTED_AT: Final = web.RequestKey("started_at", float)
"""When the request came in, in monotonic seconds."""
RESPONSE_ID: Final = web.RequestKey("response_id", str)
"""Set once the response exists; it is then on the answer, whatever becomes of it."""
OMITTED_TOOLS: Final = web.RequestKey("omitted_tools", str)
"""The tools that the model does not get to see, which the answer names."""


def json_answer(value: Mapping[str, Any]) -> web.Response:
    """A JSON answer."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def page_answer(page: Page) -> web.Response:
    """A page of items."""
    items = [item.json for item in page.items]
    body = list_json(items, [item.item_id for item in page.items], has_more=page.has_more)
    return web.Response(body=body, content_type="application/json")


def page_of(items: Sequence[Mapping[str, Any]], wish: PageWish) -> Page:
    """A page of items that are at hand, oldest first. Raises `UnknownCursor`."""
    listed = list(reversed(items) if wish.descending else items)
    ids = [item["id"] for item in listed]
    for cursor in (wish.after, wish.before):
        if cursor is not None and cursor not in ids:
            raise UnknownCursor(cursor)
    first = 0 if wish.after is None else ids.index(wish.after) + 1
    end = len(ids) if wish.before is None else ids.index(wish.before)
    backwards = wish.before is not None and wish.after is None
    part = slice(max(first, end - wish.limit), end) if backwards else slice(first, min(end, first + wish.limit))
    chosen = [StoredItem(item["id"], msgspec.json.encode(item)) for item in listed[part]]
    return Page(chosen, has_more=part.start > first if backwards else part.stop < end)
