"""What clients of a real frontend see when their worker dies or ends and another one goes on with its responses."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from protocol.commands import Attach, Open
from tests.frontend.served import DONE, FINISHED, Frontend, events, read_until, served, text
from tests.frontend.standin import StandIn


@pytest.fixture
async def peer(worker: StandIn, tmp_path: Path) -> AsyncIterator[StandIn]:
    """Another worker of the same model, which takes nothing new."""
    assert worker.phase == "ready"
    standin = StandIn(tmp_path, "w1", phase="draining")
    yield standin
    standin.close()


async def acquainted(*workers: StandIn) -> None:
    """Wait until the frontend is known to all of them."""
    for worker in workers:
        await worker.until(lambda known=worker: bool(known.peers))  # type: ignore[misc]


async def plain(frontend: Frontend) -> Any:
    async with frontend.create() as answer:
        return await answer.json()


@pytest.mark.parametrize("how", ["killed", "drained", "not told"])
async def test_all_readers_of_a_response_go_on_where_they_were(
    worker: StandIn, peer: StandIn, tmp_path: Path, how: str
) -> None:
    async with served(tmp_path, worker_lost_after_s=0.5) as frontend:
        await acquainted(worker, peer)
        async with frontend.create(stream=True) as first:
            response_id = await worker.next_response()
            worker.append(response_id, text("one "))
            start = await read_until(first, b'"one "')
            creating = asyncio.ensure_future(plain(frontend))
            other_id = await worker.next_response(1)
            async with frontend.read(response_id, params={"stream": "true", "starting_after": 1}) as second:
                await read_until(second, b'"one "')
                if how == "drained":
                    worker.say_goodbye()
                worker.close()
                if how == "not told":
                    peer.logs, worker.logs = worker.logs, {}
                else:
                    peer.take_over(worker)
                await peer.until(lambda: len(peer.commands(Attach)) >= 3)
                peer.append(response_id, text("two"), FINISHED)
                rest = await first.read()
                assert (await second.read()).endswith(rest)
        peer.append(other_id, text("three"), FINISHED)
        assert (await creating)["status"] == "completed"
        async with frontend.read(response_id, params={"stream": "true"}) as replay:
            assert await replay.read() == start + rest
    numbers = [event["sequence_number"] for event in events(start + rest)]
    assert numbers == list(range(len(numbers)))
    assert rest.endswith(DONE)
    assert {attach.from_offset for attach in peer.commands(Attach) if attach.response_id == response_id} == {4, 0}


async def test_a_response_is_found_on_the_worker_that_has_it_now_also_without_a_stream(
    worker: StandIn, peer: StandIn, tmp_path: Path
) -> None:
    async with served(tmp_path) as frontend, frontend.create(stream=True) as stream:
        await acquainted(worker, peer)
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        worker.close()
        peer.take_over(worker)
        async with frontend.read(response_id) as answer:
            assert (await answer.json())["status"] == "in_progress"
        peer.append(response_id, FINISHED)
        assert (await stream.read()).endswith(DONE)


async def test_a_restart_of_the_only_worker_is_a_pause_and_no_error_to_those_who_create(
    worker: StandIn, tmp_path: Path
) -> None:
    async with served(tmp_path) as frontend:
        await acquainted(worker)
        async with frontend.create(stream=True):
            pass
        worker.close()
        creating = asyncio.ensure_future(plain(frontend))
        successor = StandIn(tmp_path, incarnation="second", phase="loading")
        await successor.until(lambda: bool(successor.peers))
        assert not creating.done()
        successor.phase = "ready"
        await successor.until(lambda: bool(successor.commands(Open)))
        successor.append(await successor.next_response(), FINISHED)
        assert (await creating)["status"] == "completed"
        successor.close()
