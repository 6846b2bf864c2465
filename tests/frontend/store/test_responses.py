"""Response rows: their one close, whoever comes first, and their deletion for good."""

import asyncio

import msgspec
import pytest

from frontend.store.deliveries import NewDelivery
from frontend.store.errors import ReplayGone
from frontend.store.finishing import AlreadyClosed, Deleted, Finished, Stored, Superseded
from frontend.store.pages import PageWish
from frontend.store.responses import ResponseRow, Unfinished
from frontend.store.store import Store
from tests.frontend.store.samples import NOW, background, finished, item, names


async def log(store: Store, response_id: str, tenant: str = "t") -> list[bytes]:
    """The whole log."""
    return [record async for chunk in store.replay.read(tenant, response_id) for record in chunk]


async def input_names(store: Store, response_id: str) -> str:
    """The ids of its input items."""
    page = await store.items.of_input("t", response_id, PageWish(descending=False))
    assert page is not None
    return names(page.items)


async def assert_nothing_of(store: Store, response_id: str) -> None:
    """It can't be had, and nothing beside its row is left."""
    assert not isinstance(await store.responses.get("t", response_id), ResponseRow)
    assert await store.items.of_input("t", response_id, PageWish()) is None
    assert await store.items.by_id("t", [f"{response_id}_in", f"{response_id}_out"]) == {}
    assert await store.deliveries.claim(NOW + 1e6, 10, 0) == []
    with pytest.raises(ReplayGone):
        await log(store, response_id)


async def test_a_finished_response_is_stored_whole(store: Store) -> None:
    given = finished("r", previous_response_id="p", status="incomplete", deliveries=[NewDelivery("d", "e", b"b", NOW)])
    assert await store.responses.finish(given) == Stored()
    row = await store.responses.get("t", "r")
    assert isinstance(row, ResponseRow)
    assert row == msgspec.convert(msgspec.structs.asdict(given), ResponseRow)
    assert await input_names(store, "r") == "r_in"
    assert set(await store.items.by_id("t", ["r_in", "r_out", "x"])) == {"r_in", "r_out"}
    assert await log(store, "r") == given.records
    [delivery] = await store.deliveries.claim(NOW, 10, 60)
    assert (delivery.delivery_id, delivery.response_id, delivery.tenant) == ("d", "r", "t")


async def test_a_response_is_another_tenants_as_if_it_were_not(store: Store) -> None:
    await store.responses.finish(finished("r"))
    assert await store.responses.get("other", "r") is None
    assert await store.items.of_input("other", "r", PageWish()) is None
    assert await store.items.by_id("other", ["r_in"]) == {}
    assert not await store.responses.delete("other", "r", NOW)
    with pytest.raises(ReplayGone):
        await log(store, "r", "other")
    assert await log(store, "r") == [b"opened", b"step", b"closed"]


async def test_whoever_closes_second_is_told_what_the_first_said(store: Store) -> None:
    await store.responses.finish(finished("r"))
    second = finished("r", closed=b"other", epoch=7, deliveries=[NewDelivery("d", "e", b"b", NOW)])
    assert await store.responses.finish(second) == AlreadyClosed(b"closed r")
    row = await store.responses.get("t", "r")
    assert isinstance(row, ResponseRow)
    assert (row.closed, row.epoch) == (b"closed r", 1)
    assert await store.deliveries.claim(NOW, 10, 0) == []


async def test_of_many_that_close_at_once_one_does(store: Store) -> None:
    await store.responses.insert_background(background("b"))
    for response_id in ("r", "b"):
        attempts = [finished(response_id, closed=b"%d" % number) for number in range(8)]
        outcomes = await asyncio.gather(*map(store.responses.finish, attempts))
        [winner] = [attempt.closed for attempt, each in zip(attempts, outcomes, strict=True) if each == Stored()]
        assert [each for each in outcomes if each != Stored()] == [AlreadyClosed(winner)] * 7


async def test_a_background_response_is_queued_then_closed(store: Store) -> None:
    assert await store.responses.insert_background(background("r", conversation_id="c")) == "inserted"
    row = await store.responses.get("t", "r")
    assert isinstance(row, ResponseRow)
    assert (row.status, row.background, row.closed, row.closed_at) == ("queued", True, None, None)
    assert await store.responses.insert_background(background("r", model="other")) == "exists"
    given = finished("r", background=True)
    assert await store.responses.finish(given) == Stored()
    row = await store.responses.get("t", "r")
    assert row == msgspec.convert(msgspec.structs.asdict(given), ResponseRow)


