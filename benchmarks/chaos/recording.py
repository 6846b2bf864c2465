"""What a reader of a stream saw, as bytes, and how two such recordings differ. Pure: it is fed, and does not read."""

import itertools
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

DONE: Final = b"data: [DONE]\n\n"
COMPLETED: Final = "completed"
UNTERMINATED: Final = "unterminated"
TERMINAL: Final = re.compile(rb"event: response\.(completed|incomplete|failed)\n")
_SHOWN: Final = 300
_NUMBER: Final = re.compile(rb'"sequence_number":(\d+)')


@dataclass
class Recording:
    """One reader's events over all of its connections, in the order in which it saw them.

    `feed` takes what a connection brings, `cut` says that it is over. Comments are not recorded, nor is a block that
    the end of a connection cut off.
    """

    blocks: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """The sequence number of each block."""
    is_done: bool = False
    """Whether `[DONE]` was seen."""
    _rest: bytes = b""

    def feed(self, data: bytes) -> int:
        """Take in bytes of a stream; returns how many events they completed. Raises `ValueError` on what is none."""
        before = len(self.blocks)
        *whole, self._rest = (self._rest + data).split(b"\n\n")
        for text in whole:
            block = text + b"\n\n"
            if block == DONE:
                self.is_done = True
            elif not block.startswith(b":"):
                self._add(block)
        return len(self.blocks) - before

    def cut(self) -> None:
        """The connection is over: what is incomplete comes again with the next."""
        self._rest = b""

    @property
    def cursor(self) -> int | None:
        """`starting_after` of the next connection; None before the first event."""
        return self.numbers[-1] if self.numbers else None

    def _add(self, block: bytes) -> None:
        number = _NUMBER.search(block)
        if number is None:
            raise ValueError(f"an event without a sequence number: {block[:200]!r}")
        self.blocks.append(block)
        self.numbers.append(int(number[1]))


@dataclass(frozen=True)
class Difference:
    """How many events a reader missed, saw with other bytes (or out of order), and saw more than once."""

    lost: int = 0
    changed: int = 0
    repeated: int = 0

    def __add__(self, other: "Difference") -> "Difference":
        return Difference(self.lost + other.lost, self.changed + other.changed, self.repeated + other.repeated)


def compare(seen: Recording, whole: Recording) -> Difference:
    """How `seen` differs from `whole`; all zero if and only if they hold the same bytes in the same order."""
    reference = dict(zip(whole.numbers, whole.blocks, strict=True))
    times = Counter(seen.numbers)
    lost = sum(number not in times for number in reference)
    repeated = sum(count - 1 for count in times.values())
    pairs = list(zip(seen.numbers, seen.blocks, strict=True))
    changed = sum(reference.get(number) != block for number, block in pairs)
    disordered = sum(after < before for before, after in zip(seen.numbers, seen.numbers[1:], strict=False))
    if (lost, changed, repeated) == (0, 0, 0):
        changed = disordered
    return Difference(lost, changed, repeated)


def first_difference(seen: Recording, whole: Recording) -> str:
    """Where `seen` first differs from `whole`, for a person to look into; empty if they are the same."""
    for at, (here, there) in enumerate(itertools.zip_longest(seen.blocks, whole.blocks, fillvalue=b"nothing")):
        if here != there:
            return f"event {at}: {here[:_SHOWN].decode()!r}, where the whole stream has {there[:_SHOWN].decode()!r}"
    return ""


def ending(whole: Recording) -> str:
    """The status in which a whole stream ended, with the reason of a failure; or what is wrong with the stream."""
    terminal = [number for number, block in enumerate(whole.blocks) if TERMINAL.match(block)]
    if not whole.is_done or not terminal:
        return UNTERMINATED
    if whole.numbers != list(range(len(whole.numbers))) or terminal != [len(whole.blocks) - 1]:
        return "malformed"
    response = json.loads(whole.blocks[-1].split(b"\ndata: ", 1)[1])["response"]
    status: str = response["status"]
    return f"{status}: {response['error']['message']}" if response.get("error") else status
