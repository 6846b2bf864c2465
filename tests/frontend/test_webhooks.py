"""What webhooks are told, and when they are told again: the core."""

from collections import Counter
from email.utils import formatdate

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.store.deliveries import Delivery
from frontend.webhook_endpoints import WEBHOOK_EVENTS, WebhookEndpoint, WebhookEvent
from frontend.webhooks import Again, Answered, Backoff, GivenUp, Outcome, Told, Unanswered, deliveries, judge, room

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
NOW = 1_800_000_000
BACKOFF = Backoff(first_s=5, max_s=3600, give_up_s=259_200)


def endpoint(*events: WebhookEvent) -> WebhookEndpoint:
    return WebhookEndpoint("https://example.com/hook", SECRET, events or WEBHOOK_EVENTS)


def delivery(attempts: int = 1) -> Delivery:
    return Delivery("wh_1", "default", "resp_1", "server", b"{}", NOW, attempts)


def wait_s(attempts: int, outcome: Outcome, chance: float = 0.0) -> float:
    """How long after this attempt the next one comes."""
    verdict = judge(delivery(attempts), outcome, NOW, chance, BACKOFF)
    assert isinstance(verdict, Again)
    return verdict.due_at - NOW


# ---- what is told ----------------------------------------------------------------------------------------------------


def test_an_event_is_openais() -> None:
    (told,) = deliveries("resp_1", "completed", NOW, {"server": endpoint()})
    event = msgspec.json.decode(told.body)
    assert event.pop("id").startswith("evt_")
    assert event == {
        "object": "event",
        "created_at": NOW,
        "type": "response.completed",
        "data": {"id": "resp_1"},
    }
    assert (told.endpoint, told.created_at) == ("server", NOW)


def test_only_those_are_told_who_want_to_know() -> None:
    endpoints = {
        "a": endpoint("response.failed"),
        "b": endpoint("response.completed", "response.failed"),
        "c": endpoint(),
    }
    told = {status: [each.endpoint for each in deliveries("resp_1", status, NOW, endpoints)] for status in STATUSES}
    assert told == {"completed": ["b", "c"], "failed": ["a", "b", "c"], "incomplete": ["c"], "cancelled": ["c"]}


STATUSES = ("completed", "failed", "incomplete", "cancelled")


def test_a_delivery_has_an_id_of_its_own_that_stays() -> None:
    endpoints = {"a": endpoint(), "b": endpoint()}
    first = deliveries("resp_1", "completed", NOW, endpoints)
    assert deliveries("resp_1", "completed", NOW, endpoints) == first
    others = deliveries("resp_2", "completed", NOW, endpoints)
    assert len({each.delivery_id for each in first + others}) == 4
    assert len({msgspec.json.decode(each.body)["id"] for each in first}) == 1


# ---- what comes of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_success(status: int) -> None:
    assert judge(delivery(), Answered(status), NOW, 0.5, BACKOFF) == Told()


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 429, 500, 503])
def test_anything_else_is_told_again(status: int) -> None:
    assert judge(delivery(), Answered(status), NOW, 0.0, BACKOFF) == Again(NOW + 5, f"it answered {status}")


def test_gone_is_taken_at_its_word() -> None:
    assert isinstance(judge(delivery(), Answered(410, "60"), NOW, 0.0, BACKOFF), GivenUp)


def test_waits_double_up_to_a_bound() -> None:
    waits = [wait_s(attempts, Unanswered("no answer")) for attempts in range(1, 13)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]


def test_chance_spreads_the_attempts_over_half_of_the_wait() -> None:
    assert [wait_s(3, Unanswered("no answer"), chance) for chance in (0.0, 0.5, 1.0)] == [20, 15, 10]


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [("60", 60), ("3", 5), ("7200", 3600), (formatdate(NOW + 90, usegmt=True), 90), (formatdate(NOW - 90), 5)]
    + [(nonsense, 5) for nonsense in ("", "soon", "-1", "1.5", "٣٠", "Mon, 99 Foo 2026 00:00:00 GMT")]
    + [("9" * 400, 3600)],
)
def test_retry_after_is_honoured_within_the_longest_wait(header: str, expected_s: float) -> None:
    assert wait_s(1, Answered(503, header)) == expected_s


@given(st.text())
def test_no_header_is_too_strange(header: str) -> None:
    assert 5 <= wait_s(1, Answered(503, header)) <= 3600


def test_an_event_that_gets_too_old_is_given_up() -> None:
    old = NOW + BACKOFF.give_up_s
    assert isinstance(judge(delivery(80), Unanswered("no answer"), old - 3601, 0.0, BACKOFF), Again)
    verdict = judge(delivery(81), Unanswered("no answer"), old - 3599, 0.0, BACKOFF)
    assert verdict == GivenUp("no answer, and the event is too old to be told again")


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers(0, 10**6))
def test_a_next_attempt_comes_later_and_not_too_late(attempts: int, chance: float, age_s: int) -> None:
    match judge(delivery(attempts), Unanswered("no answer"), NOW + age_s, chance, BACKOFF):
        case Again(due_at):
            assert NOW + age_s + 2.5 <= due_at <= min(NOW + age_s + BACKOFF.max_s, NOW + BACKOFF.give_up_s)
        case other:
            assert isinstance(other, GivenUp)
            assert age_s + BACKOFF.max_s > BACKOFF.give_up_s


# ---- how many at once ------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abc"), max_size=40), st.integers(1, 12), st.integers(1, 5))
def test_neither_all_nor_one_endpoint_get_more_than_their_share(due: list[str], most: int, share: int) -> None:
    """Claims again and again, and lets nothing finish: at the end the bounds are reached, and never exceeded."""
    busy: Counter[str] = Counter()
    while True:
        limit, full = room(busy, most, share)
        claimed = [name for name in due if name not in full][:limit]
        if not claimed:
            break
        for name in claimed:
            due.remove(name)
            busy[name] += 1
        assert busy.total() <= most
        assert max(busy.values()) <= share
    assert busy.total() == most or not [name for name in due if busy[name] < share]
