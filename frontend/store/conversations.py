"""Conversations: their rows, and which response may write to one."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, Update, delete, insert, or_, select, update

from frontend.store.conversation_items import append, is_there
from frontend.store.database import Database
from frontend.store.pages import StoredItem
from frontend.store.tables import CONVERSATION_ITEMS, CONVERSATIONS


class Conversation(msgspec.Struct, frozen=True):
    """A conversation without its items; `metadata` is JSON."""

    conversation_id: str
    tenant: str
    created_at: int
    metadata: bytes


class Conversations:
    """The conversations of all tenants. Every method raises `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, conversation: Conversation, items: Sequence[StoredItem] = ()) -> None:
        """Keep a new conversation with its first items."""
        await self._database.write(_create, conversation, items)

    async def get(self, tenant: str, conversation_id: str) -> Conversation | None:
        """The conversation; None when this tenant has none of that id."""
        return await self._database.read(_get, tenant, conversation_id)

    async def set_metadata(self, tenant: str, conversation_id: str, metadata: bytes) -> Conversation | None:
        """Replace its metadata and return it as it is then; None as in `get`."""
        return await self._database.write(_set_metadata, tenant, conversation_id, metadata)

    async def delete(self, tenant: str, conversation_id: str) -> bool:
        """Delete it with its items; responses that were made in it stay. False when there is none.

        The bytes leave the files with the next `Retention.erase`.
        """
        return await self._database.write(_delete, tenant, conversation_id)

    async def lock(
        self, tenant: str, conversation_id: str, response_id: str, now: float, duration_s: float
    ) -> bool | None:
        """Let this response alone write to the conversation until `now + duration_s`, or longer if it asks again.

        False while another response may; None when there is no such conversation. `Responses.finish` gives it back.
        """
        row = CONVERSATIONS.c
        free = or_(row.writer.is_(None), row.writer == response_id, row.writer_until <= now)
        mine = update(CONVERSATIONS).values(writer=response_id, writer_until=now + duration_s).where(free)
        return await self._database.write(_lock, mine, tenant, conversation_id)

    async def unlock(self, conversation_id: str, response_id: str) -> None:
        """Give the right to write back, if this response has it."""
        await self._database.write(unlock, conversation_id, response_id)


def _create(connection: Connection, conversation: Conversation, items: Sequence[StoredItem]) -> None:
    row = msgspec.structs.asdict(conversation) | {"next_position": 0, "writer_until": 0.0}
    connection.execute(insert(CONVERSATIONS).values(row))
    append(connection, conversation.tenant, conversation.conversation_id, items)


def _get(connection: Connection, tenant: str, conversation_id: str) -> Conversation | None:
    row = CONVERSATIONS.c
    wanted = select(row.conversation_id, row.tenant, row.created_at, row.metadata)
    found = connection.execute(wanted.where(is_there(tenant, conversation_id))).one_or_none()
    return None if found is None else Conversation(*found)


def _set_metadata(connection: Connection, tenant: str, conversation_id: str, metadata: bytes) -> Conversation | None:
    connection.execute(update(CONVERSATIONS).where(is_there(tenant, conversation_id)).values(metadata=metadata))
    return _get(connection, tenant, conversation_id)


def _delete(connection: Connection, tenant: str, conversation_id: str) -> bool:
    gone = connection.execute(delete(CONVERSATIONS).where(is_there(tenant, conversation_id)))
    if not gone.rowcount:
        return False
    connection.execute(delete(CONVERSATION_ITEMS).where(CONVERSATION_ITEMS.c.conversation_id == conversation_id))
    return True


def _lock(connection: Connection, mine: Update, tenant: str, conversation_id: str) -> bool | None:
    if connection.execute(mine.where(is_there(tenant, conversation_id))).rowcount:
        return True
    return None if _get(connection, tenant, conversation_id) is None else False


def unlock(connection: Connection, conversation_id: str, response_id: str) -> None:
    """End this response's right to write, within a transaction."""
    mine = (CONVERSATIONS.c.conversation_id == conversation_id) & (CONVERSATIONS.c.writer == response_id)
    connection.execute(update(CONVERSATIONS).where(mine).values(writer=None, writer_until=0.0))
