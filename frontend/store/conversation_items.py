"""The items of conversations: in the order in which they were added, by page, one by one."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from frontend.store.database import Database
from frontend.store.items import History, TooLong
from frontend.store.pages import Page, PageWish, StoredItem, exceeds, read_page
from frontend.store.tables import CONVERSATION_ITEMS, CONVERSATIONS


class ConversationItems:
    """The items of all tenants' conversations. Every method raises `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, tenant: str, conversation_id: str, wish: PageWish) -> Page | None:
        """A page of its items; None when there is no such conversation. Raises `UnknownCursor`."""
        return await self._database.read(_page, tenant, conversation_id, wish)

    async def history(
        self, tenant: str, conversation_id: str, items_max: int, bytes_max: int
    ) -> History | TooLong | None:
        """All of its items, oldest first; None when there is no such conversation."""
        return await self._database.read(_history, tenant, conversation_id, items_max, bytes_max)

    async def add(self, tenant: str, conversation_id: str, items: Sequence[StoredItem]) -> bool:
        """Add items at the end; False when there is no such conversation."""
        return await self._database.write(append, tenant, conversation_id, items)

    async def get(self, tenant: str, conversation_id: str, item_id: str) -> StoredItem | None:
        """The item; None when it, or the conversation, is not there. Of several with this id the newest."""
        return await self._database.read(_get, tenant, conversation_id, item_id)

    async def delete(self, tenant: str, conversation_id: str, item_id: str) -> bool:
        """Take the item (all with this id) out of the conversation; False when there was none."""
        return await self._database.write(_delete, tenant, conversation_id, item_id)


def is_there(tenant: str, conversation_id: str) -> ColumnElement[bool]:
    """The condition of being this conversation, and this tenant's."""
    return and_(CONVERSATIONS.c.conversation_id == conversation_id, CONVERSATIONS.c.tenant == tenant)


def append(connection: Connection, tenant: str, conversation_id: str, items: Sequence[StoredItem]) -> bool:
    """Add items at the end, within a transaction; False when there is no such conversation."""
    further = CONVERSATIONS.c.next_position + len(items)  # first, since it keeps everybody else from adding
    moved = connection.execute(
        update(CONVERSATIONS).where(is_there(tenant, conversation_id)).values(next_position=further)
    )
    if not moved.rowcount:
        return False
    end = connection.scalar(select(CONVERSATIONS.c.next_position).where(is_there(tenant, conversation_id)))
    rows = [
        {
            "conversation_id": conversation_id,
            "position": position,
            "tenant": tenant,
            "item_id": item.item_id,
            "json": item.json,
        }
        for position, item in enumerate(items, (end or 0) - len(items))
    ]
    if rows:
        connection.execute(insert(CONVERSATION_ITEMS), rows)
    return True


def _of(tenant: str, conversation_id: str) -> ColumnElement[bool]:
    item = CONVERSATION_ITEMS.c
    return and_(item.conversation_id == conversation_id, item.tenant == tenant)


def _exists(connection: Connection, tenant: str, conversation_id: str) -> bool:
    return connection.scalar(select(1).where(is_there(tenant, conversation_id))) is not None


def _page(connection: Connection, tenant: str, conversation_id: str, wish: PageWish) -> Page | None:
    if not _exists(connection, tenant, conversation_id):
        return None
    return read_page(connection, CONVERSATION_ITEMS, _of(tenant, conversation_id), wish)


def _history(
    connection: Connection, tenant: str, conversation_id: str, items_max: int, bytes_max: int
) -> History | TooLong | None:
    if not _exists(connection, tenant, conversation_id):
        return None
    of_list = _of(tenant, conversation_id)
    if exceeds(connection, CONVERSATION_ITEMS, of_list, items_max, bytes_max):
        return TooLong()
    item = CONVERSATION_ITEMS.c
    wanted = select(item.item_id, item.json).where(of_list).order_by(item.position)
    return History([StoredItem(*row) for row in connection.execute(wanted)])


def _get(connection: Connection, tenant: str, conversation_id: str, item_id: str) -> StoredItem | None:
    item = CONVERSATION_ITEMS.c
    named = select(item.item_id, item.json).where(_of(tenant, conversation_id), item.item_id == item_id)
    found = connection.execute(named.order_by(item.position.desc()).limit(1)).one_or_none()
    return None if found is None else StoredItem(*found)


def _delete(connection: Connection, tenant: str, conversation_id: str, item_id: str) -> bool:
    named = and_(_of(tenant, conversation_id), CONVERSATION_ITEMS.c.item_id == item_id)
    return bool(connection.execute(delete(CONVERSATION_ITEMS).where(named)).rowcount)
