"""Webhook deliveries: claimed by one at a time, until they are done."""

import asyncio

from frontend.store.deliveries import Delivery, NewDelivery
from frontend.store.store import Store
from tests.frontend.store.samples import NOW, finished

LATER = NOW + 1_000_000


async def ids(store: Store, now: float, limit: int = 10, skip: tuple[str, ...] = ()) -> list[str]:
    """What is claimed now, for a minute."""
    return [delivery.delivery_id for delivery in await store.deliveries.claim(now, limit, 60, skip)]


async def enqueue(store: Store, *created: int, endpoint: str = "e") -> None:
    """Deliveries named 0, 1, … made at these times after now."""
    new = [NewDelivery(str(index), endpoint, b"%d" % index, NOW + after) for index, after in enumerate(created)]
    await store.responses.finish(finished("r", deliveries=new))


async def test_what_is_due_is_claimed_once_longest_due_first(store: Store) -> None:
    await enqueue(store, 2, 1, 3)
    assert await ids(store, NOW) == []
    assert await store.deliveries.claim(NOW + 2, 1, 60) == [Delivery("1", "t", "r", "e", b"1", NOW + 1, 1)]
    assert await ids(store, NOW + 3) == ["0", "2"]
    assert await ids(store, NOW + 3) == []


async def test_a_claim_that_nobody_ends_is_claimed_again(store: Store) -> None:
    await enqueue(store, 0)
    assert await ids(store, NOW) == ["0"]
    assert await ids(store, NOW + 59) == []
    [again] = await store.deliveries.claim(NOW + 60, 10, 60)
    assert again.attempts == 2


async def test_endpoints_that_are_skipped_hold_up_no_other(store: Store) -> None:
    await enqueue(store, 0, endpoint="slow")
    await store.responses.finish(finished("r2", deliveries=[NewDelivery("d", "quick", b"", NOW)]))
    assert await ids(store, NOW, limit=1, skip=("slow",)) == ["d"]
    assert await ids(store, NOW, skip=("slow",)) == []
    assert await ids(store, NOW) == ["0"]


async def test_a_delivery_is_rescheduled_or_done_or_given_up(store: Store) -> None:
    await enqueue(store, 0, 0, 0)
    assert await ids(store, NOW) == ["0", "1", "2"]
    await store.deliveries.reschedule("0", NOW + 5)
    await store.deliveries.done("1")
    await store.deliveries.give_up("2", NOW)
    assert await ids(store, NOW + 5) == ["0"]
    await store.deliveries.done("0")
    await store.deliveries.done("absent")
    assert await ids(store, LATER) == []


async def test_of_many_that_claim_at_once_each_delivery_goes_to_one(store: Store) -> None:
    await enqueue(store, *range(-20, 0))
    claimed = await asyncio.gather(*(ids(store, NOW, limit=3) for _ in range(12)))
    claimed += [await ids(store, NOW, limit=3) for _ in range(20)]  # a claim may find its candidates taken
    assert sorted((one for each in claimed for one in each), key=int) == [str(number) for number in range(20)]
