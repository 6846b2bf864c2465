"""Which worker gets a new response: where its prompt's beginning is, where there is room, or the least to do."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterable

import pytest

from frontend.api.request import parse_create
from frontend.messages import Create, HostsEffect
from frontend.routing import Affinity, affinity_of, choose, choose_by_id, response_id_for
from frontend.workers import Worker
from protocol.commands import Attach, Open
from protocol.records import ErrorDetail
from protocol.reports import Attached, Rejected, Status, Unknown
from tests.frontend.hosts_bench import UNREADY, Bench, refusal, sends, told
from tests.frontend.served import Frontend
from tests.frontend.standin import StandIn
from tests.pace import DEADLINE_S

FACTOR = 1.25
FULL = ErrorDetail("too_many_requests", "queue_full", "full")
TOKENS = [f"{number:028x}" for number in range(400)]


def workers(**loads: int) -> list[Worker]:
    """Workers that have so many responses."""
    found = []
    for name, load in loads.items():
        worker = Worker(name, 0.0)
        worker.status = Status("ready", 1, running=load)
        found.append(worker)
    return found


def chosen(found: list[Worker], affinity: Affinity, token: str = "", factor: float = FACTOR) -> str:
    worker = choose(found, affinity, token, factor)
    assert worker is not None
    return worker.name


# ---- affinity --------------------------------------------------------------------------------------------------------


def test_a_chain_stays_where_its_last_response_was() -> None:
    previous = response_id_for(chosen(workers(a=0, b=1, c=1), Affinity(), TOKENS[0]), TOKENS[0])
    for token, loads in zip(TOKENS, itertools.product((2, 3), repeat=3), strict=False):
        found = workers(**dict(zip("abc", loads, strict=True)))
        assert chosen(found, Affinity(previous), token) == "a"
        previous = response_id_for("a", token)
        opened = choose_by_id(found, previous, FACTOR)
        assert opened is not None
        assert opened.name == "a"


def test_a_chain_leaves_a_worker_that_has_more_than_its_share_and_stays_where_it_went() -> None:
    previous = response_id_for("a", TOKENS[0])
    assert chosen(workers(a=20, b=15), Affinity(previous)) == "a"
    assert chosen(workers(a=30, b=10), Affinity(previous)) == "b"
    moved = response_id_for("b", TOKENS[1])
    assert chosen(workers(a=10, b=12), Affinity(moved)) == "b"


def test_few_responses_are_no_sign_of_load() -> None:
    assert chosen(workers(a=1, b=0), Affinity(response_id_for("a", TOKENS[0]))) == "a"
    assert chosen(workers(a=5, b=0), Affinity(response_id_for("a", TOKENS[0]))) == "b"


def test_a_key_goes_to_the_same_worker_from_any_frontend_and_keys_spread() -> None:
    homes: Counter[str] = Counter()
    for key in TOKENS:
        names = {chosen(workers(**dict.fromkeys(order, 3)), Affinity(key=key)) for order in ("abc", "cab", "bca")}
        assert len(names) == 1
        homes.update(names)
    assert min(homes.values()) > len(TOKENS) / 6


def test_only_the_keys_of_a_worker_that_goes_change_theirs() -> None:
    def home(found: Iterable[str], key: str) -> str:
        return chosen(workers(**dict.fromkeys(found, 1)), Affinity(key=key))

    assert all(home("ab", key) == home("abc", key) for key in TOKENS if home("abc", key) != "c")


def test_one_hot_key_can_not_overload_its_worker() -> None:
    found = workers(a=0, b=0, c=0)
    for token in TOKENS:
        worker = choose(found, Affinity(key="hot"), token, FACTOR)
        assert worker is not None
        worker.opened += 1
    assert max(worker.load() for worker in found) <= FACTOR * len(TOKENS) / 3 + 2


def test_without_affinity_the_least_loaded_worker_gets_it() -> None:
    previous = response_id_for("a", TOKENS[0])
    assert chosen(workers(a=1, b=0), Affinity(previous, "key"), factor=0) == "b"
    assert chosen(workers(a=3, b=2), Affinity()) == "b"


def test_what_is_continued_counts_before_the_conversation_and_that_before_the_cache_key() -> None:
    def affinity(fields: str) -> Affinity:
        body = f'{{"model": "m", "input": "hi"{fields}}}'
        return affinity_of(parse_create(body.encode(), "refuse").request, "alice")

    assert affinity("") == Affinity()
    assert affinity(', "prompt_cache_key": "k"') == Affinity("", "alice k")
    assert affinity(', "prompt_cache_key": "k", "conversation": "conv_1"') == Affinity("", "alice conv_1")
    chained = affinity(', "prompt_cache_key": "k", "previous_response_id": "resp_0000"')
    assert chained == Affinity("resp_0000", "alice k")
    found = workers(a=1, b=1, c=1)
    assert chosen(found, chained) == chosen(found, Affinity(key="alice k"))  # nobody knows that response


# ---- room ------------------------------------------------------------------------------------------------------------


def full(bench: Bench, worker: str, retry_after_s: int) -> None:
    """The worker says that its queue is full."""
    bench.hear(worker, Status("ready", bench.sent[worker] + 1, running=9, retry_after_s=retry_after_s))


def opened(effects: list[HostsEffect]) -> list[str]:
    return [worker for worker, _ in sends(effects, Open)]


def test_a_worker_that_says_it_is_full_gets_nothing_new_and_all_full_is_answered_at_once() -> None:
    bench = Bench("a", "b")
    full(bench, "a", 9)
    assert opened(bench.create(1, response_id_for("a", TOKENS[0]))) == ["b"]
    full(bench, "b", 7)
    effects = bench.create(2)
    assert opened(effects) == []
    error = refusal(effects)
    assert (error.status, error.code, error.headers["Retry-After"]) == (429, "queue_full", "7")
    bench.status("a")
    assert opened(bench.create(3)) == ["a"]


def test_who_is_refused_by_one_worker_asks_the_others_and_is_told_the_shortest_wait() -> None:
    bench = Bench("a", "b", "c")
    full(bench, "c", 8)
    [first] = opened(bench.create(1))
    [second] = opened(bench.hear(first, Rejected(1, FULL, 5)))
    assert {first, second} == {"a", "b"}
    error = refusal(bench.hear(second, Rejected(1, FULL, 6)))
    assert (error.status, error.headers["Retry-After"]) == (429, "5")


def test_nothing_waits_for_room_also_where_a_worker_may_be_back_soon() -> None:
    bench = Bench("a", "b")
    bench.goodbye("b")
    bench.create(1)
    assert refusal(bench.hear("a", Rejected(1, FULL, 3))).status == 429


def test_what_may_exist_already_is_tried_on_one_worker_only() -> None:
    bench = Bench("a", "b")
    full(bench, "a", 9)
    full(bench, "b", 9)
    bench.create(1, "resp_key", joins=True)
    bench.hear("a", Unknown(1))
    [host] = opened(bench.hear("b", Unknown(1)))
    effects = bench.hear(host, Rejected(1, FULL, 3))
    assert (refusal(effects).status, opened(effects)) == (429, [])


def asked_twice(*, joins: bool) -> tuple[Bench, str, str]:
    """A create that one worker was asked for again, for messages may have been lost; that one, and the other."""
    bench = Bench("a", "b")
    effects = bench.create(1, joins=joins)
    if joins:
        bench.hear("a", Unknown(1))
        effects = bench.hear("b", Unknown(1))
    [host] = opened(effects)
    assert opened(bench.welcome(host)) == [host]
    return bench, host, "b" if host == "a" else "a"


@pytest.mark.parametrize("joins", [False, True])
@pytest.mark.parametrize("error", [FULL, UNREADY], ids=["full", "not ready"])
def test_who_was_asked_twice_and_has_rejected_one_may_have_it(error: ErrorDetail, *, joins: bool) -> None:
    """The answer may be that to the first question, and the second have been carried out."""
    bench, host, other = asked_twice(joins=joins)
    effects = bench.hear(host, Rejected(1, error, 3))
    assert ({worker for worker, _ in sends(effects, Attach)}, opened(effects), told(effects)) == ({"a", "b"}, [], [])
    assert told(bench.hear(host, Attached(1, 3)))
    assert bench.hosts.worker_of(1) == host
    assert opened(bench.hear(other, Unknown(1))) == []


@pytest.mark.parametrize("joins", [False, True])
def test_who_was_asked_twice_and_does_not_have_it_has_rejected_both(*, joins: bool) -> None:
    bench, host, other = asked_twice(joins=joins)
    bench.status(host)
    for wait_s in (3, 4):
        bench.hear(host, Rejected(1, FULL, wait_s))
    bench.hear(host, Unknown(1))
    effects = bench.hear(other, Unknown(1))
    if joins:
        assert (refusal(effects).headers["Retry-After"], opened(effects)) == ("3", [])
    else:
        assert opened(effects) == [other]


def test_what_was_accepted_before_is_sent_to_a_full_worker_too() -> None:
    bench = Bench("a")
    full(bench, "a", 9)
    assert opened(bench.do(Create(Open(1, "resp_1", 1, b"{}", accepted=True), "demo"))) == ["a"]


async def test_a_client_is_told_when_to_come_back(frontend: Frontend, worker: StandIn) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while frontend.links.why_unready() is not None:
            await asyncio.sleep(0.01)
    async with frontend.create(stream=True):
        response_id = await worker.next_response()
        assert response_id == response_id_for(worker.name, response_id[-28:])
        worker.retry_after_s = 17
        async with asyncio.timeout(DEADLINE_S):
            while not frontend.links._hosts.retry_after_s("holdfast-demo", asyncio.get_running_loop().time()):
                await asyncio.sleep(0.01)
        async with frontend.create(stream=True) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, answer.headers["Retry-After"]) == (429, "17")
            assert (error["type"], error["code"]) == ("too_many_requests", "queue_full")
        assert len(worker.commands(Open)) == 1
