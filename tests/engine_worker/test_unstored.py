"""Closed responses that their owner could not store: kept, and somebody's to store, until somebody has."""

from protocol.commands import Stored
from protocol.records import Closed
from protocol.reports import Offered, Unknown
from tests.engine_worker.world import Frontend, World

LONG_S = 10_000


def closed_unstored(world: World, owner: Frontend) -> None:
    world.open(owner, "r")
    world.finish("r")
    world.close(owner, "r", unstored=True)


def is_known(world: World, frontend: Frontend) -> bool:
    frontend.reports.clear()
    world.attach(frontend, "r", reader=99)
    known = Unknown(99) not in frontend.got(Unknown)
    world.detach(frontend, 99)
    return known


def test_readers_see_the_end_without_waiting_for_the_store() -> None:
    world = World()
    owner = world.frontend("f1")
    closed_unstored(world, owner)
    [closed] = [record for record in owner.log(1) if isinstance(record, Closed)]
    assert closed.unstored


def test_it_is_kept_beyond_its_window_and_its_bounds_until_it_is_stored() -> None:
    world = World(resume_window_s=5, log_bytes_max=1)
    owner = world.frontend("f1")
    closed_unstored(world, owner)
    world.detach(owner)
    world.advance(LONG_S)
    assert is_known(world, owner)
    world.say(owner, Stored("r", 1))
    world.advance(10)
    assert not is_known(world, owner)
    assert ("r", False) not in world.journals


def test_only_its_owner_says_that_it_is_stored() -> None:
    world = World(resume_window_s=5)
    owner, other = world.frontend("f1"), world.frontend("f2")
    closed_unstored(world, owner)
    world.say(other, Stored("r", 1))
    world.say(owner, Stored("r", 0))
    world.advance(LONG_S)
    assert is_known(world, other)


def test_when_its_owner_is_lost_another_frontend_is_to_store_it() -> None:
    world = World(resume_window_s=5)
    owner, other = world.frontend("f1"), world.frontend("f2")
    closed_unstored(world, owner)
    owner.gone = True
    world.advance(3)
    assert Offered("r", 1) in other.got(Offered)
    world.attach(other, "r", client=False)
    assert isinstance(other.log(1)[-1], Closed)
    world.say(other, Stored("r", 1))
    world.detach(other)
    world.advance(10)
    assert not is_known(world, other)


def test_after_a_death_of_the_worker_somebody_is_to_store_it_still() -> None:
    world = World(resume_window_s=5)
    owner = world.frontend("f1")
    closed_unstored(world, owner)
    world.restart()
    owner.gone = True
    other = world.frontend("f2")
    world.advance(10)
    assert Offered("r", 1) in other.got(Offered)
    world.say(other, Stored("r", 1))
    world.advance(10)
    assert not is_known(world, other)


def test_it_can_be_deleted() -> None:
    world = World()
    owner = world.frontend("f1")
    closed_unstored(world, owner)
    world.delete(owner, "r")
    assert not is_known(world, owner)
    world.advance(10)
    assert not any(world.journals)
