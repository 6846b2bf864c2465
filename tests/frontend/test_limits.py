"""Windows, counters and what follows from them, by a virtual clock: no process, no file, no second of real time."""

import random

import pytest

from frontend.api.errors import ApiError
from frontend.tenants.counters import Counters, key_id, used, words_for
from frontend.tenants.limits import (
    COUNT_BITS,
    WINDOW_S,
    KeyLimits,
    Used,
    Window,
    duration,
    estimate,
    rate_headers,
    refusal,
)

pytestmark = pytest.mark.slow

ALICE, BOB = key_id("alice"), key_id("bob")
NOW = 1000


def window(counts: dict[int, int]) -> Window:
    """A window with these counts by second."""
    return Window([second << COUNT_BITS | count for second, count in counts.items()])


IDLE = window({})


def fresh(keys_max: int = 2) -> Counters:
    """The counters of one process."""
    counters = Counters(memoryview(bytearray(8 * words_for(keys_max))).cast("Q"))
    counters.begin()
    counters.make_room(ALICE, {ALICE, BOB})
    return counters


def requests(second: int, *counters: Counters) -> int:
    """Alice's, in the window that ends in this second."""
    return used(ALICE, second, counters, ()).requests.used


def asks(limits: KeyLimits, used_: Used, now: float = NOW) -> ApiError:
    """The refusal there must be."""
    error = refusal(limits, used_, now)
    assert error is not None
    assert (error.status, error.type, error.code) == (429, "too_many_requests", "rate_limit_exceeded")
    return error


# ---- counters --------------------------------------------------------------------------------------------------------


def test_counts_of_all_processes_add_up() -> None:
    here, there = fresh(), fresh()
    here.count_request(ALICE, NOW)
    there.count_request(ALICE, NOW)
    there.count_request(ALICE, NOW + 1)
    there.count_tokens(ALICE, NOW, 70)
    here.hold(ALICE, 1, 5)
    there.hold(ALICE, 2, 10)
    found = used(ALICE, NOW + 1, [here, there], ())
    assert (found.streams, found.reserved, found.requests.used, found.tokens.used) == (3, 15, 3, 70)
    assert used(BOB, NOW + 1, [here, there], ()).requests.used == 0


def test_what_a_dead_process_held_is_free_and_what_it_counted_still_counts() -> None:
    here, dead = fresh(), fresh()
    dead.hold(ALICE, 2, 10)
    dead.count_request(ALICE, NOW, 2)
    found = used(ALICE, NOW, [here], [dead])
    assert (found.streams, found.reserved, found.requests.used) == (0, 0, 2)


def test_a_second_counts_until_it_has_been_over_for_a_whole_window() -> None:
    counters = fresh()
    counters.count_request(ALICE, NOW)
    assert [requests(NOW + later, counters) for later in (0, WINDOW_S, WINDOW_S + 1)] == [1, 1, 0]


def test_what_stands_in_the_future_is_left_out() -> None:  # such as from before the host was started again
    counters = fresh()
    counters.count_request(ALICE, NOW + 1)
    counters.count_request(ALICE, NOW + 2)
    assert requests(NOW, counters) == 1


def test_a_place_in_the_ring_is_taken_over_by_a_later_second() -> None:
    counters = fresh()
    counters.count_request(ALICE, NOW, 9)
    counters.count_request(ALICE, NOW + 64)
    assert requests(NOW + 64, counters) == 1


def test_a_request_can_be_taken_back() -> None:
    counters = fresh()
    counters.count_request(ALICE, NOW)
    counters.count_request(ALICE, NOW)
    counters.count_request(ALICE, NOW, -1)
    assert requests(NOW, counters) == 1


def test_a_key_that_is_gone_gives_its_place_to_a_new_one() -> None:
    counters = fresh(keys_max=2)
    reader = Counters(counters._words)
    counters.make_room(BOB, {ALICE, BOB})
    counters.count_request(ALICE, NOW)
    counters.hold(ALICE, 1, 0)
    assert requests(NOW, reader) == 1
    carol = key_id("carol")
    counters.make_room(carol, {BOB, carol})
    counters.hold(ALICE, -1, 0)  # the end of a stream that outlived its key
    counters.count_tokens(ALICE, NOW, 5)
    for seen_by in (counters, reader):
        assert used(carol, NOW, [seen_by], ()).requests.used == 0
        assert seen_by.held(carol) == (0, 0)
        assert seen_by.held(ALICE) == (0, 0)


def test_a_key_that_was_revoked_a_moment_ago_takes_no_others_place() -> None:
    counters = fresh(keys_max=1)
    counters.make_room(BOB, {ALICE})
    counters.hold(BOB, 1, 0)
    counters.count_request(BOB, NOW)
    assert counters.held(BOB) == counters.held(ALICE) == (0, 0)
    assert requests(NOW, counters) == 0


