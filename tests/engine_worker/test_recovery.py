"""What comes back when the process has died: the same bytes, the same turns going on, and nobody's client forgotten."""

from collections.abc import Callable

import pytest

from engine_worker.journal import MAGIC, framed, read_journal
from engine_worker.mailbox import Emitted, EngineReady, FlushDue, JournalFailed, TurnRefused
from protocol.commands import Close, Open
from protocol.records import (
    CancelRequested,
    Closed,
    ErrorDetail,
    OwnerGranted,
    Record,
    Step,
    TextDelta,
    TurnFinished,
)
from protocol.reports import Attached, Offered, Rejected, Unknown
from tests.engine_worker.world import MODEL, PREPARED, UNIX_TIME, Frontend, World


def reattached(world: World, frontend: Frontend, response_id: str = "r", reader: int = 1) -> list[Record]:
    """The frontend says Hello and reads on from where it was; returns all that it has read of the response."""
    before = frontend.reads[reader]
    world.hello(frontend)
    world.attach(frontend, response_id, reader, from_offset=len(before))
    frontend.reads[reader] = before + frontend.reads[reader]
    frontend.starts[reader] = 0
    return frontend.log(reader)


def running(steps: int = 3) -> tuple[World, Frontend]:
    """A world with response `r`, whose turn has taken some steps; all of them were read."""
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    for number in range(steps):
        world.step("r", f"word {number}")
    return world, frontend


def test_a_recovered_log_has_the_very_bytes_it_had() -> None:
    world, frontend = running()
    told = list(frontend.reads[1])
    world.restart(ready=False)
    other = world.frontend("f2")
    world.attach(other, "r")
    assert other.reads[1][: len(told)] == told


def test_an_interrupted_turn_goes_on_where_it_was_when_there_is_an_engine() -> None:
    world, frontend = running(steps=3)
    world.restart(ready=False)
    reattached(world, frontend)
    assert world.turns == []
    world.give(EngineReady((MODEL,)))
    [turn] = world.turns
    assert turn.resume is not None
    assert turn.resume.prepared == PREPARED
    assert [step.deltas for step in turn.resume.steps] == [(TextDelta(f"word {number}"),) for number in range(3)]
    world.step("r", "next")
    world.finish("r")
    steps = [record for record in frontend.log(1) if isinstance(record, Step)]
    assert steps[-1].deltas == (TextDelta("next"),)
    assert len(steps) == 4


def test_a_turn_still_waiting_for_its_first_step_goes_on_too() -> None:
    world, _ = running(steps=0)
    world.restart()
    [turn] = world.turns
    assert turn.resume is not None
    assert turn.resume.steps == ()


def test_who_reads_it_first_owns_it_at_the_next_epoch_and_closes_it() -> None:
    world, frontend = running()
    idle = world.frontend("f2")
    world.restart()
    world.hello(idle)
    assert idle.got(Offered) == []
    reattached(world, frontend)
    world.finish("r")
    world.close(frontend, "r", epoch=1)
    assert not isinstance(frontend.log(1)[-1], Closed)
    world.close(frontend, "r", epoch=2)
    assert frontend.log(1)[-1] == Closed("completed", UNIX_TIME)
    owners = [record for record in frontend.log(1) if isinstance(record, OwnerGranted)]
    assert owners == [OwnerGranted("f1", 1), OwnerGranted("f1", 2)]
    world.advance(5)
    assert idle.got(Offered) == []


def test_what_nobody_comes_back_for_is_offered_to_somebody_else() -> None:
    world, frontend = running()
    frontend.gone = True
    world.restart()
    heir = world.frontend("f2")
    world.advance(1)
    assert heir.got(Offered) == []
    world.advance(2)
    assert set(heir.got(Offered)) == {Offered("r", 2)}


def test_a_finished_turn_only_waits_for_its_owner() -> None:
    world, frontend = running()
    world.finish("r")
    before = frontend.log(1)
    world.restart()
    assert world.turns == []
    assert reattached(world, frontend)[: len(before)] == before
    world.close(frontend, "r", epoch=2)
    assert isinstance(frontend.log(1)[-1], Closed)


def test_a_closed_log_is_served_for_what_is_left_of_its_window() -> None:
    world = World(resume_window_s=300)
    frontend = world.frontend("f1")
    for name in ("old", "young"):
        world.open(frontend, name)
        world.finish(name)
        world.say(frontend, Close(name, 1, "completed", UNIX_TIME + int(world.now)))
        world.advance(200 if name == "old" else 50)
    world.restart()
    world.hello(frontend)
    world.attach(frontend, "old", reader=5)
    world.attach(frontend, "young", reader=6)
    assert isinstance(frontend.log(5)[-1], Closed)
    world.advance(60)
    world.attach(frontend, "old", reader=7)
    assert frontend.got(Unknown) == [Unknown(7)]
    world.attach(frontend, "young", reader=8)
    assert frontend.log(8) == frontend.log(6)
    world.advance(200)
    assert world.journals == {}


def test_a_cancellation_that_was_asked_for_is_carried_out() -> None:
    world, frontend = running()
    world.abort(frontend, "r")
    world.restart()
    assert world.turns == []
    finished = reattached(world, frontend)[-2]
    assert isinstance(finished, TurnFinished)
    assert (finished.reason, finished.usage.input_tokens, finished.usage.output_tokens) == ("aborted", 5, 3)


def test_an_abort_while_the_model_loads_ends_the_turn_without_it() -> None:
    world, frontend = running()
    world.restart(ready=False)
    reattached(world, frontend)
    world.abort(frontend, "r")
    assert [type(record) for record in frontend.log(1)[-2:]] == [CancelRequested, TurnFinished]
    world.give(EngineReady((MODEL,)))
    assert (world.turns, world.aborted) == ([], [])


