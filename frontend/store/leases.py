"""Leases: a name that one holder has until a time. Whoever dies with one blocks nobody for longer than that."""

from sqlalchemy import Connection, delete, or_, update

from frontend.store.database import Database, insert_new
from frontend.store.tables import LEASES


class Leases:
    """All leases. Every method raises `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, name: str, holder: str, now: float, duration_s: float) -> bool:
        """Have the lease until `now + duration_s`, or longer if the holder asks again; False while another has it.

        Names are few and fixed: a lease that has ended stays as a row.
        """
        return await self._database.write(_acquire, name, holder, now, duration_s)

    async def release(self, name: str, holder: str) -> None:
        """Give the lease back, if this holder has it."""
        await self._database.write(_release, name, holder)


def _acquire(connection: Connection, name: str, holder: str, now: float, duration_s: float) -> bool:
    values = {"holder": holder, "expires_at": now + duration_s}
    if insert_new(connection, LEASES, {"name": name, **values}):
        return True
    row = LEASES.c
    free = update(LEASES).where(row.name == name, or_(row.holder == holder, row.expires_at <= now))
    return bool(connection.execute(free.values(values)).rowcount)


def _release(connection: Connection, name: str, holder: str) -> None:
    connection.execute(delete(LEASES).where(LEASES.c.name == name, LEASES.c.holder == holder))
