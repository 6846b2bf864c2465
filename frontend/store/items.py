"""The items of stored responses: input items by page, items by id, and the history of a chain."""

from collections.abc import Collection, Sequence
from typing import Final, Literal

import msgspec
from sqlalchemy import Connection, Row, Select, and_, literal, select

from frontend.store.database import Database
from frontend.store.pages import Page, PageWish, StoredItem, exceeds, read_page
from frontend.store.tables import CONVERSATION_ITEMS, INPUT, ITEMS, RESPONSES

_IDS_MAX: Final = 500
"""Ids in one statement; more are asked for one lot after another."""


class HistoryBounds(msgspec.Struct, frozen=True):
    """How far back a chain is followed, and how much may come of it."""

    responses: int
    items: int
    bytes: int


class History(msgspec.Struct, frozen=True):
    """What was said, oldest first: of each response its own input, then its output."""

    items: list[StoredItem]


Why = Literal["missing", "deleted", "unfinished"]


class Broken(msgspec.Struct, frozen=True):
    """The chain can't be followed beyond `response_id`: what is the matter, and the items of the responses after it.

    missing     this tenant has no such row (a worker may still know the response)
    deleted     its client deleted it
    unfinished  it is there and not closed (a worker may know it)
    """

    response_id: str
    why: Why
    newer: list[StoredItem]


class TooLong(msgspec.Struct, frozen=True):
    """What was said is more than the bounds allow."""


class Items:
    """The items of all tenants' responses. Every method raises `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_input(self, tenant: str, response_id: str, wish: PageWish) -> Page | None:
        """A page of the items that this response's request brought; None when the tenant has no such stored response.

        Raises `UnknownCursor`.
        """
        return await self._database.read(_of_input, tenant, response_id, wish)

    async def by_id(self, tenant: str, item_ids: Collection[str]) -> dict[str, StoredItem]:
        """The newest item of each id among the tenant's responses and conversations; what is nowhere is left out."""
        return await self._database.read(_by_id, tenant, item_ids)

    async def history(self, tenant: str, response_id: str, bounds: HistoryBounds) -> History | Broken | TooLong:
        """All items up to and with this response's output, following `previous_response_id` to its beginning."""
        return await self._database.read(_history, tenant, response_id, bounds)


def _of_input(connection: Connection, tenant: str, response_id: str, wish: PageWish) -> Page | None:
    row = RESPONSES.c
    stored = select(1).where(row.response_id == response_id, row.tenant == tenant, row.deleted.is_(False))
    if connection.scalar(stored) is None:
        return None
    of_list = and_(ITEMS.c.response_id == response_id, ITEMS.c.side == INPUT)
    return read_page(connection, ITEMS, of_list, wish)


def _by_id(connection: Connection, tenant: str, item_ids: Collection[str]) -> dict[str, StoredItem]:
    wanted = list(dict.fromkeys(item_ids))
    found: dict[str, StoredItem] = {}
    for start in range(0, len(wanted), _IDS_MAX):
        for query in _of_ids(tenant, wanted[start : start + _IDS_MAX]):
            found |= {row.item_id: StoredItem(*row) for row in connection.execute(query)}
    return found


def _of_ids(tenant: str, item_ids: Sequence[str]) -> tuple[Select[str, bytes], ...]:
    """Where items of these ids may be; of several with one id the last that is found counts."""
    said, item = CONVERSATION_ITEMS.c, ITEMS.c
    in_conversations = select(said.item_id, said.json).where(said.tenant == tenant, said.item_id.in_(item_ids))
    in_responses = (
        select(item.item_id, item.json)
        .join(RESPONSES, RESPONSES.c.response_id == item.response_id)
        .where(item.tenant == tenant, item.item_id.in_(item_ids))
    )
    return in_conversations.order_by(said.position), in_responses.order_by(RESPONSES.c.closed_at, item.position)


# ---- a chain ---------------------------------------------------------------------------------------------------------

_Link = Row[str, str | None, bool, int | None]
"""A response of a chain: its id, the one before it, whether it is deleted, and when it was closed."""


def _history(
    connection: Connection, tenant: str, response_id: str, bounds: HistoryBounds
) -> History | Broken | TooLong:
    links = _links(connection, tenant, response_id, bounds.responses + 1)
    followed, broken = _follow(links, response_id)
    of_list = ITEMS.c.response_id.in_(followed)
    if len(followed) > bounds.responses or exceeds(connection, ITEMS, of_list, bounds.items, bounds.bytes):
        return TooLong()
    said: dict[str, list[StoredItem]] = {each: [] for each in reversed(followed)}
    wanted = select(ITEMS.c.response_id, ITEMS.c.item_id, ITEMS.c.json).where(of_list)
    for owner, item_id, json in connection.execute(wanted.order_by(ITEMS.c.side, ITEMS.c.position)):
        said[owner].append(StoredItem(item_id, json))
    items = [item for each in said.values() for item in each]
    return Broken(*broken, newer=items) if broken else History(items)


def _links(connection: Connection, tenant: str, response_id: str, links_max: int) -> Sequence[_Link]:
    """The chain's responses, newest first, as far as there are rows."""
    row = RESPONSES.c
    columns = (row.response_id, row.previous_response_id, row.deleted, row.closed_at)
    newest = select(*columns, literal(1).label("depth")).where(row.response_id == response_id, row.tenant == tenant)
    chain = newest.cte("chain", recursive=True)
    older = select(*columns, chain.c.depth + 1).where(
        row.response_id == chain.c.previous_response_id, row.tenant == tenant, chain.c.depth < links_max
    )
    chain = chain.union_all(older)
    link = chain.c
    wanted = select(link.response_id, link.previous_response_id, link.deleted, link.closed_at).order_by(link.depth)
    return connection.execute(wanted).all()


def _follow(links: Sequence[_Link], newest: str) -> tuple[list[str], tuple[str, Why] | None]:
    """The responses that can be read, newest first; and where the chain ends before its beginning, and why."""
    followed: list[str] = []
    following: str | None = newest
    for link in links:
        if link.deleted or link.closed_at is None:
            return followed, (link.response_id, "deleted" if link.deleted else "unfinished")
        followed.append(link.response_id)
        following = link.previous_response_id
    return followed, None if following is None else (following, "missing")
