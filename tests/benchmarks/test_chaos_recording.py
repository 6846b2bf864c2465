"""What counts as lost, changed, repeated or unended, so that a pass of the chaos benchmark means something."""

import json
from collections.abc import Iterable

import pytest

from benchmarks.chaos.recording import DONE, UNTERMINATED, Difference, Recording, compare, ending, first_difference


def event(number: int, kind: str = "output_text.delta", **fields: object) -> bytes:
    body = json.dumps({"type": f"response.{kind}", "sequence_number": number, **fields}, separators=(",", ":"))
    return f"event: response.{kind}\ndata: {body}\n\n".encode()


def recorded(blocks: Iterable[bytes]) -> Recording:
    recording = Recording()
    recording.feed(b"".join(blocks))
    return recording


COMPLETED = event(5, "completed", response={"status": "completed", "error": None})
WHOLE = [*(event(number, delta=f"word {number}") for number in range(5)), COMPLETED, DONE]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_events_are_recorded_however_their_bytes_arrive(size: int) -> None:
    data = b": keepalive\n\n" + b"".join(WHOLE)
    recording = Recording()
    counted = sum(recording.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert recording.blocks == WHOLE[:-1]
    assert counted == len(WHOLE) - 1
    assert recording.numbers == list(range(6))
    assert recording.is_done


def test_an_event_that_a_broken_connection_cut_off_is_asked_for_again() -> None:
    recording = Recording()
    assert recording.cursor is None
    recording.feed(WHOLE[0] + WHOLE[1][:-10])
    recording.cut()
    assert recording.cursor == 0
    recording.feed(b"".join(WHOLE[1:]))
    assert recording.blocks == WHOLE[:-1]


def test_an_event_without_a_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="without a sequence number"):
        Recording().feed(b"event: response.created\ndata: {}\n\n")


@pytest.mark.parametrize(
    ("seen", "difference"),
    [
        (WHOLE, Difference()),
        ([*WHOLE[:2], *WHOLE[3:]], Difference(lost=1)),
        ([*WHOLE[:3], WHOLE[2], *WHOLE[3:]], Difference(repeated=1)),
        ([WHOLE[0], event(1, delta="other"), *WHOLE[2:]], Difference(changed=1)),
        ([*WHOLE, event(6)], Difference(changed=1)),
        ([WHOLE[1], WHOLE[0], *WHOLE[2:]], Difference(changed=1)),
        ([], Difference(lost=6)),
    ],
    ids=["same", "lost", "repeated", "changed", "surplus", "out of order", "nothing"],
)
def test_a_difference_is_counted_as_what_it_is(seen: list[bytes], difference: Difference) -> None:
    assert compare(recorded(seen), recorded(WHOLE)) == difference


def test_the_first_difference_is_shown() -> None:
    assert first_difference(recorded(WHOLE), recorded(WHOLE)) == ""
    assert first_difference(recorded(WHOLE[1:]), recorded(WHOLE)).startswith("event 0: ")
    assert "'nothing'" in first_difference(recorded(WHOLE[:3]), recorded(WHOLE))


def test_differences_add_up() -> None:
    assert Difference(1, 2, 3) + Difference(10, 20, 30) == Difference(11, 22, 33)


@pytest.mark.parametrize(
    ("stream", "how"),
    [
        (WHOLE, "completed"),
        ([event(0, "failed", response={"status": "failed", "error": {"message": "lost"}}), DONE], "failed: lost"),
        ([event(0, "incomplete", response={"status": "cancelled", "error": None}), DONE], "cancelled"),
        (WHOLE[:-1], UNTERMINATED),
        ([*WHOLE[:-2], DONE], UNTERMINATED),
        (WHOLE[1:], "malformed"),
        ([WHOLE[0], WHOLE[5], DONE], "malformed"),
        ([*WHOLE[:-1], event(6), DONE], "malformed"),
    ],
)
def test_a_stream_ends_in_one_way(stream: list[bytes], how: str) -> None:
    assert ending(recorded(stream)) == how
