"""The store's promises without a database: what `frontend.store` does with a response's row, and how it can fail."""

import random

import msgspec

from frontend.store.errors import StoreUnavailable
from frontend.store.finishing import AlreadyClosed, Deleted, Finished, Outcome, Stored, Superseded


class Row(msgspec.Struct):
    """What is stored of a response; `records` are empty until it is closed."""

    epoch: int = 0
    closed: bytes | None = None
    deleted: bool = False
    records: tuple[bytes, ...] = ()


class Store:
    """All rows. While it is `down` it may still have done what it is asked for: then only its answer is lost."""

    def __init__(self, chance: random.Random) -> None:
        self.rows: dict[str, Row] = {}
        self.down = False
        self._chance = chance

    def __repr__(self) -> str:
        return f"<Store {len(self.rows)} rows{' down' if self.down else ''}>"

    def get(self, response_id: str) -> Row | None:
        """The row. Raises `StoreUnavailable`."""
        if self.down:
            raise StoreUnavailable("down")
        return self.rows.get(response_id)

    def finish(self, finished: Finished) -> Outcome:
        """Close it, on the conditions of `frontend.store.finishing`. Raises `StoreUnavailable`."""
        if self.down and self._chance.random() < 0.8:
            raise StoreUnavailable("down")
        outcome = self._finish(finished)
        if self.down:
            raise StoreUnavailable("it is done, and the answer is lost")
        return outcome

    def _finish(self, finished: Finished) -> Outcome:
        row = self.rows.setdefault(finished.response_id, Row())
        if row.deleted:
            return Deleted()
        if row.closed is not None:
            return AlreadyClosed(row.closed)
        if row.epoch > finished.epoch:
            return Superseded(row.epoch)
        row.epoch, row.closed, row.records = finished.epoch, finished.closed, tuple(finished.records)
        return Stored()

    def delete(self, response_id: str, *, live: bool) -> bool:
        """Leave a tombstone; whether there was anything to delete. Raises `StoreUnavailable`."""
        if self.down:
            raise StoreUnavailable("down")
        row = self.rows.get(response_id)
        if row is None and live:
            self.rows[response_id] = Row(deleted=True)
            return True
        if row is None or row.deleted:
            return False
        row.deleted, row.closed, row.records = True, None, ()
        return True

    def insert_background(self, response_id: str, epoch: int) -> bool:
        """Keep one that runs in the background; False when it was deleted. Raises `StoreUnavailable`."""
        if self.down and self._chance.random() < 0.8:
            raise StoreUnavailable("down")
        row = self.rows.setdefault(response_id, Row())
        if row.closed is None:
            row.epoch = epoch
        if self.down:
            raise StoreUnavailable("it is done, and the answer is lost")
        return not row.deleted
