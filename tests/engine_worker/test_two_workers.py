"""Two workers of one model on a host, over real ZeroMQ: what one leaves, the other goes on with."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine_worker.config import EXIT_ENGINE_DIED
from engine_worker.engines.interface import Engine, OnDead
from engine_worker.locks import FileLock
from engine_worker.shell import Build
from protocol.commands import Attach, Open
from protocol.records import Step, TurnFinished
from protocol.reports import Attached, Goodbye, Status, Took, Welcome
from tests.engine_worker.remote import Frontend, running, scripted, until

pytestmark = pytest.mark.slow

UNIX_TIME = 1_700_000_000
FIRST, SECOND = "worker-0", "worker-1"
STEPS = 100
TOLD = 10
"""Records that were read before the first worker ends."""


def open_(**script: Any) -> Open:
    plan = {"steps": STEPS, "interval_s": 0.02} | script
    return Open(1, "r", UNIX_TIME, json.dumps({"metadata": {"script": json.dumps(plan)}}).encode())


async def ready(frontend: Frontend) -> None:
    await frontend.connect()
    await until(lambda: any(status.phase == "ready" for status in frontend.got(Status)))


class Pair(NamedTuple):
    """One frontend's two channels: to the worker that ends, and to the one that goes on."""

    ending: Frontend
    staying: Frontend


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(Frontend(tmp_path, "f", FIRST), Frontend(tmp_path, "f", SECOND))
    yield pair
    for frontend in pair:
        frontend.channel.close()


async def begin(pair: Pair, **script: Any) -> None:
    """Both workers are ready, and the first one has told some of a response."""
    await ready(pair.ending)
    await ready(pair.staying)
    pair.ending.say(open_(**script))
    await until(lambda: len(pair.ending.reads[1]) > TOLD)


async def read_on(pair: Pair) -> list[bytes]:
    """The whole log: what the first worker told, and then the second."""
    await until(lambda: any(took.dead for took in pair.staying.got(Took)))
    assert pair.staying.got(Took) == [Took(("r",)), Took((), pair.ending.got(Welcome)[-1].incarnation)]
    told = list(pair.ending.reads[1])
    pair.staying.say(Attach(1, "r", len(told), True))
    await until(lambda: pair.staying.has_read(TurnFinished))
    return told + pair.staying.reads[1]


async def check(pair: Pair, whole: list[bytes]) -> None:
    """Who reads all of it from the second worker reads the same; and nothing was left out or said twice."""
    pair.staying.say(Attach(2, "r", 0, True))
    await until(lambda: len(pair.staying.reads[2]) >= len(whole))
    assert pair.staying.reads[2][: len(whole)] == whole
    assert sum(isinstance(record, Step) for record in pair.staying.log(2)) == STEPS


async def test_what_a_stopped_worker_leaves_goes_on_in_the_other(tmp_path: Path, pair: Pair) -> None:
    async with running(tmp_path, scripted(), FIRST) as (ending, _), running(tmp_path, scripted(), SECOND):
        await begin(pair)
        ending.stop("enough")
        await check(pair, await read_on(pair))
    assert pair.ending.got(Goodbye)


async def test_what_a_drain_leaves_goes_on_in_the_other(tmp_path: Path, pair: Pair) -> None:
    async with (
        running(tmp_path, scripted(), FIRST, drain_s=0.1, heartbeat_interval_s=0.05) as (ending, task),
        running(tmp_path, scripted(), SECOND),
    ):
        await begin(pair)
        ending.drain()
        assert await task == 0
        await check(pair, await read_on(pair))


async def test_what_ran_in_an_engine_that_died_goes_on_in_the_other(tmp_path: Path, pair: Pair) -> None:
    async with running(tmp_path, scripted(), FIRST) as (_, task), running(tmp_path, scripted(), SECOND):
        await begin(pair, die_after=20)
        assert await task == EXIT_ENGINE_DIED
        await check(pair, await read_on(pair))


async def test_the_other_need_not_wait_until_the_engine_is_closed(tmp_path: Path, pair: Pair) -> None:
    closing = asyncio.Event()
    async with (
        running(tmp_path, _slow_to_close(closing), FIRST) as (ending, task),
        running(tmp_path, scripted(), SECOND),
    ):
        await begin(pair)
        ending.stop("enough")
        await check(pair, await read_on(pair))
        assert not task.done()
        closing.set()


async def test_a_worker_is_ready_only_when_it_has_what_lay_free(tmp_path: Path, pair: Pair) -> None:
    async with running(tmp_path, scripted(), FIRST):
        await ready(pair.ending)
        pair.ending.say(open_())
        await until(lambda: len(pair.ending.reads[1]) > TOLD)
    async with running(tmp_path, _slow_to_build(pair.staying), SECOND):
        await pair.staying.connect()
        await until(lambda: any(status.phase == "ready" for status in pair.staying.got(Status)))
        told = [report for report in pair.staying.reports if isinstance(report, Took | Status)]
        before = told[: told.index(Took(("r",)))]
        assert before
        assert not any(isinstance(status, Status) and status.phase == "ready" for status in before)
        await check(pair, await read_on(pair))


async def test_a_worker_that_drains_takes_nothing_over(tmp_path: Path, pair: Pair) -> None:
    async with running(tmp_path, scripted(), FIRST) as (ending, _), running(tmp_path, scripted(), SECOND) as (busy, _):
        await begin(pair)
        pair.staying.say(Open(9, "its own", UNIX_TIME, open_(first_s=600).request))
        await until(lambda: pair.staying.got(Attached))
        busy.drain()
        ending.stop("enough")
        await until(lambda: nothing_holds(tmp_path, FIRST))
        assert pair.staying.got(Took) == []
        busy.stop("enough")
    assert [path.stem for path in tmp_path.rglob(f"{FIRST}/*.journal")] == ["r"]


def nothing_holds(run_dir: Path, worker: str) -> bool:
    lock = FileLock(run_dir / "journal" / worker / "lock")
    try:
        return lock.try_take()
    finally:
        lock.close()


def _slow_to_close(may_close: asyncio.Event) -> Build:
    def build(loop: asyncio.AbstractEventLoop, on_dead: OnDead) -> Engine:
        engine = scripted()(loop, on_dead)
        close: Callable[[], Any] = engine.close

        async def slow() -> None:
            await may_close.wait()
            await close()

        engine.close = slow  # type: ignore[method-assign]
        return engine

    return build


def _slow_to_build(frontend: Frontend) -> Build:
    """It is built only when the frontend has been told that it loads."""

    def build(loop: asyncio.AbstractEventLoop, on_dead: OnDead) -> Engine:
        while not frontend.got(Status):
            time.sleep(0.01)
        return scripted()(loop, on_dead)

    return build
