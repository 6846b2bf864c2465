"""A response's log, and the collection of responses with its bounds."""

import pytest

from engine_worker.logs import RECORD_OVERHEAD_BYTES, LogClosed, ResponseLog
from engine_worker.outbox import Outbox
from engine_worker.responses import Responses
from engine_worker.state import Response
from protocol.codec import decode_record, encode_record
from protocol.records import Closed, Opened, Record, Step, TextDelta

OPENED = Opened("resp_1", 1_700_000_000, b'{"input":"hi"}')
STEPS = [Step((number,), (TextDelta("x" * number),)) for number in range(10)]
CLOSED = Closed("completed", 1_700_000_001)


def log_of(*records: Record) -> ResponseLog:
    log = ResponseLog(OPENED.response_id)
    for record in (OPENED, *records):
        log.append(record, encode_record(record))
    return log


def collection_of(bytes_max: int, count_max: int, journal_bytes_max: int = 10**9) -> Responses:
    return Responses(Outbox(), bytes_max, journal_bytes_max, count_max)


def test_records_stand_at_contiguous_offsets() -> None:
    log = log_of(*STEPS)
    assert len(log) == 11
    assert [decode_record(raw) for raw in log.slice(0, 100, 10_000)] == [OPENED, *STEPS]
    assert [decode_record(raw) for raw in log.slice(3, 2, 10_000)] == STEPS[2:4]
    assert log.slice(11, 100, 10_000) == log.slice(50, 100, 10_000) == ()


def test_a_log_says_what_it_takes() -> None:
    log = log_of(*STEPS)
    encoded = len(encode_record(OPENED)) + sum(len(encode_record(step)) for step in STEPS)
    assert log.size(0, len(log)) == encoded
    assert log.bytes == encoded + 11 * RECORD_OVERHEAD_BYTES
    assert ResponseLog("r").bytes == 0


@pytest.mark.parametrize("start", range(11))
def test_a_slice_is_as_long_as_its_bounds_allow(start: int) -> None:
    log = log_of(*STEPS)
    for bytes_max in range(0, 200, 7):
        length = len(log.slice(start, 100, bytes_max))
        assert length >= 1
        assert length == 1 or log.size(start, start + length) <= bytes_max
        if start + length < len(log):
            assert log.size(start, start + length + 1) > bytes_max


def test_nothing_follows_closed() -> None:
    log = log_of(*STEPS, CLOSED)
    assert log.closed
    for record in (STEPS[0], CLOSED):
        with pytest.raises(LogClosed):
            log.append(record, encode_record(record))
    assert len(log) == 12


def test_opened_is_read_back_from_the_log() -> None:
    assert log_of(*STEPS).opened == OPENED


def filled(collection: Responses, response_id: str, closed_at: float | None = None) -> Response:
    response = Response(ResponseLog(response_id), recorded_at=0, clientless_since=None)
    collection.add(response)
    collection.append(response, Opened(response_id, 0, b""), 0)
    if closed_at is not None:
        collection.append(response, CLOSED, closed_at)
    return response


def test_the_collection_counts_the_bytes_of_all_its_logs() -> None:
    collection = collection_of(bytes_max=10_000, count_max=10)
    live, closed = filled(collection, "a"), filled(collection, "b", closed_at=1)
    collection.append(live, STEPS[3], 2)
    assert collection.bytes == live.log.bytes + closed.log.bytes
    collection.drop(closed)
    assert collection.bytes == live.log.bytes
    assert collection.get("b") is None
    assert collection.get("a") is live


def test_closed_logs_make_room_oldest_first_and_live_ones_never() -> None:
    collection = collection_of(bytes_max=10_000, count_max=3)
    late, live, early = filled(collection, "late"), filled(collection, "live"), filled(collection, "early")
    collection.append(early, CLOSED, 1)
    collection.append(late, CLOSED, 2)
    going = []
    for response in collection.in_the_way(opening=0):
        going.append(response)
        collection.drop(response)
    assert going == [early]
    for response in collection.in_the_way(opening=2):
        collection.drop(response)
    assert list(collection.live.values()) == [live]
    assert not collection.has_room(opening=2)


def test_surplus_bytes_are_made_up_for_by_closed_logs() -> None:
    collection = collection_of(bytes_max=1, count_max=10)
    old, live = filled(collection, "old", closed_at=1), filled(collection, "live")
    for response in collection.surplus():
        collection.drop(response)
    assert collection.get("old") is None
    assert collection.get("live") is live
    assert not collection.has_room(opening=0)
    assert collection.bytes == live.log.bytes
    assert old.log.closed


def test_logs_expire_by_the_time_of_their_closing() -> None:
    collection = collection_of(bytes_max=10_000, count_max=10)
    for closed_at, name in enumerate("abc"):
        filled(collection, name, closed_at)
    for response in collection.expired(closed_before=2):
        collection.drop(response)
    assert list(collection.closed) == ["c"]
