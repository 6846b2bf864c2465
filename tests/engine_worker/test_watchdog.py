"""When an engine counts as one that hangs, and when it is only busy, idle, or not looked at."""

import pytest

from engine_worker.engines.interface import EngineLoad
from engine_worker.watchdog import EngineWatch
from tests.engine_worker.world import World

BUSY = EngineLoad(step=7, running=3, waiting=1, signs=5)


def hangs(world: World) -> list[str]:
    """What the actor said of hangs, as a reason to end."""
    return [note for note in world.notes if "hangs" in note]


def test_work_without_a_sign_of_life_is_a_hang_and_says_what_was_seen() -> None:
    watch = EngineWatch(hang_after_s=60)
    assert watch.look(BUSY, 0) is None
    assert watch.look(BUSY, 59.5) is None
    assert watch.look(BUSY, 60) == (
        "it hangs: it has not taken a step for 60 s with 3 requests running and 1 waiting, and does not answer"
    )


def test_each_sign_of_life_begins_the_time_anew() -> None:
    watch = EngineWatch(hang_after_s=60)
    for signs in range(10):
        assert watch.look(EngineLoad(running=1, signs=signs), 59.0 * signs) is None
    assert watch.look(EngineLoad(running=1, signs=9), 59.0 * 9 + 60) is not None


def test_an_idle_engine_need_not_show_that_it_lives() -> None:
    watch = EngineWatch(hang_after_s=60)
    assert watch.look(EngineLoad(), 0) is None
    assert watch.look(EngineLoad(), 3600) is None
    assert watch.look(EngineLoad(waiting=1), 3659.5) is None
    assert watch.look(EngineLoad(waiting=1), 3660) is not None


def test_requests_that_only_wait_show_a_hang_too() -> None:
    watch = EngineWatch(hang_after_s=60)
    assert watch.look(EngineLoad(waiting=1), 0) is None
    assert watch.look(EngineLoad(waiting=1), 60) is not None


def test_the_actor_gives_a_hanging_engine_up() -> None:
    world = World(engine_hang_after_s=60)
    world.open(world.frontend("f1"), "r")
    world.load = BUSY
    world.advance(60)
    assert hangs(world) == []
    world.advance(0.5)
    assert len(hangs(world)) == 1


@pytest.mark.parametrize("pause_s", [2.0, 3600.0])
def test_a_pause_of_the_worker_itself_is_no_hang_of_its_engine(pause_s: float) -> None:
    world = World(engine_hang_after_s=60)
    world.open(world.frontend("f1"), "r")
    world.load = BUSY
    world.advance(59)
    for _ in range(3):
        world.sleep_through(pause_s)
    assert hangs(world) == []
    world.load = EngineLoad(step=8, running=3, waiting=1, signs=6)  # The pause was everybody's, and all go on.
    world.advance(59.5)
    assert hangs(world) == []
