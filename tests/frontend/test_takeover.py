"""`Hosts` when a worker's responses go to another one: who is moved, what is looked for, who is told what."""

import pytest

from frontend.messages import Adopt, Again, Find, Leave, Say, Silence, Undelivered
from protocol.commands import Attach, Close, Detach, Open
from protocol.reports import Attached, Batch, Offered, Records, Took, Unknown
from tests.frontend.hosts_bench import Bench, lost, refusal, sends, told

X = ("resp_x",)


def hosted(*workers: str, readers: int = 1) -> Bench:
    """A bench whose first worker hosts that many readers of resp_x, from 1 on."""
    bench = Bench(*workers)
    for reader in range(1, readers + 1):
        bench.host(reader, "resp_x", workers[0])
    return bench


def restart(bench: Bench, worker: str) -> None:
    """The worker is there again, another process, and loading."""
    bench.welcome(worker, f"second {worker}")
    bench.status(worker, "loading")


# ---- Took ------------------------------------------------------------------------------------------------------------


def test_took_moves_all_readers_of_a_response_to_where_they_are_and_detaches_them_from_where_they_were() -> None:
    bench = hosted("a", "b", readers=2)
    bench.host(3, "resp_y", "a")
    effects = bench.hear("b", Took(X))
    assert told(effects) == [(1, Again()), (2, Again())]
    assert sends(effects, Detach) == [("a", Detach(1)), ("a", Detach(2))]
    assert sends(bench.attach(1, offset=7), Attach) == [("b", Attach(1, "resp_x", 7, True))]
    assert sends(bench.do(Say(3, Close("resp_y", 1, "completed", 1))), Close)[0][0] == "a"


def test_what_the_former_worker_says_after_took_reaches_nobody() -> None:
    bench = hosted("a", "b")
    bench.hear("b", Took(X))
    batch = Batch(1, 5, ())
    for stray in (Records((batch,)), Attached(1, 5), Unknown(1)):
        assert told(bench.hear("a", stray)) == []
    assert told(bench.hear("b", Records((batch,)))) == [(1, batch)]


def test_took_names_responses_that_nobody_reads_here() -> None:
    bench = hosted("a", "b")
    assert bench.hear("b", Took(("resp_1", "resp_2"))) == []


def test_took_finds_what_is_looked_for_and_those_that_were_asked_too_forget_it() -> None:
    bench = Bench("a", "b", "c")
    bench.do(Find(1, "resp_x", True))
    bench.hear("b", Unknown(1))
    effects = bench.hear("b", Took(X))
    assert told(effects) == [(1, Again())]
    assert sends(effects, Detach) == [("a", Detach(1)), ("c", Detach(1))]
    assert told(bench.hear("b", Attached(1, 4))) == [(1, Attached(1, 4))]


def test_took_joins_a_create_whose_worker_died_before_it_answered() -> None:
    bench = Bench("a")
    [(_, command)] = sends(bench.create(1, "resp_x"), Open)
    bench.sockets |= {"b"}
    bench.beat()
    bench.sent["b"] = 0
    bench.welcome("b")
    assert told(bench.hear("b", Took((command.response_id,)))) == [(1, Again())]
    assert sends(bench.attach(1, offset=0), Attach) == [("b", Attach(1, "resp_x", 0, True))]
    assert sends(bench.welcome("a", "second a"), Open) == []


def test_a_second_takeover_moves_the_readers_once_more() -> None:
    bench = hosted("a", "b", "c")
    bench.hear("b", Took(X))
    effects = bench.hear("c", Took(X))
    assert told(effects) == [(1, Again())]
    assert sends(effects, Detach) == [("b", Detach(1))]
    assert sends(bench.attach(1), Attach) == [("c", Attach(1, "resp_x", 5, True))]


def test_a_response_that_comes_back_to_its_first_worker_is_read_there() -> None:
    bench = hosted("a", "b")
    bench.hear("b", Took(X))
    bench.welcome("a", "second a")
    assert told(bench.hear("a", Took(X))) == [(1, Again())]
    assert sends(bench.attach(1), Attach) == [("a", Attach(1, "resp_x", 5, True))]


# ---- Took that did not come ------------------------------------------------------------------------------------------


