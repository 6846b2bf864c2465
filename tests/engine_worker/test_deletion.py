"""Deleting a response: whatever state it is in, it ends, and then nothing of it is left on the worker."""

from protocol.records import CancelRequested, Closed, DeleteRequested, TurnFinished
from protocol.reports import Unknown
from tests.engine_worker.world import Frontend, World


def kinds(frontend: Frontend, reader: int = 1) -> list[str]:
    return [type(record).__name__ for record in frontend.log(reader)]


def is_forgotten(world: World, frontend: Frontend) -> bool:
    """Whether neither the worker nor its journals know the response any more."""
    frontend.reports.clear()
    world.attach(frontend, "r", reader=99)
    return frontend.got(Unknown) == [Unknown(99)] and ("r", False) not in world.journals


def test_a_live_response_ends_before_it_is_forgotten() -> None:
    world = World()
    frontend, other = world.frontend("f1"), world.frontend("f2")
    world.open(frontend, "r")
    world.step("r")
    world.delete(other, "r")
    assert world.aborted == ["r"]
    assert kinds(frontend)[-2:] == [DeleteRequested.__name__, CancelRequested.__name__]
    world.finish("r")
    world.close(frontend, "r")
    assert kinds(frontend)[-2:] == [TurnFinished.__name__, Closed.__name__]
    world.advance(1)
    assert is_forgotten(world, other)


def test_deleting_twice_is_deleting_once() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.delete(frontend, "r")
    world.delete(frontend, "r")
    assert kinds(frontend).count(DeleteRequested.__name__) == 1
    world.close(frontend, "r")
    world.advance(1)
    world.delete(frontend, "r")
    assert is_forgotten(world, frontend)


def test_a_closed_response_is_forgotten_at_once() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.finish("r")
    world.close(frontend, "r")
    world.delete(frontend, "r")
    assert is_forgotten(world, frontend)


def test_a_response_that_is_deleted_before_its_turn_is_queued_ends_as_soon_as_it_has_a_log() -> None:
    world = World(start_turns=False)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.delete(frontend, "r")
    world.take_turn("r")
    assert kinds(frontend)[-2:] == [DeleteRequested.__name__, CancelRequested.__name__]
    assert world.aborted == ["r"]


def test_a_deleted_response_does_not_come_back_after_a_death() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.step("r")
    world.delete(frontend, "r")
    world.restart()
    world.hello(frontend)
    world.attach(frontend, "r")
    assert kinds(frontend)[-2:] != [Closed.__name__]
    assert DeleteRequested.__name__ in kinds(frontend)
    world.close(frontend, "r", epoch=2)
    world.restart()
    world.hello(frontend)
    assert is_forgotten(world, frontend)
