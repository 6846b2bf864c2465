"""Where `Hosts` places readers: who gets a new response, how one is found and joined, who hears of what."""

from frontend.messages import (
    Adopt,
    Again,
    Find,
    Heard,
    Leave,
    Say,
    Silence,
    Take,
    Undelivered,
)
from protocol.commands import Attach, Close, Detach, Open
from protocol.records import ErrorDetail
from protocol.reports import (
    Attached,
    Batch,
    ModelCard,
    Offered,
    QueuePlace,
    Records,
    Rejected,
    Status,
    Unknown,
)
from tests.frontend.hosts_bench import UNREADY, Bench, refusal, sends, told

# ---- creating --------------------------------------------------------------------------------------------------------


def test_a_create_goes_to_the_least_loaded_worker() -> None:
    bench = Bench("a", "b")
    bench.status("a", running=5)
    assert [worker for worker, _ in sends(bench.create(1), Open)] == ["b"]


def test_creates_count_as_load_until_the_next_status() -> None:
    bench = Bench("a", "b")
    workers = [worker for reader in range(1, 7) for worker, _ in sends(bench.create(reader), Open)]
    assert sorted(workers) == ["a"] * 3 + ["b"] * 3
    bench.status("a")
    bench.status("b", running=3)
    assert [worker for worker, _ in sends(bench.create(9), Open)] == ["a"]


def test_an_alias_is_served_and_an_unknown_model_is_not_found() -> None:
    bench = Bench("a")
    assert sends(bench.create(1, model="alias"), Open)
    error = refusal(bench.create(2, model="other"))
    assert (error.status, error.param) == (404, "model")
    assert "demo, alias" in error.message


def test_a_model_whose_worker_is_away_is_unavailable_and_not_unknown() -> None:
    bench = Bench("a", "b")
    bench.do(Heard("b", Status("draining", 2, models=(ModelCard("big"),))))
    assert refusal(bench.create(1, model="big")).status == 503


def test_a_create_waits_for_a_worker_that_was_just_found() -> None:
    bench = Bench()
    bench.sockets = frozenset({"a"})
    bench.beat()
    assert bench.create(1) == []
    bench.sent["a"] = 0
    assert sends(bench.welcome("a"), Open) == []
    assert [worker for worker, _ in sends(bench.status("a"), Open)] == ["a"]


def test_a_create_is_refused_when_the_worker_just_found_does_not_answer() -> None:
    bench = Bench()
    bench.sockets = frozenset({"a"})
    bench.beat()
    assert bench.create(1) == []
    assert refusal(bench.wait(2.5)).status == 503


def test_an_open_that_is_not_answered_is_given_up() -> None:
    bench = Bench("a")
    bench.create(1)
    assert told(bench.wait(59.5, "a")) == []
    assert refusal(bench.wait(0.5, "a")).status == 503


def test_an_open_rejected_because_the_engine_is_not_ready_goes_to_another_worker_then_is_refused() -> None:
    bench = Bench("a", "b")
    [(first, _)] = sends(bench.create(1), Open)
    [(second, _)] = sends(bench.hear(first, Rejected(1, UNREADY)), Open)
    assert {first, second} == {"a", "b"}
    assert refusal(bench.hear(second, Rejected(1, UNREADY))).status == 503


def test_an_open_that_could_not_be_queued_goes_to_another_worker_then_waits_for_one_to_be_heard() -> None:
    bench = Bench("a", "b")
    [(first, command)] = sends(bench.create(1), Open)
    [(second, _)] = sends(bench.do(Undelivered(first, command)), Open)
    assert {first, second} == {"a", "b"}
    assert bench.do(Undelivered(second, command)) == []
    assert sends(bench.status(first), Open) == [(first, command)]


def test_an_open_that_a_worker_left_goes_to_another_or_waits_until_it_is_back() -> None:
    bench = Bench("a", "b")
    [(first, _)] = sends(bench.create(1), Open)
    [(second, _)] = sends(bench.goodbye(first), Open)
    assert {first, second} == {"a", "b"}
    effects = bench.goodbye(second)
    assert sends(effects, Open) == []
    assert told(effects) == []
    bench.welcome(second, "its successor")
    bench.status(second)
    bench.hear(second, Unknown(1))
    bench.welcome(first, "its successor")
    bench.hear(second, Unknown(1))  # asked again, for it may have what the other left
    assert [again for again, _ in sends(bench.hear(first, Unknown(1)), Open)] == [second]


def test_an_open_stays_with_a_worker_that_may_have_carried_it_out() -> None:
    bench = Bench("a", "b")
    [(worker, _)] = sends(bench.create(1), Open)
    other = "b" if worker == "a" else "a"
    assert sends(bench.wait(10, other), Open) == []
    assert [again for again, _ in sends(bench.welcome(worker), Open)] == [worker]


