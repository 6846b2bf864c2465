"""What one process counts: words that are each written in one go, and a text that says what each of them is. Pure.

    header   LAYOUT | bytes of text in use
    words    numbers of 64 bits (IEEE 754)
    text     a line of JSON for each series, in the order of their words: name, label values, words, whether it is live

One writer, any readers, no lock, as in `frontend/tenants/counters.py`: a series' line counts from the moment on that
the header says so, and its words are zero until then. The text makes a sheet readable for a process of another version.
A *live* value (a gauge) is worth nothing when its process is dead; all others are kept.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import add
from typing import Final

import msgspec

from frontend.metrics.catalogue import Metric

LAYOUT: Final = 0x686F6C6466617302
"""The first word of every sheet; another version of this layout has another."""

_HEADER_WORDS: Final = 2
_WORDS_MAX: Final = 6 * 1024
_TEXT_AT: Final = 8 * (_HEADER_WORDS + _WORDS_MAX)
SHEET_BYTES: Final = 128 * 1024
"""Of every sheet: room for some 80 models. A series that finds no room is not counted."""

_GATHERED_MAX: Final = 1000
"""Observations that a distribution gathers before it counts them."""
_TEXTS_REMEMBERED: Final = 128
"""A text seldom changes, and is read again and again."""

Labels = tuple[str, ...]
Series = tuple[str, Labels]
Sums = dict[Series, list[float]]
"""Values by metric and label values; as many numbers each as `Metric.words`."""

_decode_lines: Final = msgspec.json.Decoder(tuple[str, Labels, int, bool]).decode_lines


_GRAINS: Final = 2.0**20
"""A second's: see `exact`."""
_GRAIN_S: Final = 1 / _GRAINS


def exact(seconds: float) -> float:
    """The same, a microsecond less at most: sums of what this returns are exact, in whatever order they are made.

    Otherwise a sum might be smaller by a rounding when another process makes it, or one of its parts has been added to
    the dead's; and a counter that falls by however little has begun anew, for Prometheus.
    """
    return seconds * _GRAINS // 1.0 * _GRAIN_S


class Unreadable(Exception):
    """These bytes are no sheet, or one that its process has not begun."""


class Count:
    """One number: a counter's or a gauge's."""

    __slots__ = ("_at", "_words")

    def __init__(self, words: "memoryview[float] | list[float]", at: int) -> None:
        self._words = words
        self._at = at

    def add(self, amount: float = 1.0) -> None:
        """Add; a gauge may fall."""
        self._words[self._at] += amount

    def put(self, value: float) -> None:
        """Say how much it is now."""
        self._words[self._at] = value


class Distribution:
    """A histogram: how many observations fell into each bucket, and their sum."""

    __slots__ = ("_at", "_bounds", "_gathered", "_sum_at", "_words")

    def __init__(self, words: "memoryview[float] | list[float]", at: int, bounds: tuple[float, ...]) -> None:
        self._words = words
        self._bounds = bounds
        self._at = at
        self._sum_at = at + len(bounds) + 1
        self._gathered: list[float] = []

    def observe(self, value: float) -> None:
        """Count a value."""
        words = self._words
        words[self._at + bisect_left(self._bounds, value)] += 1.0
        words[self._sum_at] += exact(value)

    def gather(self, value: float) -> None:
        """`observe` for what happens with every token: kept, and counted with others at `settle`."""
        gathered = self._gathered
        gathered.append(value)
        if len(gathered) >= _GATHERED_MAX:
            self.settle()

    def settle(self) -> None:
        """Count all that was gathered."""
        if not self._gathered:
            return
        values, self._gathered = sorted(self._gathered), []
        ends = [*(bisect_right(values, bound) for bound in self._bounds), len(values)]
        for bucket, (begin, end) in enumerate(pairwise((0, *ends)), self._at):
            if end > begin:
                self._words[bucket] += end - begin
        self._words[self._sum_at] += exact(sum(values))


class Sheet:
    """The counts of one process, written into `memory`: `SHEET_BYTES` bytes, all zero."""

    def __init__(self, memory: memoryview) -> None:
        self._header = memory[: 8 * _HEADER_WORDS].cast("Q")
        self._words = memory[8 * _HEADER_WORDS : _TEXT_AT].cast("d")
        self._text = memory[_TEXT_AT:]
        self._words_used = 0
        self._counts: dict[Series, Count] = {}
        self._distributions: dict[Series, Distribution] = {}
        self.left_out = 0
        """Series for which there was no room: they are counted nowhere."""
        self._header[0] = LAYOUT

    def __repr__(self) -> str:
        return f"<Sheet {len(self._counts) + len(self._distributions)} series, {self.left_out} left out>"

    def count(self, metric: Metric, *labels: str) -> Count:
        """The number of a counter or gauge with these label values; always the same one."""
        series = (metric.name, labels)
        count = self._counts.get(series)
        if count is None:
            count = self._counts[series] = Count(*self._place(metric, labels))
        return count

    def distribution(self, metric: Metric, *labels: str) -> Distribution:
        """The histogram with these label values; always the same one."""
        series = (metric.name, labels)
        distribution = self._distributions.get(series)
        if distribution is None:
            distribution = self._distributions[series] = Distribution(*self._place(metric, labels), metric.bounds)
        return distribution

    def settle(self) -> None:
        """Count what distributions have gathered: often, and before the sheet is read or ends."""
        for distribution in self._distributions.values():
            distribution.settle()

    def _place(self, metric: Metric, labels: Labels) -> "tuple[memoryview[float] | list[float], int]":
        line = msgspec.json.encode((metric.name, labels, metric.words, metric.kind == "gauge")) + b"\n"
        text_end, words_end = self._header[1] + len(line), self._words_used + metric.words
        if text_end > len(self._text) or words_end > len(self._words):
            self.left_out += 1
            return [0.0] * metric.words, 0
        at, self._words_used = self._words_used, words_end
        self._text[text_end - len(line) : text_end] = line
        self._header[1] = text_end
        return self._words, at


def read_sheet(data: bytes, *, living: bool) -> Sums:
    """What a sheet says; of a dead process all but its live values. Raises `Unreadable`."""
    layout, text_bytes = array("Q", data[: 8 * _HEADER_WORDS]) if len(data) == SHEET_BYTES else (0, 0)
    if layout != LAYOUT:
        raise Unreadable
    places = _places(data[_TEXT_AT : _TEXT_AT + text_bytes])
    words = array("d", data[8 * _HEADER_WORDS : _TEXT_AT]).tolist()
    return {series: words[at:end] for series, at, end, is_live in places if living or not is_live}


@lru_cache(_TEXTS_REMEMBERED)
def _places(text: bytes) -> list[tuple[Series, int, int, bool]]:
    """Where in the words each series is."""
    lines = _decode_lines(text)
    ends = accumulate(count for _, _, count, _ in lines)
    return [
        ((name, labels), end - count, end, is_live)
        for (name, labels, count, is_live), end in zip(lines, ends, strict=True)
    ]


def total(parts: Iterable[Mapping[Series, list[float]]]) -> Sums:
    """All of them as one. A series whose buckets differ between versions is that of whoever comes first."""
    sums: Sums = {}
    for part in parts:
        for series, values in part.items():
            sum_so_far = sums.get(series)
            if sum_so_far is None:
                sums[series] = values
            elif len(sum_so_far) == len(values):
                sums[series] = list(map(add, sum_so_far, values))
    return sums
