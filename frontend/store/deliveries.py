"""Webhook deliveries: they come with a response's close, are claimed for a while, and go when they are done."""

from collections.abc import Collection

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from frontend.store.database import Database
from frontend.store.tables import DELIVERIES


class NewDelivery(msgspec.Struct, frozen=True):
    """What is to be posted, from `created_at` on. `delivery_id` is the receiver's means to notice a repetition.

    `endpoint` is a name: its URL and its secret are looked up in the configuration when it is posted.
    """

    delivery_id: str
    endpoint: str
    body: bytes
    created_at: int


class Delivery(msgspec.Struct, frozen=True):
    """A delivery that is due; `attempts` counts this one too."""

    delivery_id: str
    tenant: str
    response_id: str
    endpoint: str
    body: bytes
    created_at: int
    attempts: int


class Deliveries:
    """The deliveries of all tenants. Every method raises `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now: float, limit: int, lease_s: float, skip: Collection[str] = ()) -> list[Delivery]:
        """Take up to `limit` deliveries that are due, longest due first; nobody else gets them for `lease_s`.

        Those to the endpoints in `skip` are left, so that a slow endpoint holds up no other. Where nothing is due,
        nothing is locked: this is asked every other second. Whoever dies with a claim leaves it to the next: a delivery
        is made at least once.
        """
        due = and_(DELIVERIES.c.due_at <= now, DELIVERIES.c.endpoint.not_in(skip))
        if not await self._database.read(_any_due, due):
            return []
        return await self._database.write(_claim, due, limit, now + lease_s)

    async def reschedule(self, delivery_id: str, due_at: float) -> None:
        """Try it again at that time."""
        await self._database.write(_reschedule, delivery_id, due_at)

    async def done(self, delivery_id: str) -> None:
        """It was delivered: forget it."""
        await self._database.write(_done, delivery_id)

    async def give_up(self, delivery_id: str, now: int) -> None:
        """It is never due again; it stays, to be seen, until its response goes."""
        await self._database.write(_give_up, delivery_id, now)


def _any_due(connection: Connection, due: ColumnElement[bool]) -> bool:
    return connection.scalar(select(1).select_from(DELIVERIES).where(due).limit(1)) is not None


def _claim(connection: Connection, due: ColumnElement[bool], limit: int, until: float) -> list[Delivery]:
    row = DELIVERIES.c
    columns = (row.delivery_id, row.tenant, row.response_id, row.endpoint, row.body, row.created_at, row.attempts + 1)
    oldest = select(*columns).where(due).order_by(row.due_at, row.delivery_id).limit(limit)
    claimed = [Delivery(*found) for found in connection.execute(oldest.with_for_update(skip_locked=True))]
    mine = row.delivery_id.in_([delivery.delivery_id for delivery in claimed])
    connection.execute(update(DELIVERIES).where(mine).values(due_at=until, attempts=row.attempts + 1))
    return claimed


def _reschedule(connection: Connection, delivery_id: str, due_at: float) -> None:
    connection.execute(update(DELIVERIES).where(DELIVERIES.c.delivery_id == delivery_id).values(due_at=due_at))


def _done(connection: Connection, delivery_id: str) -> None:
    connection.execute(delete(DELIVERIES).where(DELIVERIES.c.delivery_id == delivery_id))


def _give_up(connection: Connection, delivery_id: str, now: int) -> None:
    given_up = update(DELIVERIES).where(DELIVERIES.c.delivery_id == delivery_id)
    connection.execute(given_up.values(due_at=None, given_up_at=now))
