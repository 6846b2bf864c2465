"""The worker over real ZeroMQ: what it serves, what it refuses, and how it ends."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine_worker.config import EXIT_BUILD_FAILED, EXIT_ENGINE_DIED, Settings
from engine_worker.engines.interface import Emit, Engine, OnDead, Turn
from engine_worker.engines.scripted import ScriptedEngine
from engine_worker.journal_files import JournalUnavailable
from engine_worker.shell import Worker
from protocol.codec import encode_command
from protocol.commands import Attach, Close, Hello, Open
from protocol.records import Closed, Record, Step, TextDelta, TurnFinished
from protocol.reports import Attached, Goodbye, Records, Refused, Rejected, Stale, Status, Unknown, Welcome
from tests.engine_worker.remote import Frontend, StallingFrontend, running, scripted, until
from tests.pace import DEADLINE_S

pytestmark = pytest.mark.slow

UNIX_TIME = 1_700_000_000


def body(**script: Any) -> bytes:
    return json.dumps({"input": "hi", "metadata": {"script": json.dumps(script)}}).encode()


def open_(response_id: str = "r", reader: int = 1, **script: Any) -> Open:
    return Open(reader, response_id, UNIX_TIME, body(**script))


def text(records: list[Record]) -> str:
    deltas = [delta for record in records if isinstance(record, Step) for delta in record.deltas]
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


async def ready(frontend: Frontend) -> None:
    await frontend.connect()
    await until(lambda: any(status.phase == "ready" for status in frontend.got(Status)))


@pytest.fixture
async def frontend(tmp_path: Path) -> AsyncIterator[Frontend]:
    frontend = Frontend(tmp_path, "f1")
    yield frontend
    frontend.channel.close()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Frontend]:
    frontend = Frontend(tmp_path, "f2")
    yield frontend
    frontend.channel.close()


@pytest.fixture
async def stalling(tmp_path: Path) -> AsyncIterator[StallingFrontend]:
    frontend = StallingFrontend(tmp_path, "stalling")
    yield frontend
    frontend.socket.close()


async def test_a_response_is_opened_streamed_closed_and_read_again(
    tmp_path: Path, frontend: Frontend, other: Frontend
) -> None:
    async with running(tmp_path, scripted()):
        await ready(frontend)
        await other.connect()
        frontend.say(open_(text="Hello there, kelp.", interval_s=0.01))
        await until(lambda: frontend.got(Attached))
        other.say(Attach(5, "r", 0, True))
        await until(lambda: frontend.has_read(TurnFinished))
        frontend.say(Close("r", 1, "completed", UNIX_TIME))
        await until(lambda: frontend.has_read(Closed) and other.has_read(Closed, 5))
        assert text(frontend.log()) == "Hello there, kelp."
        assert frontend.reads[1] == other.reads[5]
        other.say(Attach(6, "r", 2, True))
        await until(lambda: other.has_read(Closed, 6))
        assert other.reads[6] == frontend.reads[1][2:]


async def test_records_of_one_burst_travel_together(tmp_path: Path, frontend: Frontend) -> None:
    async with running(tmp_path, scripted("--step-s", "0.05")):  # all turns take their steps together
        await ready(frontend)
        for number in range(50):
            frontend.say(open_(f"r{number}", number, steps=20))
        await until(lambda: all(frontend.has_read(TurnFinished, number) for number in range(50)))
        assert len(frontend.got(Records)) < 50 * 20 / 4


async def test_no_two_turns_of_a_burst_start_in_one_pass_of_the_loop(
    tmp_path: Path, frontend: Frontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, started_in = 0, []
    start_turn = ScriptedEngine.start_turn

    async def count_passes() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    async def noted(engine: ScriptedEngine, turn: Turn, emit: Emit) -> None:
        started_in.append(passes)
        await start_turn(engine, turn, emit)

    monkeypatch.setattr(ScriptedEngine, "start_turn", noted)
    async with running(tmp_path, scripted()):
        await ready(frontend)
        counting = asyncio.create_task(count_passes())
        for number in range(50):
            frontend.say(open_(f"r{number}", number, steps=1))
        await until(lambda: all(frontend.has_read(TurnFinished, number) for number in range(50)))
        counting.cancel()
    assert len(set(started_in)) == 50


@pytest.mark.parametrize(
    "garbage",
    [b"", b"garbage", b"\xc1", b"\x92\xa0\x91\xa5hello", b"\x91" * 10_000, encode_command("", Hello(1, "f"))[:-1]],
    ids=["empty", "text", "no type", "short", "deep", "cut"],
)
async def test_a_garbage_frame_is_refused_and_logged(
    tmp_path: Path, frontend: Frontend, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, scripted()):
        await ready(frontend)
        assert frontend.channel.send(garbage)
        frontend.say(Attach(1, "nothing", 0, True))
        await until(lambda: frontend.got(Unknown))
    assert f"refused a frame of {len(garbage)} bytes from peer b'f1'" in caplog.text


async def test_a_frame_of_100_mb_is_refused_and_logged(
    tmp_path: Path, frontend: Frontend, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, scripted()):
        await ready(frontend)
        assert frontend.channel.send(bytes(100_000_000))
        frontend.say(Attach(1, "nothing", 0, True))
        await until(lambda: frontend.got(Unknown))
    assert "100000000 bytes from peer b'f1'" in caplog.text


async def test_an_unknown_version_is_refused_and_logged(
    tmp_path: Path, frontend: Frontend, other: Frontend, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, scripted()):
        await until(lambda: other.channel.send(encode_command("", Hello(99, "f2"))))
        await until(lambda: other.got(Refused))
        await ready(frontend)
    assert other.got(Welcome) == []
    assert "version 99" in caplog.text


async def test_a_command_queued_for_a_dead_worker_is_refused_by_its_successor(
    tmp_path: Path, frontend: Frontend, request: pytest.FixtureRequest
) -> None:
    """The first silent trap: what ZeroMQ had queued towards the dead worker, it hands to the next one."""
    async with running(tmp_path, scripted()) as (dead, _):
        await ready(frontend)
    queueing = StallingFrontend(tmp_path, "queueing")  # Begun while nobody is there: what it says waits in its queue.
    request.addfinalizer(queueing.socket.close)
    queueing.say(open_(), dead.incarnation)
    async with running(tmp_path, scripted()) as (successor, _):

        def refused() -> bool:
            queueing.take_what_came()
            return Stale(successor.incarnation) in queueing.reports

        await until(refused)
        await ready(frontend)
        assert frontend.incarnation == successor.incarnation != dead.incarnation
        frontend.say(Attach(1, "r", 0, True))
        await until(lambda: frontend.got(Unknown))


async def test_a_full_router_is_noticed_and_nothing_is_missing(
    tmp_path: Path, other: Frontend, stalling: StallingFrontend
) -> None:
    """The second silent trap: towards a reader that does not read, ZeroMQ's queue gets full and drops."""
    settings = {"queue_frames_max": 5, "heartbeat_interval_s": 0.05}
    async with running(tmp_path, scripted(), **settings) as (worker, _):
        await ready(other)
        await until(lambda: "2 frontends" in repr(worker))
        stalling.say(open_(text=("y" * 20_000 + " ") * 200, interval_s=0.002), worker.incarnation)
        await until(lambda: "1 live" in repr(worker))
        other.say(Attach(1, "r", 0, True))
        await until(lambda: len(other.reads[1]) > 100)  # Megabytes, which no socket's buffer takes.

        def caught_up() -> bool:
            stalling.take_what_came()
            return stalling.has_read(TurnFinished)

        await until(caught_up)
        await until(lambda: other.has_read(TurnFinished))
        assert stalling.times_lost > 0
        assert stalling.reads[1] == other.reads[1]


