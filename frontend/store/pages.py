"""Pages of items: what is asked for, what comes back, and how it is read."""

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, func, select

from frontend.store.errors import UnknownCursor


class StoredItem(msgspec.Struct, frozen=True):
    """An item in full: its id, which need not be unique, and its JSON, which has the id too."""

    item_id: str
    json: bytes


class PageWish(msgspec.Struct, frozen=True):
    """Which part of a list: up to `limit` items that come, in the list's order, after `after` and before `before`.

    With `before` alone these are the `limit` items next to it, still in the list's order.
    """

    limit: int = 20
    descending: bool = True
    after: str | None = None
    before: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Items of a list in the order asked for; `has_more` says whether more lie in the direction of travel."""

    items: list[StoredItem]
    has_more: bool


def read_page(connection: Connection, table: Table, of_list: ColumnElement[bool], wish: PageWish) -> Page:
    """A page of the items of `table` that are `of_list`, by their `position`. Raises `UnknownCursor`.

    Of several items with the cursor's id the one furthest on counts, so that whoever pages on comes to an end.
    """
    position = table.c.position
    conditions = [of_list]
    if wish.after is not None:
        at = _position(connection, table, of_list, wish.after, last=not wish.descending)
        conditions.append(position < at if wish.descending else position > at)
    if wish.before is not None:
        at = _position(connection, table, of_list, wish.before, last=wish.descending)
        conditions.append(position > at if wish.descending else position < at)
    backwards = wish.before is not None and wish.after is None
    order = position.desc() if wish.descending != backwards else position.asc()
    wanted = select(table.c.item_id, table.c.json).where(*conditions).order_by(order).limit(wish.limit + 1)
    items = [StoredItem(*row) for row in connection.execute(wanted)]
    page = items[: wish.limit]
    return Page(page[::-1] if backwards else page, has_more=len(items) > wish.limit)


def _position(connection: Connection, table: Table, of_list: ColumnElement[bool], item_id: str, *, last: bool) -> int:
    choose = func.max if last else func.min
    found = connection.scalar(select(choose(table.c.position)).where(of_list, table.c.item_id == item_id))
    if found is None:
        raise UnknownCursor(item_id)
    return int(found)


def exceeds(connection: Connection, table: Table, of_list: ColumnElement[bool], items_max: int, bytes_max: int) -> bool:
    """Whether these items are more than may be read at once."""
    wanted = select(func.count(), func.coalesce(func.sum(func.length(table.c.json)), 0)).where(of_list)
    items, size = connection.execute(wanted).one()
    return bool(items > items_max or size > bytes_max)
