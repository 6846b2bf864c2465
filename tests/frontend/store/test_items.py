"""Items of responses: by page, by id, and as the history of a chain."""

import msgspec
import pytest

from frontend.store.errors import UnknownCursor
from frontend.store.finishing import Finished
from frontend.store.items import Broken, History, HistoryBounds, TooLong
from frontend.store.pages import Page, PageWish, StoredItem
from frontend.store.store import Store
from tests.frontend.store.samples import NOW, background, finished, items, names

BOUNDS = HistoryBounds(responses=10, items=100, bytes=10_000)


async def page(store: Store, response_id: str, **wish: object) -> tuple[str, bool]:
    """The ids on a page, and whether there are more."""
    found = await store.items.of_input("t", response_id, msgspec.convert(wish, PageWish))
    assert isinstance(found, Page)
    return names(found.items), found.has_more


# ---- pages -----------------------------------------------------------------------------------------------------------


async def test_pages_of_input_items(store: Store) -> None:
    await store.responses.finish(finished("r", input_items=items("a b c d e")))
    assert await page(store, "r") == ("e d c b a", False)
    assert await page(store, "r", descending=False) == ("a b c d e", False)
    assert await page(store, "r", limit=2) == ("e d", True)
    assert await page(store, "r", limit=2, after="d") == ("c b", True)
    assert await page(store, "r", limit=2, after="b") == ("a", False)
    assert await page(store, "r", limit=2, after="a") == ("", False)
    assert await page(store, "r", limit=2, descending=False, after="b") == ("c d", True)
    assert await page(store, "r", limit=2, descending=False, before="d") == ("b c", True)
    assert await page(store, "r", limit=3, descending=False, before="d") == ("a b c", False)
    assert await page(store, "r", limit=2, before="b") == ("d c", True)
    assert await page(store, "r", after="e", before="b") == ("d c", False)
    assert await page(store, "r", limit=5) == ("e d c b a", False)


@pytest.mark.parametrize("descending", [True, False])
async def test_paging_ends_though_ids_are_not_unique(store: Store, descending: bool) -> None:
    await store.responses.finish(finished("r", input_items=items("a b a a c a")))
    after: str | None = None
    seen: list[str] = []
    for _ in range(10):
        wish = PageWish(limit=1, descending=descending, after=after)
        found = await store.items.of_input("t", "r", wish)
        assert found is not None
        seen += [item.item_id for item in found.items]
        if not found.has_more:
            break
        after = found.items[-1].item_id
    else:
        raise AssertionError("it never ends")
    assert seen[0] == "a"


async def test_a_cursor_that_is_nowhere_is_named(store: Store) -> None:
    await store.responses.finish(finished("r", input_items=items("a b")))
    await store.responses.finish(finished("other", input_items=items("c")))
    for wish in (PageWish(after="c"), PageWish(before="c"), PageWish(after="r_out")):
        with pytest.raises(UnknownCursor, match=r"c|r_out"):
            await store.items.of_input("t", "r", wish)


async def test_no_response_has_no_pages(store: Store) -> None:
    assert await store.items.of_input("t", "r", PageWish()) is None
    await store.responses.finish(finished("r", input_items=[]))
    assert await page(store, "r") == ("", False)


# ---- by id -----------------------------------------------------------------------------------------------------------


async def test_the_newest_item_of_an_id_is_found(store: Store) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        given = [StoredItem("i", name.encode())]
        await store.responses.finish(finished(name, closed_at=NOW - age, input_items=given))
    assert await store.items.by_id("t", ["i", "x"]) == {"i": StoredItem("i", b"new")}


async def test_many_ids_are_found_at_once(store: Store) -> None:
    given = items(" ".join(f"i{number}" for number in range(1200)))
    await store.responses.finish(finished("r", input_items=given))
    wanted = [item.item_id for item in given] + ["x"] * 40_000  # more than a statement may have parameters
    assert await store.items.by_id("t", wanted) == {item.item_id: item for item in given}
    assert await store.items.by_id("t", []) == {}


# ---- history ---------------------------------------------------------------------------------------------------------


def link(response_id: str, previous: str | None) -> Finished:
    """A response of a chain: two items in, one out."""
    sides = {"input_items": items(f"{response_id}1 {response_id}2"), "output_items": items(f"{response_id}3")}
    return finished(response_id, previous_response_id=previous, **sides)


async def chain(store: Store, response_ids: str) -> None:
    """Responses of which each continues the one before."""
    previous = None
    for response_id in response_ids:
        await store.responses.finish(link(response_id, previous))
        previous = response_id


async def test_history_is_all_that_was_said_in_order(store: Store) -> None:
    await chain(store, "abc")
    await store.responses.finish(link("x", "b"))  # a branch
    assert await store.items.history("t", "c", BOUNDS) == History(items("a1 a2 a3 b1 b2 b3 c1 c2 c3"))
    assert await store.items.history("t", "a", BOUNDS) == History(items("a1 a2 a3"))
    assert await store.items.history("t", "x", BOUNDS) == History(items("a1 a2 a3 b1 b2 b3 x1 x2 x3"))


async def test_history_of_nothing_is_missing(store: Store) -> None:
    await chain(store, "a")
    assert await store.items.history("t", "x", BOUNDS) == Broken("x", "missing", [])
    assert await store.items.history("other", "a", BOUNDS) == Broken("a", "missing", [])


async def test_an_ancestor_that_cannot_be_read_is_told_apart(store: Store) -> None:
    await chain(store, "abcd")
    await store.responses.delete("t", "b", NOW)
    newer = items("c1 c2 c3 d1 d2 d3")
    assert await store.items.history("t", "d", BOUNDS) == Broken("b", "deleted", newer)
    assert await store.items.history("t", "b", BOUNDS) == Broken("b", "deleted", [])
    await store.responses.finish(link("e", "live"))
    assert await store.items.history("t", "e", BOUNDS) == Broken("live", "missing", items("e1 e2 e3"))
    await store.responses.insert_background(background("live", previous_response_id="a"))
    assert await store.items.history("t", "e", BOUNDS) == Broken("live", "unfinished", items("e1 e2 e3"))


async def test_another_tenants_response_is_no_ancestor(store: Store) -> None:
    await chain(store, "a")
    await store.responses.finish(finished("theirs", tenant="other", previous_response_id="a", input_items=[]))
    assert await store.items.history("other", "theirs", BOUNDS) == Broken("a", "missing", items("theirs_out"))


async def test_history_has_bounds(store: Store) -> None:
    await chain(store, "abcde")
    size = sum(len(item.json) for item in items("a1") * 15)
    exact = HistoryBounds(5, 15, size)
    assert isinstance(await store.items.history("t", "e", exact), History)
    for bounds in (HistoryBounds(4, 15, size), HistoryBounds(5, 14, size), HistoryBounds(5, 15, size - 1)):
        assert await store.items.history("t", "e", bounds) == TooLong()


async def test_a_long_chain_is_followed(store: Store) -> None:
    previous = None
    for number in range(300):
        await store.responses.finish(link(f"r{number}_", previous))
        previous = f"r{number}_"
    found = await store.items.history("t", "r299_", HistoryBounds(300, 1000, 2**20))
    assert isinstance(found, History)
    assert found.items == [item for number in range(300) for item in items(f"r{number}_1 r{number}_2 r{number}_3")]
    assert await store.items.history("t", "r299_", HistoryBounds(299, 1000, 2**20)) == TooLong()
