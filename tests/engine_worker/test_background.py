"""Responses in the background: their id is given out only when a power cut could not lose them any more."""

from collections.abc import Callable

import pytest

from engine_worker.journal import read_journal
from engine_worker.mailbox import JournalSynced
from protocol.commands import Attach
from protocol.records import CancelRequested, Opened
from protocol.reports import Attached, Goodbye, Unknown
from tests.engine_worker.world import World


def waiting() -> World:
    """A world whose disk takes its time, with frontend `f1` and its background response `r`."""
    world = World()
    world.syncs_journals = False
    world.open(world.frontend("f1"), "r", background=True)
    return world


def test_nobody_is_told_of_it_before_the_disk_has_it() -> None:
    world = waiting()
    [frontend] = world.frontends.values()
    [(response_id, written)] = world.syncs
    assert response_id == "r"
    assert isinstance(read_journal(written).opened, Opened)
    world.step("r")
    assert frontend.got(Attached) == []
    world.give(JournalSynced("r"))
    assert len(frontend.got(Attached)) == 1
    assert isinstance(frontend.log(1)[0], Opened)


def test_others_wait_for_no_disk() -> None:
    world = World()
    world.open(world.frontend("f1"), "r")
    assert world.syncs == []


def test_who_asks_for_it_meanwhile_waits_too() -> None:
    world = waiting()
    other = world.frontend("f2")
    world.attach(other, "r")
    assert not other.got(Attached)
    assert not other.got(Unknown)
    world.give(JournalSynced("r"))
    assert len(other.got(Attached)) == 1


def test_it_can_be_cancelled_meanwhile() -> None:
    world = waiting()
    [frontend] = world.frontends.values()
    world.abort(frontend, "r")
    assert world.aborted == ["r"]
    world.give(JournalSynced("r"))
    assert any(isinstance(record, CancelRequested) for record in frontend.log(1))


def test_a_disk_that_fails_holds_nobody_up_for_ever() -> None:
    world = World()
    world.disk_full = True
    frontend = world.frontend("f1")
    world.open(frontend, "r", background=True)
    assert len(frontend.got(Attached)) == 1


def test_a_reader_that_left_is_not_attached() -> None:
    world = waiting()
    [frontend] = world.frontends.values()
    world.detach(frontend)
    world.give(JournalSynced("r"))
    assert frontend.got(Attached) == []
    world.say(frontend, Attach(2, "r", 0, client=True))
    assert len(frontend.got(Attached)) == 1


@pytest.mark.parametrize("end", [World.stop, World.lose_engine], ids=["stopped", "its engine died"])
def test_a_worker_that_ends_meanwhile_says_that_it_has_it(end: Callable[[World], None]) -> None:
    """Else the frontend would take the `Goodbye` to say that it never began, and have another worker begin it."""
    world = waiting()
    [frontend] = world.frontends.values()
    end(world)
    assert len(frontend.got(Attached)) == 1
    assert frontend.reports.index(frontend.got(Attached)[0]) < frontend.reports.index(frontend.got(Goodbye)[0])
    assert frontend.log(1) == []
