"""Conversations: themselves, their items, and one writer at a time."""

import asyncio

import pytest

from frontend.store.conversations import Conversation
from frontend.store.errors import UnknownCursor
from frontend.store.finishing import Stored
from frontend.store.items import History, TooLong
from frontend.store.pages import Page, PageWish, StoredItem
from frontend.store.store import Store
from tests.frontend.store.samples import NOW, finished, items, names

CONVERSATION = Conversation("c", "t", NOW, b'{"k":"v"}')


@pytest.fixture
async def talking(store: Store) -> Store:
    """A store with the conversation `c` of `a` and `b`, and another."""
    await store.conversations.create(CONVERSATION, items("a b"))
    await store.conversations.create(Conversation("other", "t", NOW, b"{}"), items("x"))
    return store


async def said(store: Store, conversation_id: str = "c") -> str:
    """The ids of all items of a conversation."""
    history = await store.conversation_items.history("t", conversation_id, 100, 10_000)
    assert isinstance(history, History)
    return names(history.items)


async def test_a_conversation_is_made_read_changed_and_deleted(talking: Store) -> None:
    conversations = talking.conversations
    assert await conversations.get("t", "c") == CONVERSATION
    changed = Conversation("c", "t", NOW, b"{}")
    assert await conversations.set_metadata("t", "c", b"{}") == changed
    assert await conversations.get("t", "c") == changed
    assert await conversations.delete("t", "c")
    assert not await conversations.delete("t", "c")
    assert await conversations.get("t", "c") is None
    assert await conversations.set_metadata("t", "c", b"") is None
    assert await talking.items.by_id("t", ["a", "x"]) == {"x": items("x")[0]}


async def test_a_conversation_is_another_tenants_as_if_it_were_not(talking: Store) -> None:
    conversations, its = talking.conversations, talking.conversation_items
    assert await conversations.get("u", "c") is None
    assert await conversations.set_metadata("u", "c", b"") is None
    assert not await conversations.delete("u", "c")
    assert await conversations.lock("u", "c", "r", NOW, 60) is None
    assert await its.page("u", "c", PageWish()) is None
    assert await its.history("u", "c", 10, 1000) is None
    assert not await its.add("u", "c", items("z"))
    assert await its.get("u", "c", "a") is None
    assert not await its.delete("u", "c", "a")
    assert await talking.items.by_id("u", ["a"]) == {}
    assert await said(talking) == "a b"


async def test_items_are_added_read_and_taken_out(talking: Store) -> None:
    its = talking.conversation_items
    assert await its.add("t", "c", items("d e"))
    assert await its.add("t", "c", [])
    assert await said(talking) == "a b d e"
    assert await its.get("t", "c", "b") == items("b")[0]
    assert await its.get("t", "c", "x") is None
    assert await its.delete("t", "c", "e")
    assert not await its.delete("t", "c", "e")
    assert await its.add("t", "c", items("f"))
    assert await said(talking) == "a b d f"
    assert await its.page("t", "c", PageWish(limit=2, after="d")) == Page(items("b a"), has_more=False)
    with pytest.raises(UnknownCursor):
        await its.page("t", "c", PageWish(after="e"))
    assert not await its.add("t", "absent", items("z"))


async def test_of_items_with_one_id_the_newest_is_read(talking: Store) -> None:
    await talking.conversation_items.add("t", "c", [StoredItem("a", b"newer")])
    assert await talking.conversation_items.get("t", "c", "a") == StoredItem("a", b"newer")
    assert await talking.items.by_id("t", ["a"]) == {"a": StoredItem("a", b"newer")}
    assert await talking.conversation_items.delete("t", "c", "a")
    assert await said(talking) == "b"


async def test_history_has_bounds(talking: Store) -> None:
    size = sum(len(item.json) for item in items("a b"))
    assert await talking.conversation_items.history("t", "c", 2, size) == History(items("a b"))
    assert await talking.conversation_items.history("t", "c", 1, size) == TooLong()
    assert await talking.conversation_items.history("t", "c", 2, size - 1) == TooLong()


async def test_items_added_at_once_all_stay_and_keep_together(talking: Store) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(12):
            added = items(f"{number}_1 {number}_2")
            group.create_task(talking.conversation_items.add("t", "c", added))
    found = (await said(talking)).split()[2:]
    assert len(found) == len(set(found)) == 24
    assert [second.replace("_2", "_1") for second in found[1::2]] == found[::2]


# ---- responses in conversations --------------------------------------------------------------------------------------


async def test_a_finished_response_becomes_part_of_its_conversation(talking: Store) -> None:
    given = finished("r", conversation_id="c")
    assert await talking.responses.finish(given) == Stored()
    assert await said(talking) == "a b r_in r_out"
    await talking.responses.finish(given)  # again, as after a lost answer
    assert await said(talking) == "a b r_in r_out"
    await talking.responses.delete("t", "r", NOW)
    assert await said(talking) == "a b r_in r_out"


async def test_a_response_whose_conversation_is_gone_is_stored_all_the_same(talking: Store) -> None:
    await talking.conversations.delete("t", "c")
    assert await talking.responses.finish(finished("r", conversation_id="c")) == Stored()
    assert await talking.conversation_items.history("t", "c", 10, 1000) is None


async def test_one_response_at_a_time_writes_to_a_conversation(talking: Store) -> None:
    lock = talking.conversations.lock
    assert await lock("t", "c", "r1", NOW, 60)
    assert await lock("t", "c", "r2", NOW + 59, 60) is False
    assert await lock("t", "other", "r2", NOW, 60)
    assert await lock("t", "absent", "r2", NOW, 60) is None
    assert await lock("t", "c", "r1", NOW + 59, 60)  # prolonged
    assert await lock("t", "c", "r2", NOW + 118, 60) is False
    assert await lock("t", "c", "r2", NOW + 119, 60)  # it ended
    await talking.conversations.unlock("c", "r1")  # late
    assert await lock("t", "c", "r1", NOW + 120, 60) is False
    await talking.conversations.unlock("c", "r2")
    assert await lock("t", "c", "r1", NOW + 120, 60)


async def test_of_many_that_want_to_write_at_once_one_may(talking: Store) -> None:
    granted = await asyncio.gather(*(talking.conversations.lock("t", "c", f"r{n}", NOW, 60) for n in range(10)))
    assert sorted(map(bool, granted)) == [False] * 9 + [True]


async def test_the_end_of_a_response_lets_the_next_one_write(talking: Store) -> None:
    await talking.conversations.lock("t", "c", "r1", NOW, 60)
    await talking.responses.finish(finished("r0", conversation_id="c"))
    assert await talking.conversations.lock("t", "c", "r2", NOW, 60) is False
    await talking.responses.finish(finished("r1", conversation_id="c"))
    assert await talking.conversations.lock("t", "c", "r2", NOW, 60)