def test_an_abort_while_the_turn_is_queued_again_reaches_the_engine() -> None:
    world, frontend = running()
    world.start_turns = False
    world.restart()
    reattached(world, frontend)
    world.abort(frontend, "r")
    world.aborted.clear()
    world.take_turn("r", world.turns[0].resume)
    assert world.aborted == ["r"]


def test_the_grace_for_clients_begins_anew() -> None:
    world, frontend = running()
    world.restart()
    frontend.gone = True
    world.advance(29)
    assert world.aborted == []
    world.advance(1.5)
    assert world.aborted == ["r"]


def test_a_turn_that_the_engine_can_not_continue_ends_as_engine_lost() -> None:
    world, frontend = running()
    world.start_turns = False
    world.restart()
    reattached(world, frontend)
    world.give(TurnRefused("r", ErrorDetail("server_error", "engine_lost", "Another model.")))
    finished = frontend.log(1)[-1]
    assert isinstance(finished, TurnFinished)
    assert finished.error is not None
    assert finished.error.code == "engine_lost"
    assert "Another model." in finished.error.message
    world.close(frontend, "r", epoch=2)
    assert isinstance(frontend.log(1)[-1], Closed)


def test_a_response_that_nobody_was_told_of_is_gone() -> None:
    world, frontend = running(steps=0)
    name, journal = world.journals.popitem()
    [(_, opened), *_] = read_journal(journal).entries
    world.journals[name] = journal[: len(MAGIC) + len(framed(opened))]
    world.restart()
    assert world.journals == {}
    world.hello(frontend)
    world.attach(frontend, "r", reader=2)
    assert frontend.got(Unknown) == [Unknown(2)]


def test_a_create_is_answered_only_when_it_is_in_the_journal() -> None:
    world = World(start_turns=False)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.give_only(Emitted((("r", PREPARED),)))
    assert world.journals == {}
    world.take_turn("r")
    assert frontend.got(Attached) == [Attached(1, 3)]
    assert len(world.journals) == 1


def test_a_new_create_of_a_recovered_response_joins_it() -> None:
    world, frontend = running()
    world.restart()
    world.hello(frontend)
    world.open(frontend, "r", reader=2)
    assert frontend.log(2)[:6] == frontend.log(1)
    world.say(frontend, Open(3, "r", UNIX_TIME, b'{"another": "request"}'))
    assert frontend.got(Rejected)[-1].error.code == "idempotency_mismatch"


def test_a_reader_that_knows_more_than_the_journal_is_told_that_it_is_gone() -> None:
    world, frontend = running()
    world.restart()
    world.hello(frontend)
    world.attach(frontend, "r", from_offset=7)
    assert frontend.got(Unknown) == [Unknown(1)]


@pytest.mark.parametrize(
    ("request_", "volatile"), [(b"{}", False), (b'{"store":true}', False), (b'{"store":false}', True)]
)
def test_what_is_not_to_be_stored_is_journaled_where_no_disk_is(request_: bytes, volatile: bool) -> None:
    world = World()
    world.open(world.frontend("f1"), "r", request=request_)
    assert list(world.journals) == [("r", volatile)]
    world.restart()
    world.step("r")
    assert list(world.journals) == [("r", volatile)]


def _released(world: World, frontend: Frontend) -> None:
    world.release(frontend, "r")
    world.detach(frontend)
    world.advance(world.settings.released_window_s + 1)


def _expired(world: World, _: Frontend) -> None:
    world.advance(world.settings.resume_window_s + 1)


@pytest.mark.parametrize("how", [_released, _expired])
def test_a_journal_goes_with_its_log(how: Callable[[World, Frontend], None]) -> None:
    world, frontend = running()
    world.finish("r")
    world.close(frontend, "r")
    assert world.journals
    how(world, frontend)
    assert world.journals == {}


def test_journals_have_a_bound_that_closed_ones_make_room_for() -> None:
    world = World(journal_bytes_max=1000)
    frontend = world.frontend("f1")
    for number in range(3):
        world.open(frontend, f"r{number}", reader=number)
        world.step(f"r{number}", "x" * 300)
        world.finish(f"r{number}")
        world.close(frontend, f"r{number}")
    assert sum(map(len, world.journals.values())) <= 1000
    world.open(frontend, "live", reader=8)
    world.step("live", "x" * 1000)
    assert list(world.journals) == [("live", False)]
    world.open(frontend, "late", reader=9)
    assert frontend.got(Rejected)[-1].error.code == "overloaded"


def test_a_full_disk_refuses_new_work_and_stops_nobody() -> None:
    world, frontend = running()
    world.disk_full = True
    world.step("r", "unjournaled")
    assert frontend.log(1)[-1] == Step((1,), (TextDelta("unjournaled"),))
    assert world.journals == {}, "it would bring back less than readers were told"
    world.open(frontend, "new", reader=2)
    assert frontend.got(Rejected)[-1].error.code == "overloaded"
    world.step("r", "more")
    assert sum("can't be written" in note for note in world.notes) == 1
    assert sum("r goes on without a journal" in note for note in world.notes) == 1
    world.disk_full = False
    world.advance(world.settings.journal_wait_s)
    world.open(frontend, "new", reader=2)
    assert list(world.journals) == [("new", False)]
    world.finish("r")
    world.close(frontend, "r")
    assert isinstance(frontend.log(1)[-1], Closed)


def test_a_failed_write_of_a_response_that_is_gone_changes_nothing() -> None:
    world = World()
    world.give(JournalFailed("nobody", "no space left"))
    world.give(FlushDue())
