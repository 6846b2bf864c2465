"""`Hosts`, a plain function of messages and time: who is alive, what is said again, what a loss means."""

import pytest

from frontend.hosts import Hosts
from frontend.messages import (
    Again,
    Beat,
    Connect,
    Disconnect,
    Erase,
    Find,
    Heard,
    Lost,
    Note,
    Say,
    Send,
    Silence,
    Undelivered,
)
from protocol.commands import Abort, Attach, Close, Command, Delete, Detach, Hello, Open
from protocol.reports import (
    Attached,
    Batch,
    Missed,
    Records,
    Refused,
    Stale,
    Took,
    Unknown,
)
from tests.frontend.hosts_bench import SETTINGS, Bench, lost, refusal, sends, told

# ---- workers come and go ---------------------------------------------------------------------------------------------


def test_a_worker_that_is_found_is_connected_and_greeted_with_every_beat() -> None:
    hosts = Hosts("f0", SETTINGS)
    first = hosts.handle(Beat(frozenset({"a"})), 0)
    assert first == [Connect("a"), Send("a", "", Hello(1, "f0", 0))]
    assert hosts.is_expecting(0.1)
    assert hosts.handle(Beat(frozenset({"a"})), 0.5) == [Send("a", "", Hello(1, "f0", 0))]


def test_ready_is_a_worker_whose_status_says_so_and_who_is_heard() -> None:
    bench = Bench("a")
    assert bench.hosts.why_unready(bench.now) is None
    bench.status("a", "loading")
    assert bench.hosts.why_unready(bench.now) == "The model is being loaded."
    bench.status("a", "draining")
    assert bench.hosts.why_unready(bench.now) == "The engine worker is stopping."
    bench.status("a")
    bench.wait(2.5)
    assert bench.hosts.why_unready(bench.now) == "No engine worker is running."


def test_phases_and_losses_are_noted_once() -> None:
    bench = Bench("a")
    notes = [effect.text for effect in bench.wait(5) if isinstance(effect, Note)]
    assert notes == ["worker a is lost: silent for 2.5 s"]
    notes = [effect.text for effect in [*bench.status("a"), *bench.status("a")] if isinstance(effect, Note)]
    assert notes == ["worker a is ready"]


def test_a_socket_that_is_gone_is_given_up_when_its_worker_stayed_silent() -> None:
    bench = Bench("a")
    bench.sockets = frozenset()
    assert Disconnect("a") not in bench.wait(60)
    assert Disconnect("a") in bench.wait(1)
    assert bench.do(Heard("a", Stale("i1"))) == []


def test_a_worker_that_speaks_another_version_is_noted_once_and_named_in_readiness() -> None:
    bench = Bench()
    bench.sockets = frozenset({"a"})
    bench.beat()
    bench.sent["a"] = 0
    [note] = bench.hear("a", Refused("speak 7", (7,)))
    assert isinstance(note, Note)
    assert bench.hear("a", Refused("speak 7", (7,))) == []
    assert "speak 7" in (bench.hosts.why_unready(bench.now) or "")


def test_stale_is_answered_by_hello() -> None:
    assert sends(Bench("a").hear("a", Stale("i2")), Hello)


# ---- what is said again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("incarnation", "about_the_create"),
    [("first a", Open(2, "resp_2", 1, b"{}")), ("second a", Attach(2, "resp_2", 0, True))],
    ids=["the same process", "another process"],
)
def test_after_every_welcome_all_is_said_again(incarnation: str, about_the_create: Command) -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    bench.create(2)
    bench.do(Find(3, "resp_z", True))
    effects = bench.welcome("a", incarnation)
    assert told(effects) == [(1, Again())]
    sent = [effect for effect in effects if isinstance(effect, Send)]
    assert [effect.command for effect in sent] == [about_the_create, Attach(3, "resp_z", 0, True)]
    assert {effect.incarnation for effect in sent} == {incarnation}


def test_fewer_messages_than_were_sent_attach_again_once() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    assert told(bench.status("a")) == []
    assert told(bench.status("a", lost=2)) == [(1, Again())]
    assert told(bench.status("a")) == []


def test_a_command_that_could_not_be_queued_is_made_up_for_when_the_worker_is_heard() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    bench.host(2, "resp_y", "a")
    bench.do(Undelivered("a", Close("resp_x", 1, "completed", 1)))
    assert told(bench.status("a")) == [(1, Again())]
    assert told(bench.status("a")) == []
    bench.do(Undelivered("a", Hello(1, "f0")))
    assert told(bench.status("a")) == []


def test_hello_counts_the_commands_that_were_queued() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    [(_, hello)] = sends(bench.beat(), Hello)
    before = hello.sent
    bench.do(Say(1, Abort("resp_x")))
    bench.do(Say(1, Close("resp_x", 1, "cancelled", 1)))
    bench.do(Undelivered("a", Close("resp_x", 1, "cancelled", 1)))
    assert sends(bench.beat(), Hello) == [("a", Hello(1, "f0", before + 1))]
    bench.welcome("a")
    assert sends(bench.beat(), Hello)[0][1].sent > before + 1
    bench.welcome("a", "second a")
    assert sends(bench.beat(), Hello)[0][1].sent < before + 1


