"""Acquaintance between frontends and worker: Hello, Welcome, Status, loss; and the worker's phases to its end."""

import pytest

from engine_worker.engines.interface import EngineLoad
from engine_worker.mailbox import DrainRequested, EngineReady, Received, StopRequested
from protocol.codec import VERSION
from protocol.commands import Addressed, Attach, Detach, Hello
from protocol.records import Closed, TurnFinished, Usage
from protocol.reports import Attached, Goodbye, Missed, QueuePlace, Refused, Rejected, Stale, Status, Welcome
from tests.engine_worker.world import INCARNATION, MODEL, Frontend, World


def test_the_first_hello_is_answered_by_welcome_and_status() -> None:
    world = World()
    frontend = world.frontend("f1")
    assert frontend.reports == [
        Welcome("worker-0", INCARNATION, VERSION),
        Status("ready", sent=1, models=(MODEL,)),
    ]
    world.hello(frontend)
    assert len(frontend.reports) == 2


def test_every_heartbeat_brings_the_status() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.load = EngineLoad(step=7, running=1, waiting=0, kv_use=0.25)
    world.advance(1)
    statuses = frontend.got(Status)
    assert [status.sent for status in statuses] == [1, 4, 5]
    last = statuses[-1]
    assert (last.step, last.running, last.kv_use) == (7, 1, 0.25)
    assert last.log_bytes > 0


def test_another_version_is_refused_by_name() -> None:
    world = World()
    stranger = world.frontends[b"f9"] = Frontend("f9")
    world.say(stranger, Hello(99, "f9"), incarnation="")
    (refused,) = stranger.got(Refused)
    assert refused.versions == (VERSION,)
    assert "version 99" in refused.message
    assert any("version 99" in note for note in world.notes)
    world.tick()
    assert len(stranger.reports) == 1


def test_a_name_that_is_not_the_routing_id_is_refused() -> None:
    world = World()
    stranger = world.frontends[b"f9"] = Frontend("f9")
    world.say(stranger, Hello(VERSION, "f1"), incarnation="")
    assert [type(report) for report in stranger.reports] == [Refused]


def test_a_frontend_that_missed_its_welcome_is_welcomed_again_and_keeps_what_it_has() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.say(frontend, Attach(1, "r", 0, client=True), incarnation="the one before")
    assert len(frontend.got(Welcome)) == 1
    for _ in range(2):
        world.hello(frontend)
    assert len(frontend.got(Welcome)) == 2
    world.tick()
    assert not frontend.missed
    world.close(frontend, "r")
    assert isinstance(frontend.log(1)[-1], Closed)


def count(world: World, frontend: Frontend, sent: int, incarnation: str | None = None) -> None:
    """A heartbeat that says how many commands were sent."""
    world.say(frontend, Hello(VERSION, frontend.name, sent), incarnation)


def test_a_frontend_whose_commands_were_lost_is_told_so_once_and_others_are_confirmed() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    count(world, frontend, sent=1)
    world.tick()
    assert [status.confirmed for status in frontend.got(Status)][-1] == 1
    count(world, frontend, sent=3)
    count(world, frontend, sent=3)
    assert len(frontend.got(Missed)) == 1
    world.say(frontend, Detach(1))
    count(world, frontend, sent=4)
    world.tick()
    assert len(frontend.got(Missed)) == 1
    assert [status.confirmed for status in frontend.got(Status)][-1] == 4


def test_what_a_frontend_had_sent_before_it_was_forgotten_is_not_missed() -> None:
    world = World()
    frontend = world.frontends[b"f1"] = Frontend("f1")
    count(world, frontend, sent=7)
    count(world, frontend, sent=7)
    assert [type(report) for report in frontend.reports] == [Welcome, Status]
    count(world, frontend, sent=9, incarnation="another")
    assert not frontend.got(Missed)


def test_a_frontend_that_goes_on_not_knowing_the_worker_is_welcomed_again() -> None:
    world = World()
    frontend = world.frontend("f1")
    count(world, frontend, sent=0, incarnation="")
    assert len(frontend.got(Welcome)) == 1  # it may be on its way
    world.advance(1.5)
    count(world, frontend, sent=0, incarnation="")
    count(world, frontend, sent=0, incarnation="")
    assert len(frontend.got(Welcome)) == 2


@pytest.mark.parametrize("known", [True, False])
def test_a_command_for_another_incarnation_is_not_carried_out(known: bool) -> None:
    world = World()
    frontend = world.frontend("f1") if known else world.frontends.setdefault(b"f1", Frontend("f1"))
    world.say(frontend, Attach(1, "r", 0, True), incarnation="the one before")
    assert frontend.reports[-1] == Stale(INCARNATION)
    assert any("refused a command" in note for note in world.notes)