async def test_unfinished_background_responses_are_found_by_page(store: Store) -> None:
    for name in ("c", "a", "b", "done", "deleted"):
        await store.responses.insert_background(background(name))
    await store.responses.insert_background(background("young", created_at=NOW))
    await store.responses.finish(finished("done"))
    await store.responses.delete("t", "deleted", NOW)
    await store.responses.start("b")
    await store.responses.start("absent")
    expected = [("a", "queued"), ("b", "in_progress")]
    first = await store.responses.unfinished(NOW, limit=2)
    assert first == [Unfinished(name, "t", NOW - 5, 1, b"opened", status) for name, status in expected]
    assert [row.response_id for row in await store.responses.unfinished(NOW, limit=2, after="b")] == ["c"]


async def test_an_unfinished_response_that_was_seen_says_so(store: Store) -> None:
    await store.responses.insert_background(background("r"))
    await store.responses.start("r")
    [row] = await store.responses.unfinished(NOW, limit=2)
    assert row.status == "in_progress"
    await store.responses.finish(finished("r", background=True))
    await store.responses.start("r")
    found = await store.responses.get("t", "r")
    assert isinstance(found, ResponseRow)
    assert found.status == "completed"


async def test_an_owner_that_lost_its_response_cannot_close_it(store: Store) -> None:
    await store.responses.insert_background(background("r", epoch=3))
    assert await store.responses.finish(finished("r", epoch=2)) == Superseded(3)
    assert await store.responses.finish(finished("r", epoch=3)) == Stored()


async def test_one_that_begins_again_is_closed_by_owners_of_new_epochs(store: Store) -> None:
    for name in ("created again", "run anew"):
        await store.responses.insert_background(background(name, epoch=3))
    assert await store.responses.insert_background(background("created again", epoch=1)) == "exists"
    await store.responses.run_anew("run anew")
    for name in ("created again", "run anew"):
        assert await store.responses.finish(finished(name, epoch=1)) == Stored()
    await store.responses.run_anew("run anew")
    assert await store.responses.finish(finished("run anew", epoch=1)) == AlreadyClosed(b"closed run anew")


# ---- deleting --------------------------------------------------------------------------------------------------------


async def test_a_deleted_response_is_gone_and_stays_gone(store: Store) -> None:
    await store.responses.finish(finished("r", deliveries=[NewDelivery("d", "e", b"b", NOW)]))
    assert await store.responses.delete("t", "r", NOW)
    assert await store.responses.get("t", "r") == Deleted()
    await assert_nothing_of(store, "r")
    assert not await store.responses.delete("t", "r", NOW)
    assert not await store.responses.delete("t", "r", NOW, live=True)
    assert await store.responses.finish(finished("r")) == Deleted()
    assert await store.responses.insert_background(background("r")) == "deleted"
    await assert_nothing_of(store, "r")


async def test_a_live_response_is_deleted_before_it_is_stored(store: Store) -> None:
    assert not await store.responses.delete("t", "r", NOW)
    assert await store.responses.delete("t", "r", NOW, live=True)
    assert await store.responses.finish(finished("r")) == Deleted()
    await assert_nothing_of(store, "r")


async def test_a_queued_response_is_deleted(store: Store) -> None:
    await store.responses.insert_background(background("r"))
    assert await store.responses.delete("t", "r", NOW, live=True)
    assert await store.responses.unfinished(NOW, 10) == []
    assert await store.responses.finish(finished("r")) == Deleted()


async def test_deleting_and_closing_at_once_leaves_nothing(store: Store) -> None:
    for number in range(10):
        name = f"r{number}"
        async with asyncio.TaskGroup() as group:
            group.create_task(store.responses.finish(finished(name)))
            group.create_task(store.responses.delete("t", name, NOW, live=True))
        assert await store.responses.get("t", name) == Deleted()
        await assert_nothing_of(store, name)


async def test_what_clients_name_may_be_anything(store: Store) -> None:
    odd = [item(name) for name in ("\0", "a" * 100_000, "a" * 100_001, "\u20ac\U0001f600", "'; --")]
    assert await store.responses.finish(finished("r", input_items=odd)) == Stored()
    page = await store.items.of_input("t", "r", PageWish(limit=100, descending=False))
    assert page is not None
    assert [each.json for each in page.items] == [each.json for each in odd]
    assert len({each.item_id for each in page.items}) == len(odd)
    for index, each in enumerate(page.items):
        rest = await store.items.of_input("t", "r", PageWish(descending=False, after=each.item_id))
        assert rest is not None
        assert len(rest.items) == len(odd) - index - 1
    assert await store.responses.get("t", "\ud800\0") is None


async def test_a_large_response_is_stored(store: Store) -> None:
    large = msgspec.structs.replace(finished("r"), response=b"x" * 20_000_000, records=[b"y" * 20_000_000, b"z"])
    assert isinstance(large, Finished)
    assert await store.responses.finish(large) == Stored()
    row = await store.responses.get("t", "r")
    assert isinstance(row, ResponseRow)
    assert row.response == large.response
    assert await log(store, "r") == large.records