@pytest.mark.parametrize("loss", ["told", "a gap", "welcomed", "restarted"])
def test_what_no_reader_says_again_is_repeated_until_it_is_confirmed(loss: str) -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    bench.do(Say(1, Abort("resp_x")))
    bench.do(Erase("resp_y"))
    match loss:
        case "told":
            effects = bench.hear("a", Missed())
        case "a gap":
            effects = bench.status("a", lost=1)
        case "welcomed":
            effects = bench.welcome("a")
        case _:
            effects = bench.welcome("a", "second a")
    assert sends(effects, Abort) == [("a", Abort("resp_x"))]
    assert sends(effects, Delete) == [("a", Delete("resp_y"))]
    assert told(effects) == [(1, Again())]
    [(_, hello)] = sends(bench.beat(), Hello)
    bench.confirm("a", hello.sent)
    assert not sends(bench.hear("a", Missed()), Abort)


def test_what_could_not_be_queued_is_repeated_when_the_worker_is_heard() -> None:
    bench = Bench("a")
    bench.do(Erase("resp_y"))
    bench.do(Undelivered("a", Delete("resp_y")))
    assert sends(bench.status("a"), Delete) == [("a", Delete("resp_y"))]
    assert sends(bench.status("a"), Delete) == []


def test_a_reader_that_has_come_back_is_not_detached_by_a_repetition() -> None:
    bench = Bench("a", "b")
    bench.host(1, "resp_x", "a")
    assert sends(bench.hear("b", Took(("resp_x",))), Detach) == [("a", Detach(1))]
    bench.attach(1)
    bench.hear("b", Attached(1, 5))
    bench.hear("a", Took(("resp_x",)))
    assert sends(bench.attach(1), Attach) == [("a", Attach(1, "resp_x", 5, True))]
    bench.do(Erase("resp_y"))
    bench.do(Undelivered("a", Delete("resp_y")))
    effects = bench.status("a")
    assert sends(effects, Delete) == [("a", Delete("resp_y"))]
    assert sends(effects, Detach) == []


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_sessions_of_a_lost_worker_wait_and_then_have_lost_their_log() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    assert told(bench.wait(3)) == [(1, Again())]
    assert bench.hosts.silence_of(1, bench.now).away_s == pytest.approx(3)
    assert told(bench.wait(56.5)) == []
    [(reader, message)] = told(bench.wait(0.5))
    assert reader == 1
    assert isinstance(message, Lost)
    assert message.error.code == "engine_lost"


def test_a_lost_worker_that_is_heard_again_goes_on() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    bench.wait(30)
    bench.attach(1)
    assert sends(bench.status("a"), Attach) == [("a", Attach(1, "resp_x", 5, True))]
    assert told(bench.hear("a", Attached(1, 9))) == [(1, Attached(1, 9))]
    assert bench.hosts.silence_of(1, bench.now) == Silence()
    assert told(bench.wait(100, "a")) == []


def test_records_of_a_worker_that_was_lost_do_not_detach_the_reader_that_asks_it() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    bench.wait(3)
    bench.attach(1)
    assert bench.hear("a", Records((Batch(1, 5, ()),))) == []
    bench.hear("a", Attached(1, 9))
    assert told(bench.hear("a", Records((Batch(1, 5, ()),)))) == [(1, Batch(1, 5, ()))]


def test_unknown_after_attaching_again_means_the_log_is_lost() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    bench.welcome("a", "second a")
    bench.status("a")
    assert lost(bench.hear("a", Unknown(1))) == [1]


def test_goodbye_is_a_loss_at_once_and_its_sessions_wait_for_the_welcome() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    assert told(bench.goodbye("a")) == []
    assert bench.hosts.why_unready(bench.now) is not None
    bench.now += 1
    assert bench.hosts.silence_of(1, bench.now).away_s == 1
    effects = bench.beat()
    assert sends(effects, Hello)
    assert told(effects) == [(1, Again())]
    bench.attach(1)
    assert sends(bench.welcome("a", "second a"), Attach) == [("a", Attach(1, "resp_x", 5, True))]
    bench.status("a", "loading")
    bench.hear("a", Attached(1, 9))
    assert bench.hosts.silence_of(1, bench.now) == Silence(loading=True)
    bench.status("a")
    assert bench.hosts.silence_of(1, bench.now) == Silence()
    assert bench.hosts.why_unready(bench.now) is None


def test_sessions_of_a_worker_that_said_goodbye_do_not_wait_for_ever() -> None:
    bench = Bench("a")
    bench.host(1, "resp_x", "a")
    bench.goodbye("a")
    assert lost(bench.wait(59.5)) == []
    assert lost(bench.wait(0.5)) == [1]


@pytest.mark.parametrize("pause_s", [5.0, 3600.0])
def test_a_pause_of_our_own_judges_nobody(pause_s: float) -> None:
    bench = Bench("a", "b")
    bench.host(1, "resp_x", "a")
    bench.do(Find(2, "resp_y", True))
    bench.hear("a", Unknown(2))
    effects = bench.beat(pause_s)
    assert told(effects) == []
    assert not any(isinstance(effect, Note) for effect in effects)
    assert bench.hosts.why_unready(bench.now) is None
    assert refusal(bench.hear("b", Unknown(2))).status == 404
    assert bench.wait(2.5) != []
    assert bench.hosts.why_unready(bench.now) is not None


def test_what_is_erased_is_forgotten_by_every_worker_also_without_a_reader() -> None:
    bench = Bench("a", "b")
    assert sends(bench.do(Erase("r1")), Delete) == [("a", Delete("r1")), ("b", Delete("r1"))]