def test_a_response_its_restarted_worker_does_not_know_is_looked_for_with_the_sessions_offset() -> None:
    bench = hosted("a", "b")
    restart(bench, "a")
    assert told(bench.hear("a", Unknown(1))) == [(1, Again())]
    assert sends(bench.attach(1), Attach) == [(name, Attach(1, "resp_x", 5, True)) for name in ("a", "b")]
    assert told(bench.hear("b", Attached(1, 9))) == [(1, Attached(1, 9))]
    assert told(bench.hear("b", Took(X))) == [(1, Again())]


def test_readers_of_a_lost_worker_are_looked_for_on_all_others() -> None:
    bench = hosted("a", "b")
    assert told(bench.wait(3, "b")) == [(1, Again())]
    assert sends(bench.attach(1), Attach) == [(name, Attach(1, "resp_x", 5, True)) for name in ("a", "b")]
    assert told(bench.hear("b", Attached(1, 9))) == [(1, Attached(1, 9))]
    assert bench.hosts.silence_of(1, bench.now) == Silence()


@pytest.mark.parametrize("how", ["a message was lost", "it was not known yet"])
def test_a_worker_that_had_not_said_that_it_took_is_asked_again(how: str) -> None:
    bench = hosted("a", "b")
    bench.wait(3, "b")
    bench.attach(1)
    assert told(bench.hear("b", Unknown(1))) == []
    effects = bench.status("b", lost=1) if how == "a message was lost" else bench.welcome("b")
    assert sends(effects, Attach) == [("b", Attach(1, "resp_x", 5, True))]
    assert told(bench.hear("b", Attached(1, 9))) == [(1, Attached(1, 9))]


def test_a_worker_that_is_asked_again_is_waited_for_again() -> None:
    bench = hosted("a", "b", "c")
    bench.wait(3, "b", "c")
    bench.attach(1)
    bench.hear("b", Unknown(1))
    bench.status("b", lost=1)
    bench.hear("c", Unknown(1))
    bench.welcome("a", "second a")  # all are asked again
    bench.status("a")
    assert told(bench.hear("a", Unknown(1))) == []
    assert told(bench.hear("c", Unknown(1))) == []
    assert told(bench.hear("b", Unknown(1))) == []  # as it was asked before
    assert lost(bench.hear("b", Unknown(1))) == [1]


def test_a_worker_that_is_found_later_is_asked_for_what_is_looked_for() -> None:
    bench = hosted("a")
    bench.wait(3)
    bench.attach(1)
    bench.sockets |= {"b"}
    bench.beat()
    bench.sent["b"] = 0
    assert sends(bench.welcome("b"), Attach) == [("b", Attach(1, "resp_x", 5, True))]
    assert told(bench.hear("b", Attached(1, 9))) == [(1, Attached(1, 9))]


def test_an_offer_of_what_is_looked_for_is_where_it_is_and_needs_no_further_reader() -> None:
    bench = hosted("a", "b")
    bench.wait(3, "b")
    assert told(bench.hear("b", Offered("resp_x", 2))) == [(1, Again())]
    assert sends(bench.attach(1), Attach) == [("b", Attach(1, "resp_x", 5, True))]


def test_an_offer_from_another_worker_than_the_one_that_is_read_needs_a_reader() -> None:
    bench = hosted("a", "b")
    assert bench.hear("b", Offered("resp_x", 2)) == [Adopt("b", "resp_x")]


# ---- the last word ---------------------------------------------------------------------------------------------------


def test_a_log_is_lost_when_all_workers_say_unknown() -> None:
    bench = hosted("a", "b", "c")
    bench.welcome("a", "second a")
    bench.status("a")
    bench.hear("a", Unknown(1))
    bench.attach(1)
    assert told(bench.hear("b", Unknown(1))) == []
    assert lost(bench.hear("c", Unknown(1))) == [1]


def test_unknown_from_a_loading_worker_is_not_its_last_word() -> None:
    bench = hosted("a")
    restart(bench, "a")
    assert told(bench.hear("a", Unknown(1))) == [(1, Again())]
    bench.attach(1)
    assert told(bench.hear("a", Unknown(1))) == []
    assert bench.hosts.silence_of(1, bench.now) == Silence(loading=True, looking=True)
    assert sends(bench.status("a"), Attach) == [("a", Attach(1, "resp_x", 5, True))]
    assert lost(bench.hear("a", Unknown(1))) == [1]


