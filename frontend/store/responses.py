"""Response rows: how one comes, is closed under its condition, is read and is deleted."""

import asyncio
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, select, update

from frontend.store.database import Database, insert_new
from frontend.store.finishing import Deleted, Finished, Outcome, finish
from frontend.store.replay import pack
from frontend.store.tables import DELIVERIES, ITEMS, REPLAY_CHUNKS, RESPONSES


class NewBackground(msgspec.Struct, frozen=True, kw_only=True):
    """A background response that a worker has accepted. `opened` is its encoded `Opened` record, for a rerun."""

    response_id: str
    tenant: str
    created_at: int
    model: str
    response: bytes
    opened: bytes
    epoch: int
    previous_response_id: str | None = None
    conversation_id: str | None = None


class ResponseRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored response. `closed` (the encoded record) and `closed_at` are None while it is not closed."""

    response_id: str
    tenant: str
    created_at: int
    model: str
    status: str
    background: bool
    epoch: int
    response: bytes
    previous_response_id: str | None
    conversation_id: str | None
    closed: bytes | None
    closed_at: int | None


class Unfinished(msgspec.Struct, frozen=True):
    """A background response that nobody has closed; `opened` is its encoded `Opened` record.

    `status` is `queued` until something of it may have been seen, then `in_progress`.
    """

    response_id: str
    tenant: str
    created_at: int
    epoch: int
    opened: bytes
    status: str


class Responses:
    """The responses of all tenants. Every method raises `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def insert_background(self, new: NewBackground) -> Literal["inserted", "exists", "deleted"]:
        """Keep a background response, queued, before its id is given out.

        One that is there already stays as it is, but for the epoch: its log may be another one by now.
        """
        return await self._database.write(_insert_background, new)

    async def run_anew(self, response_id: str) -> None:
        """This background response is to begin again: an owner of any epoch may close it."""
        await self._database.write(_set_epoch, RESPONSES.c.response_id == response_id, 0)

    async def start(self, response_id: str) -> None:
        """Something of this background response may have been seen, so that it can't be run anew."""
        await self._database.write(_start, response_id)

    async def finish(self, finished: Finished) -> Outcome:
        """Close a response, all of it in one transaction: unless it is closed, deleted, or a later owner's.

        It may have a row (background) or none. The records are compressed in a thread.
        """
        chunks = await asyncio.to_thread(pack, finished.records)
        return await self._database.write(finish, finished, chunks)

    async def get(self, tenant: str, response_id: str) -> ResponseRow | Deleted | None:
        """The row; None when this tenant has none. Of a deleted response only that it was."""
        return await self._database.read(_get, tenant, response_id)

    async def delete(self, tenant: str, response_id: str, now: int, *, live: bool = False) -> bool:
        """Erase all content of a response and leave a tombstone, so that nothing brings it back.

        False when this tenant has no such response, or deleted it before. With `live` (a worker hosts it, for this
        tenant) there need be no row yet: the tombstone is left all the same, and the answer is True.
        What it said to a conversation stays there. The bytes leave the files with the next `Retention.erase`.
        """
        tombstone = _tombstone(tenant, response_id, now)
        return await self._database.write(_delete, tombstone, live=live)

    async def unfinished(self, created_before: int, limit: int, after: str = "") -> list[Unfinished]:
        """Background responses of all tenants that are not closed, by id, beyond the id `after`."""
        return await self._database.read(_unfinished, created_before, limit, after)


def _of(tenant: str, response_id: str) -> ColumnElement[bool]:
    return and_(RESPONSES.c.response_id == response_id, RESPONSES.c.tenant == tenant)


def _insert_background(connection: Connection, new: NewBackground) -> Literal["inserted", "exists", "deleted"]:
    row = msgspec.structs.asdict(new) | {"status": "queued", "background": True, "deleted": False}
    if insert_new(connection, RESPONSES, row):
        return "inserted"
    this = _of(new.tenant, new.response_id)
    if connection.scalar(select(RESPONSES.c.deleted).where(this)):
        return "deleted"
    _set_epoch(connection, this, new.epoch)
    return "exists"


def _set_epoch(connection: Connection, this: ColumnElement[bool], epoch: int) -> None:
    connection.execute(update(RESPONSES).where(this, RESPONSES.c.closed_at.is_(None)).values(epoch=epoch))


def _start(connection: Connection, response_id: str) -> None:
    row = RESPONSES.c
    queued = and_(row.response_id == response_id, row.status == "queued", row.closed_at.is_(None))
    connection.execute(update(RESPONSES).where(queued).values(status="in_progress"))


_ROW: Final = select(*(RESPONSES.c[name] for name in ResponseRow.__struct_fields__), RESPONSES.c.deleted)


def _get(connection: Connection, tenant: str, response_id: str) -> ResponseRow | Deleted | None:
    found = connection.execute(_ROW.where(_of(tenant, response_id))).mappings().one_or_none()
    if found is None:
        return None
    row = dict(found)
    return Deleted() if row.pop("deleted") else ResponseRow(**row)


def _unfinished(connection: Connection, created_before: int, limit: int, after: str) -> list[Unfinished]:
    row = RESPONSES.c
    wanted = (
        select(row.response_id, row.tenant, row.created_at, row.epoch, row.opened, row.status)
        .where(row.closed_at.is_(None), row.created_at < created_before, row.response_id > after)
        .order_by(row.response_id)
        .limit(limit)
    )
    return [Unfinished(*found) for found in connection.execute(wanted)]


# ---- deleting --------------------------------------------------------------------------------------------------------

CONTENT: Final[tuple[Table, ...]] = (ITEMS, REPLAY_CHUNKS, DELIVERIES)
"""The tables besides its own that hold a response's content, by `response_id`."""


def _tombstone(tenant: str, response_id: str, now: int) -> dict[str, Any]:
    return {
        "response_id": response_id,
        "tenant": tenant,
        "created_at": now,
        "model": "",
        "status": "",
        "background": False,
        "epoch": 0,
        "previous_response_id": None,
        "conversation_id": None,
        "response": b"",
        "opened": None,
        "closed": None,
        "closed_at": now,
        "deleted": True,
    }


def _delete(connection: Connection, tombstone: dict[str, Any], *, live: bool) -> bool:
    response_id = tombstone["response_id"]
    if live and insert_new(connection, RESPONSES, tombstone):
        return True
    stored = and_(_of(tombstone["tenant"], response_id), RESPONSES.c.deleted.is_(False))
    if not connection.execute(update(RESPONSES).where(stored).values(tombstone)).rowcount:
        return False
    for table in CONTENT:
        connection.execute(delete(table).where(table.c.response_id == response_id))
    return True
