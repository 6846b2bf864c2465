"""Who drives a response: one owner per epoch, and what happens when it is lost."""

from engine_worker.mailbox import Received
from protocol.commands import Addressed, Close
from protocol.records import Closed, OwnerGranted
from protocol.reports import Offered, Unknown
from tests.engine_worker.world import INCARNATION, UNIX_TIME, Frontend, World


def owners(frontend: Frontend, reader: int = 1) -> list[tuple[str, int]]:
    """The owners a log names, as (frontend, epoch)."""
    return [(r.frontend_id, r.epoch) for r in frontend.log(reader) if isinstance(r, OwnerGranted)]


def test_the_owner_closes_and_that_is_the_end() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.finish("r")
    world.close(frontend, "r")
    world.close(frontend, "r")
    assert frontend.log(1)[-1] == Closed("completed", UNIX_TIME)
    assert sum(isinstance(record, Closed) for record in frontend.log(1)) == 1


def test_closing_with_another_epoch_or_by_another_frontend_is_refused() -> None:
    world = World()
    owner, other = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    world.attach(other, "r")
    world.close(owner, "r", epoch=2)
    world.close(owner, "r", epoch=0)
    world.close(other, "r", epoch=1)
    world.close(owner, "nothing")
    assert len(owner.log(1)) == 3
    assert sum("refused to close" in note for note in world.notes) == 4


def test_closing_under_way_ends_the_turn_and_what_it_says_later_is_dropped() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.close(frontend, "r")
    assert world.aborted == ["r"]
    world.step("r")
    world.finish("r")
    assert isinstance(frontend.log(1)[-1], Closed)


def test_a_lost_owners_response_goes_to_a_frontend_that_reads_it() -> None:
    world = World()
    owner, _, reader = world.frontend("f1"), world.frontend("f2"), world.frontend("f3")
    world.open(owner, "r")
    world.attach(reader, "r")
    world.silent.add("f1")
    world.advance(3)
    assert reader.got(Offered) == [Offered("r", 2)]
    assert owners(reader) == [("f1", 1), ("f3", 2)]
    world.close(reader, "r", epoch=2)
    assert isinstance(reader.log(1)[-1], Closed)


def test_without_a_reader_it_goes_to_the_one_that_owns_least() -> None:
    world = World()
    busy, idle, owner = world.frontend("f1"), world.frontend("f2"), world.frontend("f3")
    world.open(busy, "other")
    world.open(owner, "r1", reader=1)
    world.open(owner, "r2", reader=2)
    owner.gone = True
    world.advance(1)
    assert {offer.response_id for offer in idle.got(Offered)} == {"r1"}
    assert {offer.response_id for offer in busy.got(Offered)} == {"r2"}


def test_without_any_frontend_it_waits_for_the_next_one() -> None:
    world = World()
    owner = world.frontend("f1")
    world.open(owner, "r")
    owner.gone = True
    world.advance(5)
    newcomer = world.frontend("f2")
    assert newcomer.got(Offered) == [Offered("r", 2)]


def test_an_offer_is_repeated_until_the_new_owner_reads() -> None:
    world = World()
    owner, heir = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    owner.gone = True
    world.advance(3)
    offers = len(heir.got(Offered))
    assert offers >= 2
    assert set(heir.got(Offered)) == {Offered("r", 2)}
    world.attach(heir, "r", client=False)
    world.advance(2)
    assert len(heir.got(Offered)) == offers
    world.detach(heir)
    world.advance(0.5)
    assert len(heir.got(Offered)) == offers + 1


def test_nothing_is_offered_of_a_closed_response() -> None:
    world = World()
    owner, other = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    world.close(owner, "r")
    owner.gone = True
    world.advance(5)
    assert other.got(Offered) == []


def test_an_owner_that_was_only_paused_can_not_write_over_its_successor() -> None:
    world = World()
    paused, heir = world.frontend("f1"), world.frontend("f2")
    world.open(paused, "r")
    world.silent.add("f1")
    world.advance(3)
    world.attach(heir, "r")
    world.silent.clear()
    world.give(Received(b"f1", Addressed(INCARNATION, Close("r", 1, "failed", UNIX_TIME))))
    world.hello(paused)
    world.close(paused, "r", epoch=1)
    world.close(paused, "r", epoch=2)
    assert not any(isinstance(record, Closed) for record in heir.log(1))
    world.close(heir, "r", epoch=2)
    assert isinstance(heir.log(1)[-1], Closed)


def test_an_owner_that_comes_back_alone_gets_a_new_epoch() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.silent.add("f1")
    world.advance(3)
    world.silent.clear()
    world.hello(frontend)
    assert frontend.got(Offered) == [Offered("r", 2)]
    world.attach(frontend, "r")
    assert owners(frontend) == [("f1", 1), ("f1", 2)]


def test_only_the_owner_releases_and_only_a_closed_response() -> None:
    world = World()
    owner, other = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    world.release(owner, "r")
    world.finish("r")
    world.close(owner, "r")
    world.release(other, "r")
    world.release(owner, "r", epoch=2)
    world.detach(owner)
    world.advance(world.settings.released_window_s + 1)
    world.attach(other, "r")
    world.release(owner, "r")
    world.advance(1)
    assert isinstance(other.log(1)[-1], Closed), "it is still read"
    world.detach(other)
    world.advance(1)
    world.attach(other, "r", reader=2)
    assert other.got(Unknown) == [Unknown(2)]
    assert "0 live, 0 closed, 0 bytes" in repr(world.actor)