def test_not_found_waits_for_a_loading_worker_to_be_ready() -> None:
    bench = Bench("a")
    restart(bench, "a")
    bench.do(Find(1, "resp_x", True))
    assert told(bench.hear("a", Unknown(1))) == []
    assert sends(bench.status("a"), Attach) == [("a", Attach(1, "resp_x", 0, True))]
    assert refusal(bench.hear("a", Unknown(1))).status == 404
    bench.do(Leave(1))
    restart(bench, "a")
    bench.do(Find(2, "resp_x", True))
    bench.hear("a", Unknown(2))
    assert refusal(bench.wait(2)).status == 503


def test_a_draining_worker_takes_nothing_over_so_that_its_unknown_counts() -> None:
    bench = Bench("a")
    bench.status("a", "draining")
    bench.do(Find(1, "resp_x", True))
    assert refusal(bench.hear("a", Unknown(1))).status == 404


def test_a_silent_worker_is_waited_for_as_long_as_streams_wait_for_workers() -> None:
    bench = hosted("a", "b")
    bench.wait(3, "b")
    bench.attach(1)
    bench.hear("b", Unknown(1))
    assert lost(bench.wait(56.5, "b")) == []
    assert lost(bench.wait(0.5, "b")) == [1]


def test_a_worker_that_wakes_after_its_readers_were_told_of_the_loss_has_none() -> None:
    bench = hosted("a", "b")
    bench.wait(60, "b")
    bench.do(Leave(1))
    assert sends(bench.hear("a", Records((Batch(1, 5, ()),))), Detach) == [("a", Detach(1))]
    bench.status("a")
    assert bench.hear("a", Offered("resp_x", 1)) == [Adopt("a", "resp_x")]
    asked = sends(bench.do(Find(2, "resp_x", True)), Attach)
    assert [worker for worker, _ in asked] == ["a", "b"]


def test_a_worker_that_drains_hands_over_and_its_readers_follow() -> None:
    bench = hosted("a", "b")
    bench.status("a", "draining")
    assert told(bench.goodbye("a")) == []
    assert told(bench.hear("b", Took(X))) == [(1, Again())]
    assert sends(bench.attach(1), Attach) == [("b", Attach(1, "resp_x", 5, True))]
    assert lost(bench.wait(100, "b")) == []


def test_while_it_is_looked_for_the_client_hears_that_it_recovers() -> None:
    bench = hosted("a", "b")
    bench.wait(3, "b")
    assert bench.hosts.silence_of(1, bench.now) == Silence(away_s=3.0, looking=True)
    bench.hear("b", Took(X))
    assert bench.hosts.silence_of(1, bench.now) == Silence()


def test_a_reader_that_leaves_while_it_is_looked_for_is_forgotten_by_all_that_were_asked() -> None:
    bench = hosted("a", "b")
    bench.wait(3, "b")
    bench.attach(1)
    assert sends(bench.do(Leave(1)), Detach) == [("a", Detach(1)), ("b", Detach(1))]
    assert bench.hear("b", Took(X)) == []


def test_a_reader_whose_leaving_could_not_be_told_is_detached_when_the_worker_is_heard() -> None:
    bench = hosted("a")
    [(_, detach)] = sends(bench.do(Leave(1)), Detach)
    bench.do(Undelivered("a", detach))
    assert sends(bench.status("a"), Detach) == [("a", Detach(1))]
    assert sends(bench.status("a"), Detach) == []


# ---- creates ---------------------------------------------------------------------------------------------------------


def test_an_open_whose_worker_was_restarted_goes_to_any_ready_one_when_nobody_has_it() -> None:
    bench = Bench("a", "b")
    [(first, command)] = sends(bench.create(1), Open)
    other = "b" if first == "a" else "a"
    bench.welcome(first, "its successor")
    bench.status(first, "loading")
    assert told(bench.hear(first, Unknown(1))) == []
    assert sends(bench.hear(other, Unknown(1)), Open) == [(other, command)]


