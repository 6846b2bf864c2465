"""A journal's bytes: whatever is cut off or flipped, what is left of it is a beginning of what was written."""

import pytest

from engine_worker.engines.interface import TurnPrepared
from engine_worker.journal import (
    MAGIC,
    EngineDied,
    Entry,
    Mark,
    NotAJournal,
    TurnLeft,
    TurnResumed,
    encode_entry,
    framed,
    read_journal,
)
from protocol.codec import encode_record
from protocol.records import Opened, OwnerGranted, Step, TextDelta, TurnStarted

ENTRIES: list[Entry] = [
    Opened("resp_1", 1_700_000_000, b'{"input":"hi"}'),
    OwnerGranted("f1", 1),
    TurnPrepared(0, (1, 2, 300_000), b"\x00state"),
    TurnStarted(0, 3),
    Step((1,), (TextDelta("word"),)),
    TurnResumed(0),
    Step((2, 3), ()),
    EngineDied(0),
    TurnLeft(0),
]


def payload(entry: Entry) -> bytes:
    return encode_entry(entry) if isinstance(entry, Mark) else encode_record(entry)


PAYLOADS = [payload(entry) for entry in ENTRIES]
FILE = MAGIC + b"".join(map(framed, PAYLOADS))
ENDS = [len(MAGIC) + sum(len(framed(payload)) for payload in PAYLOADS[:count]) for count in range(len(PAYLOADS) + 1)]


def test_entries_are_read_as_they_were_written_with_their_very_bytes() -> None:
    journal = read_journal(FILE)
    assert journal.entries == tuple(zip(ENTRIES, PAYLOADS, strict=True))
    assert journal.size == len(FILE)
    assert journal.opened == ENTRIES[0]


def test_a_torn_tail_is_cut_off_at_the_last_whole_entry() -> None:
    for length in range(len(FILE) + 1):
        journal = read_journal(FILE[:length])
        whole = [end for end in ENDS if end <= length]
        assert journal.size == (whole[-1] if whole else 0)
        assert [raw for _, raw in journal.entries] == PAYLOADS[: max(0, len(whole) - 1)]


def test_a_flipped_bit_ends_the_journal_before_its_entry() -> None:
    for at in range(len(MAGIC), len(FILE)):
        for bit in range(8):
            flipped = bytearray(FILE)
            flipped[at] ^= 1 << bit
            assert read_journal(bytes(flipped)).size == max(end for end in ENDS if end <= at)


@pytest.mark.parametrize("tail", [bytes(1), bytes(8), bytes(4096), b"\xff" * 100, FILE], ids=len)
def test_what_is_no_entry_is_cut_off(tail: bytes) -> None:
    """A file grown by the system and never written is full of zeros, and zero is the checksum of nothing."""
    assert read_journal(FILE + tail) == read_journal(FILE)


def test_an_entry_of_an_unknown_kind_ends_the_journal() -> None:
    assert read_journal(FILE + framed(b"\x91\xa6future")) == read_journal(FILE)


def test_an_empty_file_is_an_empty_journal() -> None:
    assert (read_journal(b"").size, read_journal(b"").opened) == (0, None)
    assert read_journal(MAGIC).opened is None


@pytest.mark.parametrize("data", [b"\x00", b"holdfast journal 2\n", b"PNG", MAGIC[1:]])
def test_a_foreign_file_is_refused(data: bytes) -> None:
    with pytest.raises(NotAJournal):
        read_journal(data)
