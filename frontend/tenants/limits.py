"""What a key may do within a minute, what it has done, and what follows from both. Pure: no clock, no files.

A window holds the counts of the last `WINDOW_S` seconds, second by second. A second counts until it is over for
`WINDOW_S` seconds as a whole, so no 60 seconds ever see more than the limit, and a client that always asks gets 60/61
of it (98.4 %).

`second` is a whole second of the host's monotonic clock, which all of its processes share.
"""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from frontend.api.errors import ApiError, rate_limited

WINDOW_S: Final = 60
"""Requests and tokens are limited per minute."""
COUNT_BITS: Final = 32
COUNT_MASK: Final = (1 << COUNT_BITS) - 1
"""A limit is below half of this, so that no sum of counts runs over into the seconds."""

_RETRY_AFTER_MAX_S: Final = 60
"""OpenAI's SDKs follow a `Retry-After` up to this, and ignore a longer one; a second early costs one more try."""
_STREAMS_RETRY_AFTER_S: Final = 1
"""Nobody knows when a stream ends."""

_DATA_URL: Final = re.compile(rb'"data:[^"]*"')

Limit = Annotated[int, Meta(ge=1, lt=2**31)] | None


class KeyLimits(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What one key may do; None is no limit. `streams` are answers in progress at once, streamed or not."""

    requests_per_minute: Limit = None
    tokens_per_minute: Limit = None
    streams: Limit = None

    def __bool__(self) -> bool:
        return self != KeyLimits()


class Window:
    """What was counted within the window, as words (see `counters.py`): a second, and below it a count of `COUNT_BITS`.

    Several words may speak of one second.
    """

    def __init__(self, words: Sequence[int]) -> None:
        self._words = words
        self.used = sum(words) & COUNT_MASK

    def falls_to(self, count: int) -> int:
        """The second from which on no more than `count` (at least 0) will be used, if nothing is added; 0 for now."""
        newest = 0
        for word in sorted(self._words, reverse=True):
            newest += word & COUNT_MASK
            if newest > count:
                return (word >> COUNT_BITS) + WINDOW_S + 1
        return 0


class Used(msgspec.Struct, frozen=True):
    """What a key uses on the whole host; `reserved` are the tokens that answers in progress may yet come to."""

    streams: int
    reserved: int
    requests: Window
    tokens: Window


def estimate(wire: bytes, output_tokens_max: int | None) -> int:
    """Tokens that a create may come to: a quarter of its text's bytes, and what it lets the model write at most.

    `wire` is the accepted body. Images in it count nothing: their size says nothing about their tokens.
    """
    images = sum(found.end() - found.start() for found in _DATA_URL.finditer(wire))
    return (len(wire) - images) // 4 + (output_tokens_max or 0)


def refusal(limits: KeyLimits, used: Used, now: float) -> ApiError | None:
    """Why a request that is counted in `used` already must not be let in (429), or None when it may."""
    if limits.streams is not None and used.streams > limits.streams:
        text = f"concurrent streams: Limit {limits.streams}, Requested {used.streams}."
        return rate_limited(f"Rate limit reached on {text}", _STREAMS_RETRY_AFTER_S)
    if limits.requests_per_minute is not None and used.requests.used > limits.requests_per_minute:
        wait_s = _wait_s(used.requests.falls_to(limits.requests_per_minute), now)
        text = (
            f"requests per min (RPM): Limit {limits.requests_per_minute}, Used {used.requests.used - 1}, Requested 1."
        )
        return rate_limited(f"Rate limit reached on {text} Please try again in {duration(wait_s)}.", wait_s)
    if limits.tokens_per_minute is not None and used.tokens.used + used.reserved > limits.tokens_per_minute:
        left = limits.tokens_per_minute - used.reserved
        wait_s = _wait_s(used.tokens.falls_to(left), now) if left >= 0 else _STREAMS_RETRY_AFTER_S
        text = f"tokens per min (TPM): Limit {limits.tokens_per_minute}, Used {used.tokens.used}"
        text += f", Requested with what is in progress {used.reserved}."
        return rate_limited(f"Rate limit reached on {text} Please try again in {duration(wait_s)}.", wait_s)
    return None


def rate_headers(limits: KeyLimits, used: Used, now: float) -> dict[str, str]:
    """OpenAI's headers for the limits that there are; `reset` is when all of a limit is free again."""
    headers: dict[str, str] = {}
    for name, limit, window, reserved in (
        ("requests", limits.requests_per_minute, used.requests, 0),
        ("tokens", limits.tokens_per_minute, used.tokens, used.reserved),
    ):
        if limit is not None:
            headers["x-ratelimit-limit-" + name] = str(limit)
            headers["x-ratelimit-remaining-" + name] = str(max(0, limit - window.used - reserved))
            headers["x-ratelimit-reset-" + name] = duration(max(0, math.ceil(window.falls_to(0) - now)))
    return headers


def duration(seconds: int) -> str:
    """Seconds as OpenAI's headers and messages write them (Go's way): `1s`, `6m0s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _wait_s(second: int, now: float) -> int:
    return max(1, min(_RETRY_AFTER_MAX_S, math.ceil(second - now)))