async def test_a_reader_that_stalls_holds_up_nobody_else(
    tmp_path: Path, frontend: Frontend, stalling: StallingFrontend
) -> None:
    # A message a record: on a busy machine a few large ones would hold all of it, and fit into the queue.
    async with running(tmp_path, scripted(), queue_frames_max=20, batch_records_max=1) as (worker, _):
        await ready(frontend)
        await until(lambda: "2 frontends" in repr(worker))
        stalling.say(open_("big", text=("y" * 20_000 + " ") * 200), worker.incarnation)
        await until(lambda: "0 requests, 0 tokens>, <Responses: 1 live" in repr(worker))  # its prompt is large, too
        frontend.say(open_(steps=100, interval_s=0.002))
        await until(lambda: frontend.has_read(TurnFinished))
        stalling.take_what_came()
        assert not stalling.has_read(TurnFinished)


async def test_frontends_are_answered_while_the_model_loads(tmp_path: Path, frontend: Frontend) -> None:
    may_load = threading.Event()

    def build(loop: asyncio.AbstractEventLoop, on_dead: OnDead) -> Engine:
        assert may_load.wait(DEADLINE_S)
        return scripted()(loop, on_dead)

    async with running(tmp_path, build):
        await frontend.connect()
        frontend.say(open_())
        await until(lambda: frontend.got(Rejected))
        assert frontend.got(Status)[-1].phase == "loading"
        assert frontend.got(Rejected)[0].error.code == "engine_unavailable"
        may_load.set()
        await until(lambda: any(status.phase == "ready" for status in frontend.got(Status)))
        assert [card.name for card in frontend.got(Status)[-1].models] == ["scripted"]


async def test_a_build_that_fails_ends_the_worker_with_its_reason(
    tmp_path: Path, frontend: Frontend, caplog: pytest.LogCaptureFixture
) -> None:
    may_fail = threading.Event()

    def build(*_: object) -> Engine:
        assert may_fail.wait(DEADLINE_S)
        raise ValueError("no such model: kelp-9")

    async with running(tmp_path, build) as (_, task):
        await frontend.connect()
        may_fail.set()
        assert await task == EXIT_BUILD_FAILED
        await until(lambda: frontend.got(Goodbye))
    assert "no such model: kelp-9" in caplog.text


