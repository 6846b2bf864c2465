"""Response logs at rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.store.errors import ReplayGone
from frontend.store.replay import CHUNK_BYTES, CHUNK_RECORDS_MAX, pack, unpack
from frontend.store.store import Store
from tests.frontend.store.samples import NOW, finished

LONG = 200_000


@given(st.lists(st.binary(max_size=50)), st.integers(0, 5000))
def test_what_is_packed_is_unpacked_the_same(records: list[bytes], times: int) -> None:
    log = records * times if len(records) * times < 20_000 else records
    assert [record for chunk in pack(log) for record in unpack(chunk)] == log


def test_chunks_are_bounded() -> None:
    small = pack([b"x"] * (2 * CHUNK_RECORDS_MAX + 1))
    assert [len(unpack(chunk)) for chunk in small] == [CHUNK_RECORDS_MAX, CHUNK_RECORDS_MAX, 1]
    half = b"x" * (CHUNK_BYTES // 2)
    assert [len(unpack(chunk)) for chunk in pack([half] * 5)] == [2, 2, 1]
    assert [len(unpack(chunk)) for chunk in pack([b"a", half * 9, b"b"])] == [1, 1, 1]


async def test_a_long_log_is_replayed_in_parts_byte_for_byte(store: Store) -> None:
    records = [b"record %d" % number for number in range(LONG)]
    await store.responses.finish(finished("r", records=records))
    found: list[bytes] = []
    async for chunk in store.replay.read("t", "r"):
        assert len(chunk) <= CHUNK_RECORDS_MAX
        found += chunk
    assert found == records


async def test_a_log_that_goes_while_it_is_read_is_not_taken_for_a_whole_one(store: Store) -> None:
    await store.responses.finish(finished("r", records=[b"x"] * 3 * CHUNK_RECORDS_MAX))
    reading = store.replay.read("t", "r")
    assert len(await anext(reading)) == CHUNK_RECORDS_MAX
    await store.responses.delete("t", "r", NOW)
    with pytest.raises(ReplayGone):
        await anext(reading)


async def test_without_a_log_there_is_no_replay(store: Store) -> None:
    await store.responses.finish(finished("r", records=[]))
    for response_id in ("r", "absent"):
        with pytest.raises(ReplayGone):
            await anext(store.replay.read("t", response_id))
