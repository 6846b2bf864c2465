"""Ending a stored response: copied whole, stored, and only then closed; or closed unstored, and stored later."""

from typing import Any

import msgspec
import pytest

from frontend.closing import Closing
from frontend.finished import as_kept
from frontend.messages import Again, ClosingInput, End, Erase, Keep, Kept, Leave, Lost, Overruled, Say, Unkept
from frontend.store.finishing import Deleted
from protocol.codec import encode_record
from protocol.commands import Attach, Close, Release, Stored
from protocol.records import Closed, ErrorDetail, OwnerGranted, Record, Step, TurnFinished, TurnStarted, Usage
from protocol.reports import Attached, Batch

EPOCH = 3
COMPLETED = Closed("completed", 1000)
LOG: list[Record] = [
    TurnStarted(0, 5),
    OwnerGranted("f1", EPOCH),
    *(Step((number,)) for number in range(3)),
    TurnFinished("stop", Usage()),
]
RECORDS = tuple(map(encode_record, LOG))
OVER = [Leave(7), End()]
CLOSE = Say(7, Close("r", EPOCH, "completed", 1000))
CLOSE_UNSTORED = Say(7, Close("r", EPOCH, "completed", 1000, unstored=True))
STORED = Say(7, Stored("r", EPOCH))
RELEASED = [Say(7, Release("r", EPOCH)), *OVER]


def batch(start: int, *records: bytes) -> Batch:
    return Batch(7, start, tuple(map(msgspec.Raw, records)))


def news(*records: Any) -> Batch:
    """What comes after the log so far."""
    return batch(len(RECORDS), *map(encode_record, records))


def attach(offset: int) -> Say:
    return Say(7, Attach(7, "r", offset, client=False))


@pytest.fixture
def closing() -> Closing:
    return Closing(7, "r", EPOCH, COMPLETED, in_log=False)


def give(closing: Closing, *messages: ClosingInput) -> list[Any]:
    """All effects of these messages."""
    return [effect for message in messages for effect in closing.handle(message)]


def copied(closing: Closing) -> list[Any]:
    return give(closing, Attached(7, len(RECORDS)), batch(0, *RECORDS))


def test_it_is_stored_before_it_is_closed(closing: Closing) -> None:
    assert copied(closing) == [Keep(RECORDS)]
    assert give(closing, Kept(COMPLETED)) == [CLOSE]
    assert give(closing, news(COMPLETED)) == RELEASED


def test_the_copy_is_whole_whatever_happens_on_the_way(closing: Closing) -> None:
    assert give(closing, batch(0, *RECORDS)) == []  # for somebody else's number, before we are attached
    assert give(closing, Attached(7, 6), batch(0, *RECORDS[:2]), batch(4, *RECORDS[4:])) == [attach(2)]
    assert give(closing, batch(2, *RECORDS[2:4])) == []
    assert give(closing, Attached(7, 6), batch(1, *RECORDS[1:5])) == []
    assert give(closing, Again()) == [attach(5)]
    assert give(closing, Attached(7, 6), batch(5, RECORDS[5])) == [Keep(RECORDS)]


def test_what_a_former_owner_stored_holds(closing: Closing) -> None:
    copied(closing)
    close = Say(7, Close("r", EPOCH, "failed", 7, ErrorDetail("a", "b", "c")))
    assert give(closing, Kept(Closed("failed", 7, ErrorDetail("a", "b", "c")))) == [close]


def test_what_was_deleted_is_erased_and_ends_for_its_readers(closing: Closing) -> None:
    copied(closing)
    effects = give(closing, as_kept(Deleted(), COMPLETED))
    assert effects == [Erase("r"), Say(7, Close("r", EPOCH, "cancelled", 1000))]


def test_a_worker_that_comes_back_without_the_end_is_told_again(closing: Closing) -> None:
    copied(closing)
    give(closing, Kept(COMPLETED))
    assert give(closing, Again(), Attached(7, 6)) == [attach(6), CLOSE]


def test_readers_do_not_wait_for_a_store_that_fails(closing: Closing) -> None:
    copied(closing)
    assert give(closing, Unkept()) == [CLOSE_UNSTORED]
    assert give(closing, news(Closed("completed", 1000, unstored=True))) == []
    assert give(closing, Kept(COMPLETED)) == [STORED, *RELEASED]


def test_a_store_that_comes_back_before_the_end_is_seen(closing: Closing) -> None:
    copied(closing)
    give(closing, Unkept())
    assert give(closing, Kept(COMPLETED)) == [CLOSE]
    assert give(closing, news(Closed("completed", 1000, unstored=True))) == [STORED, *RELEASED]


def test_the_end_is_told_again_unstored_while_the_store_fails(closing: Closing) -> None:
    copied(closing)
    give(closing, Unkept(), Again())
    assert give(closing, Attached(7, 6)) == [CLOSE_UNSTORED]


def test_a_log_that_is_closed_unstored_is_stored_as_it_is() -> None:
    closed = Closed("completed", 1000, unstored=True)
    closing = Closing(7, "r", EPOCH, closed, in_log=True)
    records = (*RECORDS, encode_record(closed))
    assert give(closing, Attached(7, 7), batch(0, *records)) == [Keep(records)]
    assert give(closing, Unkept()) == []
    assert give(closing, Kept(closed)) == [STORED, *RELEASED]


@pytest.mark.parametrize(
    "record",
    [Closed("completed", 999), Closed("completed", 999, unstored=True), OwnerGranted("f1", EPOCH + 1)],
)
def test_what_was_closed_or_granted_anew_before_it_is_copied_is_not_closed(closing: Closing, record: Record) -> None:
    give(closing, Attached(7, len(RECORDS) + 1), batch(0, *RECORDS))
    assert give(closing, news(record)) == OVER
    assert give(closing, Attached(7, len(RECORDS) + 1), Unkept()) == []


def test_earlier_owners_of_a_turn_that_has_finished_do_not_matter() -> None:
    closing = Closing(7, "r", EPOCH + 2, COMPLETED, in_log=False)
    later = tuple(encode_record(OwnerGranted("f1", EPOCH + more)) for more in (1, 2))
    assert give(closing, Attached(7, len(RECORDS) + 2), batch(0, *RECORDS, *later)) == [Keep((*RECORDS, *later))]


@pytest.mark.parametrize(
    "message", [Overruled(), Lost(ErrorDetail("a", "b", "c")), news(OwnerGranted("f2", EPOCH + 1))]
)
def test_it_is_over_when_it_is_anothers_or_lost(closing: Closing, message: ClosingInput) -> None:
    copied(closing)
    assert give(closing, message) == OVER
    assert give(closing, Kept(COMPLETED), Attached(7, 6)) == []
