"""What is old goes, a little at a time; and what is deleted leaves no bytes behind."""

from typing import Final

import msgspec
from sqlalchemy import Connection, delete, select, tuple_

from frontend.store.database import Database
from frontend.store.responses import CONTENT
from frontend.store.tables import REPLAY_CHUNKS, RESPONSES

_BATCH: Final = 20
"""Rows in one transaction: nobody who wants to write waits for more than that."""


class Swept(msgspec.Struct, frozen=True):
    """What one batch removed: chunks of logs, and responses or their tombstones. `more`: there is more to remove."""

    chunks: int
    responses: int
    more: bool


class Retention:
    """The sweeping of all tenants' responses. Every method raises `StoreUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sweep(self, now: float) -> Swept:
        """Remove one small batch of what is past its retention.

        Logs of responses closed longer than `replay_retention_s` ago, responses closed and tombstones left longer than
        `response_retention_s` ago. One frontend at a time: the caller holds the lease.
        """
        settings = self._database.settings
        logs_before = int(now - settings.replay_retention_s)
        return await self._database.write(_sweep, logs_before, int(now - settings.response_retention_s))

    async def erase(self) -> bool:
        """Take deleted bytes out of SQLite's files; False when readers are in the way, and it is to be tried again.

        To be called within 60 s of a delete. PostgreSQL does this by itself (autovacuum), in its own time.
        """
        return not self._database.is_sqlite or await self._database.truncate_wal()


def _sweep(connection: Connection, logs_before: int, responses_before: int) -> Swept:
    chunks = _remove_logs(connection, logs_before)
    responses = _remove_responses(connection, responses_before)
    return Swept(chunks, responses, more=_BATCH in (chunks, responses))


def _remove_logs(connection: Connection, closed_before: int) -> int:
    """Chunk by chunk, since a log may be long; whoever is reading one finds its next chunk gone."""
    chunk = REPLAY_CHUNKS.c
    old = select(chunk.response_id, chunk.position).where(chunk.closed_at < closed_before)
    first = old.order_by(chunk.closed_at, chunk.response_id, chunk.position).limit(_BATCH)
    keys = [tuple(row) for row in connection.execute(first)]
    connection.execute(delete(REPLAY_CHUNKS).where(tuple_(chunk.response_id, chunk.position).in_(keys)))
    return len(keys)


def _remove_responses(connection: Connection, closed_before: int) -> int:
    row = RESPONSES.c
    old = select(row.response_id).where(row.closed_at < closed_before).order_by(row.closed_at).limit(_BATCH)
    ids = connection.scalars(old).all()
    for table in (*CONTENT, RESPONSES):
        connection.execute(delete(table).where(table.c.response_id.in_(ids)))
    return len(ids)
