"""Which deaths a turn is held to have caused, so that no request ends one process after another."""

import pytest

from engine_worker.engines.interface import EngineLoad
from engine_worker.mailbox import DrainRequested, EngineReady, TurnRefused
from protocol.records import ErrorDetail, TurnFinished
from protocol.reports import Goodbye
from tests.engine_worker.world import MODEL, Frontend, World

UNAVAILABLE = ErrorDetail("server_error", "engine_unavailable", "The engine has stopped.")


def running(*names: str, steps: int = 1, worker_deaths_max: int = 4, drain_s: float = 10) -> World:
    """A world with these responses, in this order, each of which has taken so many steps; a frontend reads them."""
    world = World(worker_deaths_max=worker_deaths_max, drain_s=drain_s)
    frontend = world.frontend("f1")
    for reader, name in enumerate(names):
        world.open(frontend, name, reader)
        for _ in range(steps):
            world.step(name)
    return world


def started(world: World) -> set[str]:
    """The turns that were given to the engine since the last restart."""
    return {turn.response_id for turn in world.turns}


def end_of(world: World, response_id: str) -> TurnFinished:
    """The last record of the response's log, which must be the turn's end."""
    frontend = Frontend(f"reader of {response_id}")
    world.frontends[frontend.name.encode()] = frontend
    world.hello(frontend)
    world.attach(frontend, response_id)
    [finished] = [record for record in frontend.log(1) if isinstance(record, TurnFinished)]
    return finished


def test_a_turn_that_two_engines_died_of_is_not_started_a_third_time() -> None:
    world = running("r")
    world.lose_engine()
    world.restart()
    assert started(world) == {"r"}
    world.step("r", "it gets on")
    world.lose_engine()
    world.restart()
    assert started(world) == set()
    error = end_of(world, "r").error
    assert error is not None
    assert (error.code, "engine died 2 times" in error.message) == ("engine_lost", True)


def test_frontends_are_told_why_the_engine_is_gone_and_the_deaths_are_journaled_before() -> None:
    world = running("r")
    before = sum(map(len, world.journals.values()))
    world.lose_engine()
    assert world.stopped == "it died"
    assert [goodbye.reason for goodbye in world.frontends[b"f1"].got(Goodbye)] == ["it died"]
    assert sum(map(len, world.journals.values())) > before


def test_what_waited_behind_others_in_the_engines_queue_is_not_to_blame() -> None:
    """Three wait: the first may be what the engine was just taking in, the others it never came to."""
    world = running("begun", "first", "second", "third", steps=0)
    for _ in range(2):
        assert started(world) == {"begun", "first", "second", "third"}
        world.lose_engine(waiting=3)
        world.restart()
    assert started(world) == {"second", "third"}
    assert end_of(world, "begun").reason == end_of(world, "first").reason == "error"


def test_a_turn_that_was_refused_is_not_counted_as_one_in_the_queue() -> None:
    world = running("first", "second", "refused", steps=0)
    for _ in range(2):
        world.start_turns = False
        world.restart()
        for turn in world.turns:
            if turn.response_id == "refused":
                world.give(TurnRefused("refused", UNAVAILABLE))
            else:
                world.take_turn(turn.response_id, turn.resume)
        world.lose_engine(waiting=2)
    world.restart()
    assert started(world) == {"second", "refused"}


def test_a_request_that_kills_each_engine_before_its_first_step_comes_to_an_end() -> None:
    world = running(*"abcdef", steps=0)
    deaths = 0
    while "f" in started(world):
        queue = len(started(world))
        world.lose_engine(waiting=queue)
        world.restart()
        deaths += 1
    assert deaths <= 2 * 6
    assert end_of(world, "f").reason == "error"


def test_with_what_was_preempted_in_front_nothing_without_a_step_is_to_blame() -> None:
    world = running("preempted")
    world.open(world.frontends[b"f1"], "fresh", reader=5)
    for _ in range(2):
        world.lose_engine(waiting=2)
        world.restart()
    assert started(world) == {"fresh"}


def test_a_killed_process_is_no_turns_fault_while_the_turn_gets_on() -> None:
    world = running("r")
    for _ in range(20):
        world.restart()
        assert started(world) == {"r"}
        world.step("r")


def test_a_turn_that_gets_nowhere_in_so_many_processes_in_a_row_is_failed() -> None:
    world = running("r", worker_deaths_max=3)
    for _ in range(3):
        world.restart()
        assert started(world) == {"r"}
    world.restart()
    assert started(world) == set()
    error = end_of(world, "r").error
    assert error is not None
    assert (error.code, "died 3 times in a row" in error.message) == ("engine_lost", True)


def test_a_step_between_begins_the_count_anew() -> None:
    world = running("r", worker_deaths_max=3)
    for _ in range(5):
        world.restart()
        world.restart()
        world.step("r")
    world.restart()
    assert started(world) == {"r"}


def test_deaths_before_there_was_an_engine_are_not_the_turns_fault() -> None:
    world = running("r", steps=0)
    for _ in range(20):
        world.restart(ready=False)
    world.give(EngineReady((MODEL,)))
    assert started(world) == {"r"}


@pytest.mark.parametrize("steps", [0, 1])
def test_a_turn_left_on_purpose_is_left_as_often_as_need_be(steps: int) -> None:
    world = running("r", steps=steps)
    for _ in range(20):
        world.stop()
        world.restart()
        assert started(world) == {"r"}


def test_what_a_drain_leaves_is_left_on_purpose_too() -> None:
    world = running("r", steps=0, drain_s=2)
    for _ in range(20):
        world.give(DrainRequested())
        world.advance(2.5)
        assert world.stopped is not None
        world.restart()
        assert started(world) == {"r"}


def test_being_left_does_not_hide_the_deaths_before() -> None:
    world = running("r", steps=0, worker_deaths_max=3)
    world.restart()
    world.restart()
    world.stop()
    world.restart()
    assert started(world) == {"r"}
    world.restart()
    assert started(world) == set()


def test_a_turn_that_the_dead_engine_does_not_take_stays_for_the_next() -> None:
    world = running("r")
    for _ in range(20):
        world.start_turns = False
        world.restart()
        world.give(TurnRefused("r", UNAVAILABLE))
        world.lose_engine()
    world.start_turns = True
    world.restart()
    assert started(world) == {"r"}
    world.finish("r")
    assert end_of(world, "r").reason == "stop"


def test_an_abort_while_the_engine_is_dead_ends_the_turn() -> None:
    world = running("r")
    world.start_turns = False
    world.restart()
    world.give(TurnRefused("r", UNAVAILABLE))
    world.abort(world.frontend("f2"), "r")
    assert end_of(world, "r").reason == "aborted"


def test_an_abort_of_a_turn_that_is_refused_then_ends_it_too() -> None:
    world = running("r")
    world.start_turns = False
    world.restart()
    world.abort(world.frontend("f2"), "r")
    world.give(TurnRefused("r", UNAVAILABLE))
    assert end_of(world, "r").reason == "aborted"


def test_a_turn_that_waits_for_an_engine_was_in_none_that_died() -> None:
    world = running("r")
    for _ in range(5):
        world.restart(ready=False)
        world.lose_engine()
    world.restart()
    assert started(world) == {"r"}
    assert world.load == EngineLoad()