def test_words_that_nobody_has_begun_are_not_readable() -> None:
    words = memoryview(bytearray(8 * words_for(1))).cast("Q")
    assert not Counters(words).is_readable()
    Counters(words).begin()
    assert Counters(words).is_readable()


@pytest.mark.parametrize("seed", range(20))
def test_no_sixty_seconds_see_more_than_the_limit_and_all_of_it_can_be_had(seed: int) -> None:
    chance = random.Random(seed)
    limits = KeyLimits(requests_per_minute=chance.choice([1, 7, 60]))
    processes = [fresh() for _ in range(4)]
    now, admitted = 1000 * chance.random(), list[float]()
    for _ in range(5000):
        now += chance.expovariate(1 / chance.choice([0.01, 0.5]))
        own = chance.choice(processes)
        own.count_request(ALICE, int(now))
        error = refusal(limits, used(ALICE, int(now), processes, ()), now)
        recent = sum(1 for at in admitted if at > now - WINDOW_S)
        if error is None:
            admitted.append(now)
            assert recent < (limits.requests_per_minute or 0)
        else:
            own.count_request(ALICE, int(now), -1)
            assert sum(1 for at in admitted if at > now - WINDOW_S - 1) >= (limits.requests_per_minute or 0)


# ---- decisions -------------------------------------------------------------------------------------------------------


def test_without_limits_nothing_is_refused() -> None:
    assert not KeyLimits()
    assert refusal(KeyLimits(), Used(10**6, 10**6, window({NOW: 10**6}), window({NOW: 10**6})), NOW) is None
    assert rate_headers(KeyLimits(), Used(1, 1, IDLE, IDLE), NOW) == {}


def test_one_request_too_many_is_told_when_to_come_back() -> None:
    limits = KeyLimits(requests_per_minute=3)
    counts = {NOW - 50: 2, NOW - 10: 1, NOW: 1}  # this one included
    error = asks(limits, Used(1, 0, window(counts), IDLE))
    assert error.headers["Retry-After"] == "11"  # second NOW - 50 counts until NOW + 11
    assert "requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 11s." in error.message
    assert refusal(limits, Used(1, 0, window({**counts, NOW - 50: 1}), IDLE), NOW) is None


def test_retry_after_is_never_longer_than_clients_wait() -> None:
    error = asks(KeyLimits(requests_per_minute=1), Used(1, 0, window({NOW: 2}), IDLE))
    assert error.headers["Retry-After"] == "60"


def test_tokens_that_were_used_and_those_in_progress_count_together() -> None:
    limits = KeyLimits(tokens_per_minute=100)
    tokens = window({NOW - 30: 50})
    assert refusal(limits, Used(1, 50, IDLE, tokens), NOW) is None
    assert asks(limits, Used(1, 51, IDLE, tokens)).headers["Retry-After"] == "31"
    assert asks(limits, Used(2, 150, IDLE, tokens)).headers["Retry-After"] == "1"  # that depends on what is in progress


def test_one_stream_too_many() -> None:
    limits = KeyLimits(streams=2)
    assert refusal(limits, Used(2, 0, IDLE, IDLE), NOW) is None
    assert "concurrent streams: Limit 2" in asks(limits, Used(3, 0, IDLE, IDLE)).message


def test_headers_say_what_is_left_and_when_all_is_free_again() -> None:
    limits = KeyLimits(requests_per_minute=60, tokens_per_minute=1000)
    found = Used(1, 30, window({NOW - 60: 1, NOW - 2: 4}), window({}))
    assert rate_headers(limits, found, NOW + 0.5) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "55",
        "x-ratelimit-reset-requests": "59s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "970",
        "x-ratelimit-reset-tokens": "0s",
    }
    assert rate_headers(KeyLimits(tokens_per_minute=10), Used(1, 8, IDLE, window({NOW: 8})), NOW) == {
        "x-ratelimit-limit-tokens": "10",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m1s",
    }


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (1, "1s"), (59, "59s"), (60, "1m0s"), (360, "6m0s")])
def test_durations_are_written_as_openai_does(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_a_create_is_estimated_by_its_text_and_what_it_lets_the_model_write() -> None:
    text = b'{"model":"demo","input":"' + b"x" * 375 + b'"}'
    assert estimate(text, None) == 100
    assert estimate(text, 50) == 150
    image = b'{"model":"demo","input":["data:image/png;base64,' + b"A" * 10**6 + b'"]}'
    assert estimate(image, None) < 10