def test_a_rejection_is_the_workers_own_error() -> None:
    bench = Bench("a")
    bench.create(1)
    error = refusal(bench.hear("a", Rejected(1, ErrorDetail("invalid_request_error", "too_long", "too long", "input"))))
    assert (error.status, error.code, error.param) == (400, "too_long", "input")


# ---- finding ---------------------------------------------------------------------------------------------------------


def test_not_found_needs_the_word_of_every_registered_worker() -> None:
    bench = Bench("a", "b")
    asked = sends(bench.do(Find(1, "resp_x", True)), Attach)
    assert asked == [("a", Attach(1, "resp_x", 0, True)), ("b", Attach(1, "resp_x", 0, True))]
    assert bench.hear("a", Unknown(1)) == []
    assert refusal(bench.hear("b", Unknown(1))).status == 404


def test_a_worker_that_does_not_answer_makes_it_unavailable() -> None:
    bench = Bench("a", "b")
    bench.do(Find(1, "resp_x", True))
    bench.hear("a", Unknown(1))
    error = refusal(bench.wait(2, "a"))
    assert (error.status, error.headers["Retry-After"]) == (503, "2")


def test_a_worker_long_silent_is_no_longer_asked() -> None:
    bench = Bench("a", "b")
    bench.wait(61, "a")
    assert [worker for worker, _ in sends(bench.do(Find(1, "resp_x", True)), Attach)] == ["a"]
    assert refusal(bench.hear("a", Unknown(1))).status == 404


def test_a_worker_that_says_goodbye_may_have_the_response_in_its_journal() -> None:
    bench = Bench("a", "b")
    bench.do(Find(1, "resp_x", True))
    bench.hear("a", Unknown(1))
    assert bench.goodbye("b")[1:] == []
    assert ("b", Attach(1, "resp_x", 0, True)) in sends(bench.welcome("b", "second b"), Attach)
    assert told(bench.hear("b", Attached(1, 3))) == [(1, Attached(1, 3))]


def test_who_said_unknown_before_another_died_is_asked_again() -> None:
    """It may have taken the response over since, and its `Took` be slower than the next process is."""
    bench = Bench("a", "b")
    bench.do(Find(1, "resp_x", True))
    bench.hear("a", Unknown(1))
    asked = sends(bench.welcome("b", "second b"), Attach)
    assert asked == [("a", Attach(1, "resp_x", 0, True)), ("b", Attach(1, "resp_x", 0, True))]
    bench.status("b")
    assert told(bench.hear("b", Unknown(1))) == []
    assert told(bench.hear("a", Attached(1, 3))) == [(1, Attached(1, 3))]


def test_an_answer_to_what_was_asked_before_another_died_is_not_the_last_word() -> None:
    """It said so before it took the response over, and is slow."""
    bench = Bench("a", "b")
    bench.do(Find(1, "resp_x", True))
    assert len(sends(bench.welcome("b", "second b"), Attach)) == 2
    bench.status("b")
    assert told(bench.hear("b", Unknown(1))) == []
    assert told(bench.hear("a", Unknown(1))) == []
    assert told(bench.hear("a", Attached(1, 3))) == [(1, Attached(1, 3))]


def test_an_answer_that_was_lost_is_not_waited_for() -> None:
    bench = Bench("a", "b")
    bench.do(Find(1, "resp_x", True))
    bench.hear("b", Unknown(1))
    assert sends(bench.status("a", lost=1), Attach) == [("a", Attach(1, "resp_x", 0, True))]
    assert refusal(bench.hear("a", Unknown(1))).status == 404


def test_a_worker_not_yet_acquainted_is_asked_when_it_welcomes_us() -> None:
    bench = Bench()
    bench.sockets = frozenset({"a"})
    bench.beat()
    assert bench.do(Find(1, "resp_x", False)) == []
    bench.sent["a"] = 0
    assert sends(bench.welcome("a"), Attach) == [("a", Attach(1, "resp_x", 0, False))]


def test_the_first_to_attach_hosts_and_a_second_is_detached() -> None:
    bench = Bench("a", "b")
    bench.do(Find(1, "resp_x", True))
    assert told(bench.hear("b", Attached(1, 3))) == [(1, Attached(1, 3))]
    assert sends(bench.hear("a", Attached(1, 3)), Detach) == [("a", Detach(1))]
    assert sends(bench.do(Say(1, Close("resp_x", 1, "completed", 1))), Close)[0][0] == "b"


# ---- joining by Idempotency-Key --------------------------------------------------------------------------------------


def test_a_create_that_joins_asks_everybody_first() -> None:
    bench = Bench("a", "b")
    assert len(sends(bench.create(1, joins=True), Attach)) == 2
    assert told(bench.hear("a", Attached(1, 9))) == [(1, Attached(1, 9))]


