"""What is old goes, and what is deleted leaves no bytes."""

import asyncio
import random
import sqlite3
from pathlib import Path
from typing import Any

from frontend.config import Settings
from frontend.store.conversations import Conversation
from frontend.store.errors import ReplayGone
from frontend.store.finishing import Deleted, Finished, Stored
from frontend.store.pages import StoredItem
from frontend.store.responses import ResponseRow
from frontend.store.retention import Swept
from frontend.store.store import Store
from tests.frontend.store.samples import NOW, background, finished, items

DAY = 86_400
SECRET = b"the secret of the deleted response"


async def sweep(store: Store, now: float) -> tuple[int, int]:
    """Sweep until nothing is left to do; returns how many chunks and responses went."""
    chunks = responses = 0
    for _ in range(100):
        match await store.retention.sweep(now):
            case Swept(chunks=some, responses=others, more=more):
                chunks, responses = chunks + some, responses + others
        if not more:
            return chunks, responses
    raise AssertionError("it never ends")


async def has_log(store: Store, response_id: str) -> bool:
    """Whether the log can be replayed."""
    try:
        return bool(await anext(store.replay.read("t", response_id)))
    except ReplayGone:
        return False


async def test_logs_go_after_a_day_and_responses_after_a_month(store: Store) -> None:
    await store.responses.finish(finished("r", closed_at=NOW))
    await store.responses.finish(finished("younger", closed_at=NOW + 2 * DAY))
    assert await sweep(store, NOW + DAY) == (0, 0)
    assert await sweep(store, NOW + DAY + 1) == (1, 0)
    assert not await has_log(store, "r")
    assert await has_log(store, "younger")
    assert isinstance(await store.responses.get("t", "r"), ResponseRow)
    assert await sweep(store, NOW + 30 * DAY) == (1, 0)
    assert await sweep(store, NOW + 30 * DAY + 1) == (0, 1)
    assert await store.responses.get("t", "r") is None
    assert await store.items.by_id("t", ["r_in", "r_out", "younger_in"]) == {"younger_in": items("younger_in")[0]}


async def test_tombstones_go_and_what_is_not_closed_stays(store: Store) -> None:
    await store.responses.insert_background(background("queued", created_at=1))
    await store.responses.delete("t", "r", NOW, live=True)
    assert await sweep(store, NOW + 30 * DAY) == (0, 0)
    assert await store.responses.get("t", "r") == Deleted()
    assert await sweep(store, NOW + 30 * DAY + 1) == (0, 1)
    assert await store.responses.get("t", "r") is None
    assert isinstance(await store.responses.get("t", "queued"), ResponseRow)


async def test_a_sweep_takes_a_little_at_a_time(store: Store) -> None:
    for number in range(45):
        await store.responses.finish(finished(f"r{number}", records=[b"a" * 200_000, b"b" * 200_000]))
    first = await store.retention.sweep(NOW + DAY + 1)
    assert first == Swept(chunks=20, responses=0, more=True)
    assert await sweep(store, NOW + DAY + 1) == (70, 0)
    assert await sweep(store, NOW + 31 * DAY) == (0, 45)


async def test_conversations_outlive_their_responses(store: Store) -> None:
    await store.conversations.create(Conversation("c", "t", NOW, b"{}"))
    await store.responses.finish(finished("r", conversation_id="c"))
    await sweep(store, NOW + 31 * DAY)
    assert await store.conversation_items.get("t", "c", "r_in") is not None


# ---- erasure ---------------------------------------------------------------------------------------------------------


def traces(data_dir: Path, secret: bytes = SECRET) -> list[str]:
    """The files in which the bytes stand."""
    return [path.name for path in sorted(data_dir.iterdir()) if secret in path.read_bytes()]


def secretive(response_id: str, secret: bytes = SECRET) -> Finished:
    """A response with the secret wherever it may be; incompressible besides, so that the log tells it too."""
    noise = random.Random(response_id).randbytes(3000)
    given: dict[str, Any] = {
        "response": secret + noise,
        "closed": secret,
        "records": [noise + secret],
        "input_items": [StoredItem(f"{response_id} in", secret + noise)],
        "output_items": [StoredItem(f"{response_id} out", noise + noise + secret)],
    }
    return finished(response_id, **given)


async def test_a_deleted_response_leaves_no_bytes(sqlite: Settings) -> None:
    store = Store(sqlite)
    for number in range(40):
        mine = SECRET if number % 3 else b"a kept one"
        assert await store.responses.finish(secretive(f"r{number}", mine)) == Stored()
    await store.responses.insert_background(background("b", opened=SECRET, response=SECRET))
    await store.retention.erase()
    assert traces(sqlite.data_dir) == ["holdfast.db"]
    for number in range(40):
        if number % 3:
            assert await store.responses.delete("t", f"r{number}", NOW)
    assert await store.responses.delete("t", "b", NOW)
    assert traces(sqlite.data_dir) != []  # until it is erased
    assert await store.retention.erase()
    assert traces(sqlite.data_dir) == []
    assert traces(sqlite.data_dir, b"a kept one") == ["holdfast.db"]
    assert (sqlite.data_dir / "holdfast.db-wal").stat().st_size == 0
    await store.close()
    assert traces(sqlite.data_dir) == []


async def test_what_is_past_its_retention_leaves_no_bytes(sqlite: Settings) -> None:
    store = Store(sqlite)
    for number in range(40):
        await store.responses.finish(secretive(f"r{number}"))
    await sweep(store, NOW + 31 * DAY)
    assert await store.retention.erase()
    assert traces(sqlite.data_dir) == []
    await store.close()


async def test_a_reader_in_the_way_puts_the_erasure_off(sqlite: Settings) -> None:
    store = Store(sqlite)
    await store.responses.finish(secretive("r"))
    reader = await asyncio.to_thread(begin_reading, sqlite.data_dir / "holdfast.db")
    await store.responses.delete("t", "r", NOW)
    assert not await store.retention.erase()
    reader.close()
    assert await store.retention.erase()
    assert traces(sqlite.data_dir) == []
    await store.close()


def begin_reading(path: Path) -> sqlite3.Connection:
    """A connection with a transaction that has read something, and goes on."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN")
    connection.execute("SELECT * FROM responses").fetchall()
    return connection
