"""A worker that takes over what another left behind: who is told, in which order, and what goes on."""

import msgspec

from engine_worker.actor import Actor
from engine_worker.config import Settings
from engine_worker.journal import MAGIC, TurnResumed, encode_entry, framed, read_journal
from engine_worker.mailbox import (
    DrainRequested,
    Effect,
    EngineReady,
    Received,
    Send,
    StartTurn,
    TookOver,
    WriteJournal,
)
from protocol.codec import VERSION, encode_record
from protocol.commands import Addressed, Close, Hello
from protocol.records import Closed, Opened, OwnerGranted, Step, TextDelta, TurnFinished
from protocol.reports import TOOK_IDS_MAX, Attached, Goodbye, Rejected, Status, Took, Unknown
from tests.engine_worker.world import MODEL, UNIX_TIME, Frontend, World, read_journals

Files = dict[tuple[str, bool], bytes]


def dead(*names: str, steps: int = 2) -> Files:
    """What a worker left behind that had these responses running, each with so many steps."""
    world = World()
    frontend = world.frontend("of the dead")
    for reader, name in enumerate(names):
        world.open(frontend, name, reader)
        for number in range(steps):
            world.step(name, f"word {number}")
    return world.journals


def test_interrupted_turns_go_on_at_once_and_every_frontend_is_told() -> None:
    world = World()
    frontends = [world.frontend("f1"), world.frontend("f2")]
    world.take_over(dead("a", "b"))
    assert [frontend.got(Took) for frontend in frontends] == [[Took(("a", "b"))]] * 2
    assert [turn.response_id for turn in world.turns] == ["a", "b"]
    assert all(turn.resume is not None and len(turn.resume.steps) == 2 for turn in world.turns)
    world.attach(frontends[0], "a")
    world.step("a", "more")
    world.finish("a")
    log = frontends[0].log(1)
    assert [record.deltas for record in log if isinstance(record, Step)][-1] == (TextDelta("more"),)
    assert isinstance(log[-1], TurnFinished)


def test_whoever_reads_it_first_drives_it_and_nobody_is_offered_it_before() -> None:
    world = World()
    first, second = world.frontend("f1"), world.frontend("f2")
    world.take_over(dead("a"))
    world.attach(second, "a")
    assert [record.frontend_id for record in second.log(1) if isinstance(record, OwnerGranted)] == ["of the dead", "f2"]
    world.finish("a")
    world.close(second, "a", epoch=2)
    assert isinstance(second.log(1)[-1], Closed)
    assert first.got(Attached) == []


def test_what_goes_on_here_is_journaled_here() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.take_over(dead("a"))
    world.step("a", "third")
    world.restart()
    [turn] = world.turns
    assert turn.resume is not None
    assert len(turn.resume.steps) == 3
    world.hello(frontend)
    world.attach(frontend, "a")
    assert frontend.got(Unknown) == []


def test_frontends_are_told_before_a_turn_is_started_and_after_its_start_was_journaled() -> None:
    effects = _effects_of_taking_over(dead("a"))
    took = next(number for number, effect in enumerate(effects) if isinstance(effect, Send))
    journaled = next(number for number, effect in enumerate(effects) if isinstance(effect, WriteJournal))
    started = next(number for number, effect in enumerate(effects) if isinstance(effect, StartTurn))
    assert took < started
    assert journaled < started
    written = effects[journaled]
    assert isinstance(written, WriteJournal)
    assert written.entries.endswith(encode_entry(TurnResumed(0)))


def test_many_responses_are_told_in_chunks() -> None:
    template = dead("only", steps=0)["only", False]
    files = {(f"r{number:04}", False): _renamed(template, f"r{number:04}") for number in range(2 * TOOK_IDS_MAX + 1)}
    world = World(ready=False)
    frontend = world.frontend("f1")
    world.take_over(files)
    told = [report.response_ids for report in frontend.got(Took)]
    assert [len(ids) for ids in told] == [TOOK_IDS_MAX, TOOK_IDS_MAX, 1]
    assert {response_id for ids in told for response_id in ids} == {name for name, _ in files}


def test_who_is_dead_is_told_after_all_that_it_left() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.take_over(dead("a"))
    world.take_over({}, dead="incarnation of the dead")
    assert frontend.got(Took) == [Took(("a",)), Took((), "incarnation of the dead")]
    assert not any("took over 0" in note for note in world.notes)


def test_a_worker_that_loads_has_them_and_goes_on_when_it_is_ready() -> None:
    world = World(ready=False)
    frontend = world.frontend("f1")
    world.take_over(dead("a"))
    assert frontend.got(Took) == [Took(("a",))]
    world.attach(frontend, "a")
    assert len(frontend.log(1)) == 6
    assert world.turns == []
    world.give(EngineReady((MODEL,)))
    assert [turn.response_id for turn in world.turns] == ["a"]
    reports = [type(report) for report in frontend.reports if not isinstance(report, Status) or report.phase == "ready"]
    assert reports.index(Took) < reports.index(Status)