def test_two_frontends_open_a_keyed_create_on_the_same_worker() -> None:
    chosen = []
    for loads in ((0, 9), (9, 0)):
        bench = Bench("a", "b")
        bench.status("a", running=loads[0])
        bench.status("b", running=loads[1])
        bench.create(1, "resp_key", joins=True)
        bench.hear("a", Unknown(1))
        chosen += [worker for worker, _ in sends(bench.hear("b", Unknown(1)), Open)]
    assert len(chosen) == 2
    assert chosen[0] == chosen[1]


def test_keyed_creates_spread_over_the_workers() -> None:
    bench = Bench("a", "b")
    opened = []
    for reader in range(40):
        bench.create(reader, joins=True)
        bench.hear("a", Unknown(reader))
        opened += sends(bench.hear("b", Unknown(reader)), Open)
    assert {worker for worker, _ in opened} == {"a", "b"}


# ---- records and sessions --------------------------------------------------------------------------------------------


def test_records_reach_their_readers_and_those_that_left_are_detached() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    mine, stray = Batch(1, 0, ()), Batch(2, 0, ())
    effects = bench.hear("a", Records((mine, stray)))
    assert told(effects) == [(1, mine)]
    assert sends(effects, Detach) == [("a", Detach(2))]


def test_leaving_detaches_and_forgets() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    assert not bench.hosts.is_alone(2, "resp_x")
    assert sends(bench.do(Leave(1)), Detach) == [("a", Detach(1))]
    assert bench.do(Leave(1)) == []
    assert bench.do(Say(1, Detach(1))) == []
    assert "0 readers, 0 of them unplaced" in repr(bench.hosts)


def test_a_reader_that_left_while_it_was_opened_is_detached_and_again_when_attached() -> None:
    bench = Bench("a")
    bench.create(1)
    assert sends(bench.do(Leave(1)), Detach) == [("a", Detach(1))]
    assert sends(bench.hear("a", Attached(1, 3)), Detach) == [("a", Detach(1))]


def test_an_offer_makes_a_session_or_reminds_the_one_there_is() -> None:
    bench = Bench("a")
    assert bench.hear("a", Offered("resp_x", 2)) == [Adopt("a", "resp_x")]
    assert told(bench.do(Take(1, "resp_x", "a"))) == [(1, Again())]
    assert told(bench.hear("a", Offered("resp_x", 2))) == [(1, Again())]


def test_the_queue_position_is_known_to_the_reader_it_is_for() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    bench.status("a", queue=(QueuePlace(1, 4),))
    assert bench.hosts.silence_of(1, bench.now) == Silence(None, 4)
    bench.status("a")
    assert bench.hosts.silence_of(1, bench.now) == Silence(None, None)


# ---- many readers at once --------------------------------------------------------------------------------------------

MANY = 1000


def crowded(*workers: str) -> Bench:
    """A bench with so many readers that one worker hosts."""
    bench = Bench(*workers)
    for reader in range(MANY):
        bench.host(reader, f"resp_{reader}", "a")
    return bench


def test_a_restarted_worker_is_told_of_its_readers_in_portions_between_which_beats_come_soon() -> None:
    bench = crowded("a")
    portions = [told(bench.welcome("a", "second a"))]
    while bench.hosts.is_expecting(bench.now):
        portions.append(told(bench.beat(0.02)))
        portions.append(told(bench.status("a")))
    assert [reader for portion in portions for reader, _ in portion] == list(range(MANY))
    assert max(map(len, portions)) < 200


def test_what_is_missed_meanwhile_does_not_bring_those_told_before_those_that_wait() -> None:
    bench = crowded("a")
    first = [reader for reader, _ in told(bench.welcome("a", "second a"))]
    rest = [reader for reader, _ in told(bench.status("a", lost=1))]
    while set(rest) != set(range(MANY)):
        rest += [reader for reader, _ in told(bench.beat(0.02))]
    assert rest[: MANY - len(first)] == list(range(len(first), MANY))


def test_the_readers_of_a_lost_worker_look_elsewhere_in_portions() -> None:
    bench = crowded("a", "b")
    effects = bench.wait(2.5, "b")
    assert 0 < len(told(effects)) < 200
    assert bench.hosts.is_expecting(bench.now)
    while bench.hosts.is_expecting(bench.now):
        effects += bench.beat(0.02)
        bench.status("b")
    assert sorted(reader for reader, _ in told(effects)) == list(range(MANY))


def test_an_open_that_a_dead_process_may_have_carried_out_stays_while_it_waits_for_its_portion() -> None:
    bench = crowded("a")
    bench.create(MANY)
    bench.sockets |= {"b"}
    bench.beat()
    bench.sent["b"] = 0
    bench.welcome("b")
    bench.status("b")
    bench.welcome("a", "second a")
    assert sends(bench.goodbye("a"), Open) == []
