"""Leases: one holder at a time, none for ever."""

import asyncio

from frontend.store.store import Store
from tests.frontend.store.samples import NOW


async def test_a_lease_has_one_holder_until_it_ends(store: Store) -> None:
    acquire = store.leases.acquire
    assert await acquire("sweep", "f1", NOW, 60)
    assert not await acquire("sweep", "f2", NOW + 59, 60)
    assert await acquire("other", "f2", NOW, 60)
    assert await acquire("sweep", "f1", NOW + 59, 60)
    assert not await acquire("sweep", "f2", NOW + 118, 60)
    assert await acquire("sweep", "f2", NOW + 119, 60)
    await store.leases.release("sweep", "f1")  # late
    assert not await acquire("sweep", "f1", NOW + 120, 60)
    await store.leases.release("sweep", "f2")
    assert await acquire("sweep", "f1", NOW + 120, 60)


async def test_of_many_that_want_a_lease_at_once_one_gets_it(store: Store) -> None:
    for now in (NOW, NOW + 60):  # without a row, and with one that ended
        got = await asyncio.gather(*(store.leases.acquire("sweep", f"{now}-{n}", now, 60) for n in range(10)))
        assert sorted(got) == [False] * 9 + [True]