def test_what_was_cancelled_or_poison_ends_here() -> None:
    world = World(worker_deaths_max=1)
    frontend = world.frontend("f1")
    world.take_over(dead("nowhere", steps=0))
    world.attach(frontend, "nowhere")
    finished = frontend.log(1)[-2]
    assert isinstance(finished, TurnFinished)
    assert finished.error is not None
    assert finished.error.code == "engine_lost"
    assert world.turns == []


def test_a_response_that_is_here_already_goes_on_as_it_is() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.disk_full = True  # So that it has no journal, whose name would have been taken.
    world.open(frontend, "a")
    world.disk_full = False
    world.step("a", "ours")
    before = frontend.log(1)
    world.take_over(dead("a", "b"))
    assert frontend.got(Took) == [Took(("b",))]
    assert list(world.journals) == [("b", False)]
    world.attach(frontend, "a", reader=2)
    assert frontend.log(2) == before
    assert any("a is here already" in note for note in world.notes)


def test_a_response_that_is_just_being_opened_is_not_taken_over() -> None:
    world = World(start_turns=False)
    frontend = world.frontend("f1")
    world.open(frontend, "a")
    world.take_over(dead("a"))
    assert frontend.got(Took) == []
    world.take_turn("a")
    assert frontend.got(Attached) == [Attached(1, 3)]
    assert list(world.journals) == [("a", False)]


def test_closed_logs_of_both_go_in_the_order_of_their_closing() -> None:
    other = World()
    theirs = other.frontend("of the dead")
    other.advance(100)
    _closed(other, theirs, "theirs, at 100 s")
    world = World()
    ours = world.frontend("f1")
    world.advance(50)
    _closed(world, ours, "ours, at 50 s")
    world.advance(100)
    _closed(world, ours, "ours, at 150 s")
    world.take_over(other.journals)
    assert list(world.actor._responses.closed) == ["ours, at 50 s", "theirs, at 100 s", "ours, at 150 s"]
    world.advance(world.settings.resume_window_s - 40)
    assert list(world.actor._responses.closed) == ["ours, at 150 s"]


def test_closed_logs_beyond_the_bounds_go_and_live_ones_stay() -> None:
    world = World(responses_max=3)
    frontend = world.frontend("f1")
    for number in range(3):
        _closed(world, frontend, f"closed {number}", reader=number)
    world.take_over(dead("a", "b", "c", "d"))
    assert list(world.actor._responses.live) == ["a", "b", "c", "d"]
    assert len(world.actor._responses.closed) == 0
    world.open(frontend, "new", reader=9)
    assert frontend.got(Rejected)[-1].error.code == "overloaded"


def test_a_worker_that_drains_tells_of_them_and_starts_nothing() -> None:
    """The shell takes nothing over then; what was on its way is not lost all the same."""
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "own")
    world.give(DrainRequested())
    world.take_over(dead("a"))
    assert frontend.got(Took) == [Took(("a",))]
    assert [turn.response_id for turn in world.turns] == ["own"]
    world.advance(world.settings.drain_s + 1)
    assert frontend.got(Goodbye)
    world.restart()
    assert {turn.response_id for turn in world.turns} == {"own", "a"}


def test_a_second_death_goes_the_same_way() -> None:
    world, frontend = World(), Frontend("f1")
    world.frontends[b"f1"] = frontend
    world.hello(frontend)
    world.take_over(dead("a"), "worker-1")
    world.step("a", "of the second")
    heir = World()
    heir.take_over(world.journals, "worker-0")
    [turn] = heir.turns
    assert turn.resume is not None
    assert [step.deltas[0] for step in turn.resume.steps][-1] == TextDelta("of the second")


def _closed(world: World, frontend: Frontend, name: str, reader: int = 1) -> None:
    world.open(frontend, name, reader)
    world.finish(name)
    world.say(frontend, Close(name, 1, "completed", UNIX_TIME + int(world.now)))


def _renamed(journal: bytes, response_id: str) -> bytes:
    """The journal of another response with the same content."""
    (opened, _), *rest = read_journal(journal).entries
    assert isinstance(opened, Opened)
    first = encode_record(msgspec.structs.replace(opened, response_id=response_id))
    return MAGIC + b"".join(map(framed, [first, *(payload for _, payload in rest)]))


def _effects_of_taking_over(files: Files) -> list[Effect]:
    actor = Actor(Settings(), "worker-0", "incarnation")
    actor.handle(EngineReady((MODEL,)), 1.0)
    actor.handle(Received(b"f1", Addressed("", Hello(VERSION, "f1"))), 1.0)
    journals, _ = read_journals(files)
    return actor.handle(TookOver("worker-1", journals, UNIX_TIME), 2.0)
