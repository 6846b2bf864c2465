"""Readers: from which offset they read, in which messages, and what becomes of those that do not keep up."""

import pytest

from engine_worker.mailbox import Emitted, Received, RecordFailed, Send, WriteJournal
from protocol.commands import Addressed, Attach, Pause
from protocol.records import Closed, Step, TextDelta, TurnFinished
from protocol.reports import Attached, Records, Status, Unknown
from tests.engine_worker.world import INCARNATION, World

STEP = Step((1,), (TextDelta("word"),))


@pytest.mark.parametrize("offset", range(6))
def test_a_reader_gets_everything_from_its_offset_on(offset: int) -> None:
    world = World()
    owner, reader = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    world.step("r")
    world.step("r")
    world.attach(reader, "r", from_offset=offset)
    world.step("r", text="later")
    world.finish("r")
    world.close(owner, "r")
    assert reader.got(Attached) == [Attached(1, 5)]
    assert isinstance(owner.log(1)[-1], Closed)
    assert reader.log(1) == owner.log(1)[offset:]


def test_an_offset_before_the_beginning_is_the_beginning() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.say(frontend, Attach(2, "r", -3, True))
    assert frontend.got(Records)[-1].batches[0].offset == 0


def test_a_reader_beyond_the_end_has_read_another_log() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.attach(frontend, "r", reader=2, from_offset=4)
    assert frontend.got(Unknown) == [Unknown(2)]
    world.attach(frontend, "r", reader=2, from_offset=3)
    world.step("r", "more")
    assert frontend.log(2) == [Step((1,), (TextDelta("more"),))]


def test_an_unknown_response_is_said_to_be_unknown() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.attach(frontend, "nothing", reader=3)
    assert frontend.got(Unknown) == [Unknown(3)]


def test_one_engine_step_is_one_message_per_frontend() -> None:
    world = World()
    frontends = [world.frontend("f1"), world.frontend("f2")]
    for number in range(10):
        world.open(frontends[number % 2], f"r{number}", reader=number)
        world.attach(frontends[1 - number % 2], f"r{number}", reader=100 + number)
    before = [len(frontend.got(Records)) for frontend in frontends]
    effects = world.actor.handle(Emitted(tuple((f"r{n}", STEP) for n in range(10))), world.now)
    assert [type(effect) for effect in effects] == [WriteJournal] * 10 + [Send, Send]
    for frontend in frontends:
        address = frontend.name.encode()
        message = next(each.report for each in effects if isinstance(each, Send) and each.address == address)
        assert isinstance(message, Records)
        assert len(message.batches) == 10
    assert [len(frontend.got(Records)) for frontend in frontends] == before


def test_a_record_that_cannot_be_taken_in_keeps_no_other_from_its_readers() -> None:
    world = World()
    frontend = world.frontend("f1")
    for number in range(3):
        world.open(frontend, f"r{number}", reader=number)
    unwritable = Step((1,), (TextDelta("\ud800"),))
    effects = world.actor.handle(Emitted((("r0", STEP), ("r1", unwritable), ("r2", STEP))), world.now)
    assert [effect.response_id for effect in effects if isinstance(effect, RecordFailed)] == ["r1"]
    [message] = [effect.report for effect in effects if isinstance(effect, Send)]
    assert isinstance(message, Records)
    assert [batch.reader for batch in message.batches] == [0, 2]


def test_a_reader_that_attaches_again_moves() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r1")
    world.open(frontend, "r2", reader=2)
    world.attach(frontend, "r2", reader=1, from_offset=1)
    world.step("r1")
    world.step("r2")
    assert frontend.log(1) == frontend.log(2)[1:]
    world.attach(frontend, "unknown", reader=1)
    world.step("r2")
    assert frontend.log(1) == []


def test_a_reader_that_is_done_gets_nothing_more() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.detach(frontend)
    world.detach(frontend)
    world.step("r")
    assert len(frontend.log(1)) == 3


def test_a_long_replay_comes_in_slices() -> None:
    world = World(batch_records_max=10)
    owner, late = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    for number in range(95):
        world.step("r", str(number))
    world.attach(late, "r")
    assert late.log(1) == owner.log(1)
    lengths = [len(batch.records) for message in late.got(Records) for batch in message.batches]
    assert lengths == [10] * 9 + [8]