def test_a_frontend_that_was_forgotten_is_told_so() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.silent.add("f1")
    world.advance(3)
    world.attach(frontend, "r")
    assert frontend.reports[-1] == Stale(INCARNATION)
    world.hello(frontend)
    assert len(frontend.got(Welcome)) == 2
    world.attach(frontend, "r")
    assert isinstance(frontend.got(Attached)[-1], Attached)


def test_any_command_shows_that_a_frontend_lives() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.silent.add("f1")
    for _ in range(10):
        world.advance(1)
        world.attach(frontend, "r")
    assert frontend.got(Stale) == []


def test_a_frontend_that_can_not_be_reached_is_lost_at_once() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    frontend.gone = True
    world.step("r")
    assert "0 frontends" in repr(world.actor)


def test_a_welcome_that_found_no_room_is_said_again() -> None:
    world = World()
    frontend = Frontend("f1")
    world.frontends[b"f1"] = frontend
    frontend.queue_full = True
    world.hello(frontend)
    frontend.queue_full = False
    world.hello(frontend)
    assert [type(report) for report in frontend.reports] == [Welcome, Status]
    assert not frontend.missed


def test_places_in_the_queue_are_those_of_requests_without_a_step() -> None:
    world = World()
    one, two = world.frontend("f1"), world.frontend("f2")
    for number in range(4):
        world.open(one, f"r{number}", reader=number)
    world.attach(two, "r3", reader=33)
    world.step("r0")
    world.load = EngineLoad(running=2, waiting=2)
    world.tick()
    assert one.got(Status)[-1].queue == (QueuePlace(2, 1), QueuePlace(3, 2))
    assert two.got(Status)[-1].queue == (QueuePlace(33, 2),)
    world.load = EngineLoad(running=1, waiting=4)
    world.tick()
    assert [place.position for place in one.got(Status)[-1].queue] == [2, 3, 4]
    world.emit("r2", TurnFinished("aborted", Usage()))
    world.close(one, "r3")
    world.load = EngineLoad(waiting=1)
    world.tick()
    assert one.got(Status)[-1].queue == (QueuePlace(1, 1),)


def test_a_change_of_phase_is_told_at_once() -> None:
    world = World(ready=False)
    frontend = world.frontend("f1")
    world.open(frontend, "r", reader=8)
    world.give(EngineReady((MODEL,)))
    world.open(frontend, "r")
    world.give(DrainRequested())
    assert [status.phase for status in frontend.got(Status)] == ["loading", "ready", "draining"]


def test_draining_finishes_old_work_refuses_new_and_then_ends() -> None:
    world = World(drain_s=10)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.give(DrainRequested())
    world.open(frontend, "new", reader=2)
    assert frontend.got(Rejected)[-1].error.code == "engine_unavailable"
    world.advance(5)
    world.finish("r")
    assert world.stopped is None
    world.close(frontend, "r")
    world.advance(0.5)
    assert isinstance(frontend.log(1)[-1], Closed)
    assert world.stopped == "drained"
    assert isinstance(frontend.reports[-1], Goodbye)


def test_draining_does_not_wait_for_ever() -> None:
    world = World(drain_s=10)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.give(DrainRequested())
    world.advance(9.5)
    assert world.stopped is None
    world.advance(0.5)
    assert world.stopped is not None
    assert isinstance(frontend.reports[-1], Goodbye)


@pytest.mark.parametrize("loaded", [True, False])
def test_an_idle_worker_is_drained_at_once_also_while_loading(loaded: bool) -> None:
    world = World(ready=loaded)
    world.frontend("f1")
    world.give(DrainRequested())
    assert world.stopped == "drained"


def test_draining_waits_for_nobody_when_no_frontend_is_left() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.finish("r")
    frontend.gone = True
    world.give(DrainRequested())
    world.advance(0.5)
    assert world.stopped is not None


def test_an_engine_that_gets_ready_while_draining_changes_nothing() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.give(DrainRequested())
    world.give(EngineReady((MODEL,)))
    assert frontend.got(Status)[-1].phase == "draining"


def test_a_stop_says_goodbye_to_everyone_and_how_much_was_said_before() -> None:
    world = World()
    frontends = [world.frontend("f1"), world.frontend("f2")]
    world.give(StopRequested("the engine died"))
    for frontend in frontends:
        assert frontend.reports[-1] == Goodbye("the engine died", frontend.received)
    assert world.stopped == "the engine died"


def test_records_and_status_for_a_stranger_cost_nothing() -> None:
    world = World()
    world.give(Received(b"\x00\xff", Addressed(INCARNATION, Attach(1, "r", 0, True))))
    assert "0 frontends" in repr(world.actor)
