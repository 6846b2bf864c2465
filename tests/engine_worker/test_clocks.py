"""What time does to a response: the grace for its clients, signs of life, and the end of its log."""

import pytest

from engine_worker.clock import ActiveClock
from protocol.commands import Pause
from protocol.records import CancelRequested, Progress, TurnFinished, Usage
from protocol.reports import Unknown
from tests.engine_worker.world import Frontend, World


def cancelled(frontend: Frontend, reader: int = 1) -> list[str]:
    return [record.cause for record in frontend.log(reader) if isinstance(record, CancelRequested)]


def test_a_response_without_a_client_is_cancelled_after_the_grace() -> None:
    world = World(disconnect_grace_s=30)
    owner = world.frontend("f1")
    world.open(owner, "r")
    world.attach(owner, "r", client=False)
    world.advance(29.5)
    assert world.aborted == []
    world.advance(0.5)
    assert world.aborted == ["r"]
    assert cancelled(owner) == ["disconnected"]
    world.advance(60)
    assert world.aborted == ["r"]


def test_a_response_in_the_background_needs_no_client() -> None:
    world = World(disconnect_grace_s=30)
    frontend = world.frontend("f1")
    world.open(frontend, "r", background=True)
    world.detach(frontend)
    world.advance(100)
    world.restart()
    world.advance(100)
    assert world.aborted == []


def test_a_client_that_comes_back_within_the_grace_keeps_its_response() -> None:
    world = World(disconnect_grace_s=30)
    owner = world.frontend("f1")
    world.open(owner, "r")
    world.detach(owner)
    world.advance(29)
    world.attach(owner, "r")
    world.advance(60)
    assert world.aborted == []


def test_a_reader_that_resumed_elsewhere_is_not_cut_off_by_the_first_ones_grace() -> None:
    world = World(disconnect_grace_s=30)
    first, second = world.frontend("f1"), world.frontend("f2")
    world.open(first, "r")
    world.attach(first, "r", client=False)
    world.advance(20)
    world.attach(second, "r")
    world.advance(60)
    assert world.aborted == []
    world.detach(second)
    world.advance(31)
    assert world.aborted == ["r"]


def test_the_clients_of_a_lost_frontend_are_gone_with_it() -> None:
    world = World(disconnect_grace_s=30)
    lost, other = world.frontend("f1"), world.frontend("f2")
    world.open(lost, "r")
    lost.gone = True
    world.advance(29)
    assert world.aborted == []
    world.attach(other, "r", client=False)
    world.advance(2)
    assert cancelled(other) == ["disconnected"]


def test_the_client_of_a_paused_reader_still_waits() -> None:
    world = World(disconnect_grace_s=30)
    slow, full = world.frontend("f1"), world.frontend("f2")
    world.open(slow, "r1")
    world.open(full, "r2")
    world.say(slow, Pause(1))
    full.queue_full = True
    world.advance(60)
    assert world.aborted == []


def test_a_response_that_nobody_waited_for_from_the_start_gets_the_grace_too() -> None:
    world = World(start_turns=False, disconnect_grace_s=5)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.detach(frontend)
    world.take_turn("r")
    world.advance(5)
    assert world.aborted == ["r"]


def test_an_abort_is_recorded_once_and_carried_out() -> None:
    world = World()
    owner, other = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    world.abort(other, "r")
    world.abort(owner, "r")
    world.abort(owner, "nothing")
    assert world.aborted == ["r"]
    assert cancelled(owner) == ["client"]


def test_a_finished_turn_can_not_be_cancelled() -> None:
    world = World(disconnect_grace_s=5)
    owner, other = world.frontend("f1"), world.frontend("f2")
    world.open(owner, "r")
    world.finish("r")
    world.abort(owner, "r")
    owner.gone = True
    world.advance(20)
    world.attach(other, "r")
    assert world.aborted == []
    assert cancelled(other) == []


def test_silence_brings_a_sign_of_life() -> None:
    world = World(progress_interval_s=60)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.advance(59)
    world.step("r")
    world.advance(59.5)
    assert not any(isinstance(record, Progress) for record in frontend.log(1))
    world.advance(120.5)
    marks = [record.at for record in frontend.log(1) if isinstance(record, Progress)]
    assert len(marks) == 3
    assert marks[1] - marks[0] == marks[2] - marks[1] == 60


def test_a_closed_log_stays_for_the_resume_window() -> None:
    world = World(resume_window_s=300, progress_interval_s=60)
    frontend = world.frontend("f1")
    world.open(frontend, "r")
    world.emit("r", TurnFinished("stop", Usage()))
    world.close(frontend, "r")
    end = len(frontend.log(1))
    world.advance(299)
    world.attach(frontend, "r", reader=2)
    assert len(frontend.log(2)) == end
    world.advance(2)
    assert frontend.got(Unknown) == []
    world.attach(frontend, "r", reader=3)
    assert frontend.got(Unknown) == [Unknown(3)]


@pytest.mark.parametrize("pause_s", [2.0, 3600.0])
def test_a_pause_of_the_worker_itself_costs_nobody_anything(pause_s: float) -> None:
    world = World(frontend_lost_after_s=2, disconnect_grace_s=30)
    frontend = world.frontend("f1")
    world.open(frontend, "r1", reader=1)
    world.open(frontend, "r2", reader=2)
    world.detach(frontend, reader=2)
    world.advance(1)
    world.sleep_through(pause_s)
    world.step("r1")
    assert not any("lost" in note for note in world.notes)
    assert len(frontend.log(1)) == 4
    world.advance(28)
    assert world.aborted == []
    world.advance(2)
    assert world.aborted == ["r2"]


def test_a_frontend_that_stays_silent_after_our_pause_is_lost() -> None:
    world = World(frontend_lost_after_s=2)
    world.frontend("f1")
    world.silent.add("f1")
    world.sleep_through(100)
    assert "1 frontends" in repr(world.actor)
    world.advance(2.5)
    assert "0 frontends" in repr(world.actor)


def test_the_active_clock_stands_still_in_a_gap() -> None:
    clock = ActiveClock(gap_max_s=1)
    assert [clock.read(now) for now in (10, 11, 11.5, 100, 100.5)] == [10, 11, 11.5, 11.5, 12]