def test_a_replay_spares_live_readers_and_takes_its_time() -> None:
    world = World(batch_records_max=10, replay_interval_s=0.5)
    owner, late = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    world.open(late, "other", reader=2)
    for number in range(95):
        world.step("r", str(number))
    begun_at = world.now
    world.attach(late, "r")
    assert world.now - begun_at == pytest.approx(9 * 0.5)
    assert late.log(1) == owner.log(1)


def test_slices_are_shared_fairly_among_replays() -> None:
    world = World(batch_records_max=10)
    owner, late = world.frontend("f1"), world.frontend("f2")
    for name in ("r1", "r2"):
        world.open(owner, name, reader=int(name[1]))
        for _ in range(27):
            world.step(name)
    for reader in (1, 2):
        world.give_only(Received(b"f2", Addressed(INCARNATION, Attach(reader, f"r{reader}", 0, True))))
    world.settle()
    served = [batch.reader for message in late.got(Records) for batch in message.batches]
    assert served == [1, 2, 1, 2, 1, 2]


def test_bytes_bound_a_message_too_but_one_record_always_goes() -> None:
    world = World(batch_bytes_max=3000)
    owner, late = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    for length in (1000, 1000, 1000, 9000, 10):
        world.step("r", "x" * length)
    world.attach(late, "r", from_offset=3)
    assert [len(message.batches[0].records) for message in late.got(Records)] == [2, 1, 1, 1]
    assert late.log(1) == owner.log(1)[3:]


def test_a_live_burst_beyond_one_message_goes_on_in_the_next() -> None:
    world = World(batch_records_max=4)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.give_only(Emitted((("r", STEP),) * 9))
    world.settle()
    assert frontend.log(1)[3:] == [STEP] * 9
    world.give_only(Emitted((("r", STEP),)))
    world.settle()
    assert frontend.log(1)[3:] == [STEP] * 10


def test_a_paused_reader_gets_nothing_until_it_attaches_again() -> None:
    world = World()
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.say(frontend, Pause(1))
    world.say(frontend, Pause(99))
    world.step("r")
    assert len(frontend.log(1)) == 3
    world.attach(frontend, "r", from_offset=3)
    assert frontend.log(1) == [STEP]


def test_a_slow_consumer_is_cut_loose_notices_and_misses_nothing() -> None:
    world = World()
    slow, other = world.frontend("f1"), world.frontend("f2")
    world.open(slow, "r")
    world.attach(other, "r")
    slow.queue_full = True
    world.step("r")
    slow.queue_full = False
    for _ in range(5):
        world.step("r")
    assert len(slow.log(1)) == 3
    assert len(other.log(1)) == 9
    world.tick()
    assert slow.missed
    read, slow.received = slow.log(1), slow.got(Status)[-1].sent
    world.attach(slow, "r", from_offset=len(read))
    assert read + slow.log(1) == other.log(1)
    world.tick()
    assert not slow.missed


def test_a_frontend_that_keeps_up_never_counts_a_loss() -> None:
    world = World()
    frontend = world.frontend("f1")
    for number in range(5):
        world.open(frontend, f"r{number}", reader=number)
        world.step(f"r{number}")
        world.say(frontend, Pause(number), incarnation="another")
        world.advance(1)
        assert not frontend.missed
        assert frontend.got(Status)[-1].sent == frontend.received


def test_logs_dropped_for_memory_are_unknown_to_those_still_behind() -> None:
    world = World(log_bytes_max=4000)
    owner, behind = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "old", reader=1)
    world.attach(behind, "old", reader=1)
    world.say(behind, Pause(1))
    world.step("old")
    world.finish("old")
    world.close(owner, "old")
    world.open(owner, "new", reader=2)
    world.step("new", "x" * 4000)
    assert behind.got(Unknown) == [Unknown(1)]
    assert owner.got(Unknown) == []
    assert [type(record) for record in owner.log(1)[-2:]] == [TurnFinished, Closed]
    world.attach(owner, "old", reader=3)
    assert owner.got(Unknown) == [Unknown(3)]