def test_an_open_whose_worker_was_restarted_is_read_where_it_runs() -> None:
    bench = Bench("a", "b")
    [(first, _)] = sends(bench.create(1), Open)
    other = "b" if first == "a" else "a"
    effects = bench.welcome(first, "its successor")
    assert sends(effects, Open) == []
    assert [worker for worker, _ in sends(effects, Attach)] == ["a", "b"]
    assert told(bench.hear(other, Attached(1, 3))) == [(1, Attached(1, 3))]


def test_an_open_whose_worker_keeps_being_restarted_is_given_up_in_time() -> None:
    bench = Bench("a")
    bench.create(1)
    for life in range(12):
        bench.welcome("a", f"life {life}")
        bench.status("a")
        assert len(sends(bench.hear("a", Unknown(1)), Open)) == 1
        effects = bench.wait(5, "a")
    assert refusal(effects).status == 503


def test_an_open_whose_worker_is_known_to_be_dead_is_looked_for_and_then_goes_to_another() -> None:
    bench = Bench("a", "b")
    [(first, command)] = sends(bench.create(1), Open)
    heir = "b" if first == "a" else "a"
    assert [worker for worker, _ in sends(bench.hear(heir, Took((), f"first {first}")), Attach)] == [heir]
    assert sends(bench.hear(heir, Unknown(1)), Open) == [(heir, command)]
    assert told(bench.hear(heir, Attached(1, 3))) == [(1, Attached(1, 3))]


def test_an_open_whose_worker_is_known_to_be_dead_is_read_where_it_runs() -> None:
    bench = Bench("a", "b", "c")
    [(first, _)] = sends(bench.create(1), Open)
    heir, other = sorted({"a", "b", "c"} - {first})
    bench.hear(heir, Took((), f"first {first}"))
    bench.hear(other, Unknown(1))
    assert told(bench.hear(heir, Attached(1, 3))) == [(1, Attached(1, 3))]


def test_a_worker_known_to_be_dead_is_lost_at_once_and_one_that_was_restarted_since_is_not() -> None:
    bench = hosted("a", "b")
    bench.hear("b", Took((), "first a"))
    assert told(bench.beat()) == [(1, Again())]
    assert [worker for worker, _ in sends(bench.create(2), Open)] == ["b"]
    restart(bench, "a")
    bench.hear("b", Took((), "first a"))
    assert bench.hosts.silence_of(1, bench.now).away_s is None


def test_an_open_is_not_carried_out_twice_when_its_answer_may_have_been_lost() -> None:
    bench = Bench("a", "b")
    [(first, command)] = sends(bench.create(1), Open)
    assert sends(bench.status(first, lost=1), Open) == [(first, command)]
    assert sends(bench.do(Undelivered(first, command)), Open) == []
    assert sends(bench.goodbye(first), Open) == []


def test_a_goodbye_that_counts_more_than_arrived_leaves_its_opens_where_they_are() -> None:
    bench = Bench("a", "b")
    [(first, _)] = sends(bench.create(1), Open)
    assert sends(bench.goodbye(first, lost=1), Open) == []
    assert [worker for worker, _ in sends(bench.welcome(first, "its successor"), Attach)] == ["a", "b"]


@pytest.mark.parametrize("how", ["silent", "goodbye", "unreachable", "loading"])
def test_a_create_waits_for_the_only_worker_to_be_back(how: str) -> None:
    bench = Bench("a")
    match how:
        case "silent":
            bench.wait(3)
        case "goodbye":
            bench.goodbye("a")
        case "unreachable":
            bench.do(Undelivered("a", Detach(9)))
        case _:
            restart(bench, "a")
    assert bench.create(1) == []
    assert bench.beat(0.5) is not None
    bench.welcome("a", "second a")
    assert [worker for worker, _ in sends(bench.status("a"), Open)] == ["a"]


def test_a_create_is_refused_once_the_only_worker_has_been_away_for_long() -> None:
    bench = Bench("a")
    bench.wait(50)
    assert told(bench.create(1)) == []
    assert refusal(bench.wait(10.5)).status == 503
    bench.do(Leave(1))
    assert refusal(bench.create(2)).status == 503


def test_a_create_does_not_wait_for_a_worker_that_said_that_it_drains() -> None:
    bench = Bench("a")
    bench.status("a", "draining")
    bench.goodbye("a")
    assert refusal(bench.create(1)).status == 503
