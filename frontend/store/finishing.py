"""The end of a response: one transaction that stores all of it, or nothing, and says which."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Table, insert, select, update

from frontend.store.conversation_items import append
from frontend.store.conversations import unlock
from frontend.store.database import insert_new
from frontend.store.deliveries import NewDelivery
from frontend.store.pages import StoredItem
from frontend.store.tables import DELIVERIES, INPUT, ITEMS, OUTPUT, REPLAY_CHUNKS, RESPONSES


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """All that is stored of a response at its end.

    `closed` is the encoded `Closed` record, `response` the final response object as JSON, `records` the whole log, each
    record as it was encoded. `conversation_id` makes the items part of that conversation, if it still exists, and ends
    this response's right to write to it. `epoch` is that of the owner who says so.
    """

    response_id: str
    tenant: str
    created_at: int
    model: str
    status: str
    epoch: int
    closed_at: int
    closed: bytes
    response: bytes
    input_items: Sequence[StoredItem]
    output_items: Sequence[StoredItem]
    records: Sequence[bytes]
    background: bool = False
    previous_response_id: str | None = None
    conversation_id: str | None = None
    deliveries: Sequence[NewDelivery] = ()


class Stored(msgspec.Struct, frozen=True):
    """It is stored as given."""


class AlreadyClosed(msgspec.Struct, frozen=True):
    """A former owner got that far, or this one did and never heard: its encoded `Closed` holds. Nothing was changed."""

    closed: bytes


class Deleted(msgspec.Struct, frozen=True):
    """Its client deleted it: nothing of it is to be kept, and nothing was stored."""


class Superseded(msgspec.Struct, frozen=True):
    """An owner of a higher `epoch` is at work on it. Nothing was changed."""

    epoch: int


Outcome = Stored | AlreadyClosed | Deleted | Superseded

_State = Row[str, bool, bytes | None, int]


def finish(connection: Connection, finished: Finished, chunks: Sequence[bytes]) -> Outcome:
    """Store it, within a transaction; `chunks` are its records, packed."""
    row = _row(finished)
    if not insert_new(connection, RESPONSES, row):
        refusal = _refusal(connection, finished)
        if refusal is not None:
            return refusal
        connection.execute(update(RESPONSES).where(_this(finished)).values(row))
    for table, rows in _rows(finished, chunks):
        if rows:
            connection.execute(insert(table), rows)
    if finished.conversation_id is not None:
        items = [*finished.input_items, *finished.output_items]
        append(connection, finished.tenant, finished.conversation_id, items)
        unlock(connection, finished.conversation_id, finished.response_id)
    return Stored()


def _this(finished: Finished) -> ColumnElement[bool]:
    return RESPONSES.c.response_id == finished.response_id


def _refusal(connection: Connection, finished: Finished) -> AlreadyClosed | Deleted | Superseded | None:
    """Why the row that is there must stay as it is, if so; it is locked from here on."""
    row = RESPONSES.c
    wanted = select(row.tenant, row.deleted, row.closed, row.epoch).where(_this(finished)).with_for_update()
    state: _State = connection.execute(wanted).one()
    if state.tenant != finished.tenant:
        raise ValueError(f"{finished.response_id} is another tenant's")
    if state.deleted:
        return Deleted()
    if state.closed is not None:
        return AlreadyClosed(state.closed)
    return Superseded(state.epoch) if state.epoch > finished.epoch else None


def _row(finished: Finished) -> dict[str, Any]:
    fields = msgspec.structs.asdict(finished)
    kept = {column.name: fields[column.name] for column in RESPONSES.c if column.name in fields}
    return kept | {"opened": None, "deleted": False}


def _rows(finished: Finished, chunks: Sequence[bytes]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """What goes into other tables."""
    of = {"response_id": finished.response_id}
    owned = of | {"tenant": finished.tenant}
    yield (
        ITEMS,
        [
            {**owned, "side": side, "position": position, "item_id": item.item_id, "json": item.json}
            for side, items in ((INPUT, finished.input_items), (OUTPUT, finished.output_items))
            for position, item in enumerate(items)
        ],
    )
    yield (
        REPLAY_CHUNKS,
        [
            {
                **of,
                "position": position,
                "closed_at": finished.closed_at,
                "last": position == len(chunks) - 1,
                "records": chunk,
            }
            for position, chunk in enumerate(chunks)
        ],
    )
    yield (
        DELIVERIES,
        [
            {**owned, **msgspec.structs.asdict(delivery), "due_at": delivery.created_at, "attempts": 0}
            for delivery in finished.deliveries
        ],
    )
