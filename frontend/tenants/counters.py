"""What one process counts for each key, as words of 64 bits that other processes read while they change. Pure.

One writer, any readers, no lock: every word means something by itself, and is written in one go (a `memoryview` of
native words stores each by one machine instruction).

    header   LAYOUT | how often a slot was given to a key
    slot     key | streams | reserved tokens | a ring of seconds for requests | another for tokens
    ring     one word a second, at the second modulo RING: the second in the upper half, its count in the lower

A key is known by 64 bits of a hash of its name: that two of a thousand have the same has a chance of less than one in
10^13. A reader that sees an old second in a ring knows that nothing was counted in the new one, so nothing is ever
cleared.
"""

from collections.abc import Container, Sequence
from hashlib import blake2b
from typing import Final

from frontend.tenants.limits import COUNT_BITS, WINDOW_S, Used, Window

LAYOUT: Final = 0x686F6C6466617301
"""The first word of every file; another version of this layout has another."""
RING: Final = 64
"""Seconds in a ring: the window, the present one, and one more for a reader that read the clock a little earlier."""

_HEADER_WORDS: Final = 2
_STREAMS, _RESERVED, _REQUESTS, _TOKENS = 1, 2, 3, 3 + RING
_SLOT_WORDS: Final = 3 + 2 * RING


def words_for(slots: int) -> int:
    """Words that this many keys take."""
    return _HEADER_WORDS + slots * _SLOT_WORDS


def key_id(name: str) -> int:
    """How a key is known in a slot; never 0, which is a free one."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) or 1


class Counters:
    """The counts of one process, over its words: our own, or another's to be read."""

    def __init__(self, words: "memoryview[int]") -> None:
        self._words = words
        self._slots: dict[int, int] = {}
        self._slots_given = 0

    def __repr__(self) -> str:
        self._refresh()
        return f"<Counters of {len(self._slots)} keys>"

    # ---- reading -----------------------------------------------------------------------------------------------------

    def is_readable(self) -> bool:
        """Whether these words are of this layout, and written so far."""
        return self._words[0] == LAYOUT

    def held(self, key: int) -> tuple[int, int]:
        """Streams and reserved tokens of the key."""
        slot = self._slot(key)
        return (0, 0) if slot is None else (self._words[slot + _STREAMS], self._words[slot + _RESERVED])

    def requests(self, key: int, second: int) -> list[int]:
        """The words of the requests in the window."""
        return self._window(key, _REQUESTS, second)

    def tokens(self, key: int, second: int) -> list[int]:
        """The words of the tokens in the window."""
        return self._window(key, _TOKENS, second)

    def _window(self, key: int, ring: int, second: int) -> list[int]:
        slot = self._slot(key)
        if slot is None:
            return []
        oldest, beyond = second - WINDOW_S << COUNT_BITS, second + 2 << COUNT_BITS
        return [word for word in self._words[slot + ring : slot + ring + RING].tolist() if oldest <= word < beyond]

    def _slot(self, key: int) -> int | None:
        self._refresh()
        return self._slots.get(key)

    def _refresh(self) -> None:
        """See which slot is whose, if that has changed."""
        given = self._words[1]
        if given != self._slots_given:
            starts = range(_HEADER_WORDS, len(self._words), _SLOT_WORDS)
            self._slots = {self._words[start]: start for start in starts if self._words[start]}
            self._slots_given = given

    # ---- writing, by the one process whose words these are -----------------------------------------------------------

    def begin(self) -> None:
        """Make fresh words (all zero) readable."""
        self._words[0] = LAYOUT

    def make_room(self, key: int, keys: Container[int]) -> None:
        """Have a slot for the key; where there is none left, one is taken from what is no key any more.

        `keys` are all there are now, no more than the words were made for.
        """
        if self._slot(key) is not None:
            return
        starts = range(_HEADER_WORDS, len(self._words), _SLOT_WORDS)
        start = next((start for start in starts if not self._words[start]), None)
        if start is None:
            start = next((start for start in starts if self._words[start] not in keys), None)
        if start is None:
            return  # then this key was revoked a moment ago, and is not counted any more
        for word in range(start + 1, start + _SLOT_WORDS):
            self._words[word] = 0
        self._words[start] = key
        self._words[1] += 1

    def hold(self, key: int, streams: int, reserved: int) -> None:
        """Add to (or with negative numbers take from) the key's streams and reserved tokens."""
        slot = self._slot(key)
        if slot is not None:  # a key that was revoked in between may have lost its slot, and with it what it held
            self._words[slot + _STREAMS] = max(0, self._words[slot + _STREAMS] + streams)
            self._words[slot + _RESERVED] = max(0, self._words[slot + _RESERVED] + reserved)

    def count_request(self, key: int, second: int, count: int = 1) -> None:
        """Count a request, or take one back with -1."""
        self._count(key, _REQUESTS, second, count)

    def count_tokens(self, key: int, second: int, count: int) -> None:
        """Count tokens."""
        self._count(key, _TOKENS, second, count)

    def _count(self, key: int, ring: int, second: int, count: int) -> None:
        slot = self._slot(key)
        if slot is None:
            return
        at = slot + ring + second % RING
        word = self._words[at]
        if word >> COUNT_BITS != second:
            word = second << COUNT_BITS
        self._words[at] = word + count


def used(key: int, second: int, living: Sequence[Counters], dead: Sequence[Counters]) -> Used:
    """What all processes have counted for the key; what dead ones held is free."""
    everybody = [*living, *dead]
    held = [counters.held(key) for counters in living]
    return Used(
        streams=sum(streams for streams, _ in held),
        reserved=sum(reserved for _, reserved in held),
        requests=Window([word for counters in everybody for word in counters.requests(key, second)]),
        tokens=Window([word for counters in everybody for word in counters.tokens(key, second)]),
    )
