"""The queue of a worker: who is let in, who never is refused, where each stands, and when the rest may come again."""

from typing import Any

import pytest

from engine_worker.engines.interface import EngineLoad, TurnPrepared
from engine_worker.mailbox import TurnQueued, TurnRefused
from protocol.commands import Open
from protocol.records import ErrorDetail, TurnStarted
from protocol.reports import Attached, QueuePlace, Rejected, Status
from tests.engine_worker.world import UNIX_TIME, Frontend, World

REFUSAL = ErrorDetail("invalid_request_error", "invalid_value", "too hot", "temperature")


def ask(world: World, frontend: Frontend, number: int, tokens: int = 1, **fields: Any) -> Rejected | None:
    """Open response `r<number>`; its refusal, if it is refused."""
    known = len(frontend.got(Rejected))
    frontend.begin(number, 0)
    world.say(frontend, Open(number, f"r{number}", UNIX_TIME, b"{}", prompt_tokens=tokens, **fields))
    return next(iter(frontend.got(Rejected)[known:]), None)


def test_past_the_bound_a_request_is_refused_and_leaves_nothing_behind() -> None:
    world = World(start_turns=False, queue_requests_max=2)
    frontend = world.frontend("f1")
    assert ask(world, frontend, 1) is None
    assert ask(world, frontend, 2, background=True) is None
    refused = ask(world, frontend, 3, background=True)
    assert refused is not None
    assert (refused.reader, refused.error.type, refused.error.code) == (3, "too_many_requests", "queue_full")
    assert refused.retry_after_s == 1
    assert [turn.response_id for turn in world.turns] == ["r1", "r2"]
    assert world.journals == {}


@pytest.mark.parametrize("way", ["first step", "refused by the engine", "closed by its owner"])
def test_whoever_leaves_makes_room(way: str) -> None:
    world = World(start_turns=False, queue_requests_max=1)
    frontend = world.frontend("f1")
    ask(world, frontend, 1)
    if way == "refused by the engine":
        world.give(TurnRefused("r1", REFUSAL))
    else:
        world.take_turn("r1")
        assert ask(world, frontend, 2) is not None
        if way == "first step":
            world.step("r1")
        else:
            world.close(frontend, "r1")
    assert ask(world, frontend, 3) is None


def test_prompts_count_as_estimated_until_they_are_rendered() -> None:
    world = World(start_turns=False, queue_tokens_max=100)
    frontend = world.frontend("f1")
    assert ask(world, frontend, 1, tokens=80) is None
    assert ask(world, frontend, 2, tokens=21) is not None
    world.emit("r1", TurnPrepared(0, tuple(range(40)), b"state"))
    world.emit("r1", TurnStarted(0, 40))
    world.give(TurnQueued("r1"))
    assert ask(world, frontend, 2, tokens=61) is not None
    assert ask(world, frontend, 2, tokens=60) is None


def test_a_prompt_above_the_bound_is_taken_when_nothing_else_waits() -> None:
    world = World(queue_tokens_max=100)
    frontend = world.frontend("f1")
    assert ask(world, frontend, 1, tokens=1000) is None
    assert ask(world, frontend, 2, tokens=1000) is not None
    world.step("r1")
    assert ask(world, frontend, 2, tokens=1000) is None


def test_what_was_accepted_once_is_never_refused() -> None:
    world = World(queue_requests_max=1)
    frontend, other = world.frontend("f1"), world.frontend("f2")
    ask(world, frontend, 1)
    ask(world, other, 1)  # joins it
    assert len(other.got(Attached)) == 1
    assert ask(world, frontend, 2, accepted=True) is None  # a background response that is run again
    dead = World(queue_requests_max=2)
    for number in (3, 4):
        ask(dead, dead.frontend("f1"), number)
    world.take_over(dead.journals)
    assert [turn.response_id for turn in world.turns] == ["r1", "r2", "r3", "r4"]
    world.restart()
    assert len(world.turns) == 4
    world.hello(frontend)
    assert ask(world, frontend, 5) is not None
    for number in range(1, 5):
        world.step(f"r{number}")
    assert ask(world, frontend, 5) is None


def test_retry_after_is_the_time_in_which_the_queue_leaves_at_its_pace() -> None:
    world = World(queue_requests_max=8)
    frontend = world.frontend("f1")
    for number in range(8):
        ask(world, frontend, number)
    for number in range(8, 48):  # One leaves every half second, and another takes its place.
        world.advance(0.5)
        world.step(f"r{number - 8}")
        assert ask(world, frontend, number) is None
    refused = ask(world, frontend, 99)
    assert refused is not None
    assert refused.retry_after_s == pytest.approx(4, abs=1)
    world.advance(60)
    refused = ask(world, frontend, 99)  # Since then none has left.
    assert refused is not None
    assert refused.retry_after_s == 60


def test_time_in_which_nobody_waits_says_nothing_about_the_pace() -> None:
    world = World(queue_requests_max=2)
    frontend = world.frontend("f1")
    for number in range(1, 5):
        ask(world, frontend, number)
        world.advance(0.5)
        world.step(f"r{number}")
    world.advance(600)
    ask(world, frontend, 5)
    ask(world, frontend, 6)
    refused = ask(world, frontend, 7)
    assert refused is not None
    assert refused.retry_after_s == 1


def test_status_says_that_the_queue_is_full_unless_it_would_run_empty_meanwhile() -> None:
    world = World(queue_requests_max=2)
    frontend = world.frontend("f1")
    ask(world, frontend, 1)
    ask(world, frontend, 2)
    world.tick()
    assert frontend.got(Status)[-1].retry_after_s == 0
    world.advance(4)  # Nothing has left for so long.
    assert frontend.got(Status)[-1].retry_after_s == 4
    world.step("r1")
    world.tick()
    assert frontend.got(Status)[-1].retry_after_s == 0


def test_places_in_the_queue_follow_priority() -> None:
    world = World(start_turns=False)
    frontend = world.frontend("f1")
    for number, priority in ((1, 0), (2, 1), (3, 0), (4, -1)):
        ask(world, frontend, number)
        world.emit(f"r{number}", TurnPrepared(0, (1,), b"state", priority))
        world.emit(f"r{number}", TurnStarted(0, 1))
        world.give(TurnQueued(f"r{number}"))
    world.load = EngineLoad(waiting=4)
    world.tick()
    places = frontend.got(Status)[-1].queue
    assert places == (QueuePlace(4, 1), QueuePlace(1, 2), QueuePlace(3, 3), QueuePlace(2, 4))