async def test_the_engines_death_ends_the_worker_loudly(
    tmp_path: Path, frontend: Frontend, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, scripted()) as (_, task):
        await ready(frontend)
        frontend.say(open_(steps=10, die_after=4))
        assert await task == EXIT_ENGINE_DIED
        await until(lambda: frontend.got(Goodbye))
    assert "the engine died" in frontend.got(Goodbye)[0].reason
    assert any(record.levelno == logging.ERROR and "after 4 steps" in record.message for record in caplog.records)


async def test_an_engine_that_hangs_ends_the_worker_as_its_death_does(
    tmp_path: Path, frontend: Frontend, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, scripted(), heartbeat_interval_s=0.05, engine_hang_after_s=0.5) as (_, task):
        await ready(frontend)
        frontend.say(open_(steps=10, hang_after=4))
        assert await task == EXIT_ENGINE_DIED
        await until(lambda: frontend.got(Goodbye))
    assert "with 1 requests running and 0 waiting, and does not answer" in frontend.got(Goodbye)[0].reason
    assert any(record.levelno == logging.ERROR and "it hangs" in record.message for record in caplog.records)


async def test_draining_waits_for_what_is_live(tmp_path: Path, frontend: Frontend) -> None:
    async with running(tmp_path, scripted(), heartbeat_interval_s=0.05) as (worker, task):
        await ready(frontend)
        frontend.say(open_(steps=5, interval_s=0.01, first_s=0.05))
        await until(lambda: frontend.got(Attached))
        worker.drain()
        frontend.say(open_("late", 2))
        await until(lambda: frontend.has_read(TurnFinished))
        frontend.say(Close("r", 1, "completed", UNIX_TIME))
        assert await task == 0
        await until(lambda: frontend.got(Goodbye))
    assert frontend.has_read(Closed)
    assert [rejected.reader for rejected in frontend.got(Rejected)] == [2]


async def test_who_is_told_twice_to_end_ends_at_once(tmp_path: Path, frontend: Frontend) -> None:
    async with running(tmp_path, scripted(), drain_s=60) as (worker, task):
        await ready(frontend)
        frontend.say(open_(steps=5, first_s=60))
        await until(lambda: frontend.got(Attached))
        worker.drain()
        worker.drain()
        assert await task == 0
        await until(lambda: frontend.got(Goodbye))


async def test_an_engine_that_trips_over_a_request_costs_only_that_request(
    tmp_path: Path, frontend: Frontend, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, scripted()):
        await ready(frontend)
        frontend.say(Open(1, "secret", UNIX_TIME, b"this is no JSON"))
        await until(lambda: frontend.got(Rejected))
        assert frontend.got(Rejected)[0].error.code == "internal_error"
        frontend.say(open_(reader=2))
        await until(lambda: frontend.has_read(TurnFinished, 2))
    assert "response secret, turn 0" in caplog.text


async def test_a_fault_of_the_actors_own_is_logged_without_the_prompt(
    tmp_path: Path, frontend: Frontend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, scripted()) as (worker, _):
        await ready(frontend)
        with monkeypatch.context() as patch:
            patch.setattr(worker._actor._hosting, "open", lambda *_: 1 / 0)
            frontend.say(Open(1, "r", UNIX_TIME, b'{"input": "a secret"}'))
            await until(lambda: "the actor failed on Received" in caplog.text)
        frontend.say(open_(reader=2))
        await until(lambda: frontend.has_read(TurnFinished, 2))
    assert "a secret" not in caplog.text


async def test_a_stale_socket_file_is_replaced(tmp_path: Path, frontend: Frontend) -> None:
    (tmp_path / "worker-0.worker.sock").touch()
    async with running(tmp_path, scripted()):
        await ready(frontend)


async def test_turns_that_are_starting_are_cancelled_when_the_worker_stops(tmp_path: Path, frontend: Frontend) -> None:
    async with running(tmp_path, scripted()) as (worker, task):
        await ready(frontend)
        frontend.say(open_(render_s=60))
        await until(lambda: "1 opening" in repr(worker))
        worker.stop("enough")
        assert await task == 0


async def test_the_next_process_goes_on_with_what_was_live(tmp_path: Path, frontend: Frontend, other: Frontend) -> None:
    async with running(tmp_path, scripted()) as (worker, _):
        await ready(frontend)
        frontend.say(open_(steps=40, interval_s=0.05))
        await until(lambda: len(frontend.reads[1]) > 10)
        worker.stop("enough")
    told = list(frontend.reads[1])
    async with running(tmp_path, scripted()):
        await frontend.connect()
        frontend.say(Attach(1, "r", len(told), True))
        frontend.reads[1].clear()
        await until(lambda: frontend.has_read(TurnFinished))
        await other.connect()
        other.say(Attach(1, "r", 0, True))
        await until(lambda: other.has_read(TurnFinished))
    assert other.reads[1] == told + frontend.reads[1]
    assert sum(isinstance(record, Step) for record in other.log()) == 40


async def test_two_processes_do_not_have_the_same_journals(tmp_path: Path) -> None:
    async with running(tmp_path, scripted()):
        with pytest.raises(JournalUnavailable):
            Worker(Settings(run_dir=tmp_path, journal_lock_wait_s=0), "worker-0", scripted())
