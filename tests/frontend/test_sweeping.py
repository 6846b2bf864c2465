"""Background responses that no worker knows any more: run again while nobody can have seen anything, else ended."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from frontend.answers import STORE
from frontend.store.responses import NewBackground, Unfinished
from protocol.codec import encode_record
from protocol.commands import Open
from protocol.records import Opened
from tests.frontend.served import FINISHED, Frontend, served, text
from tests.frontend.standin import StandIn
from tests.pace import DEADLINE_S

pytestmark = pytest.mark.slow

RESPONSE_ID = "resp_" + "a" * 32
REQUEST = b'{"model":"holdfast-demo","input":"x","background":true}'
QUICK: dict[str, Any] = {"sweep_interval_s": 0.05, "background_lost_after_s": 1.0}


async def abandoned(
    frontend: Frontend, *, started: bool = False, age_s: int = 100, request: bytes = REQUEST, epoch: int = 1
) -> None:
    """Store a response in the background, of which the worker that had it has left nothing."""
    created_at = int(time.time()) - age_s
    opened = Opened(RESPONSE_ID, created_at, request, background=True)
    row = NewBackground(
        response_id=RESPONSE_ID,
        tenant="",
        created_at=created_at,
        model="holdfast-demo",
        response=b'{"status":"queued"}',
        opened=encode_record(opened),
        epoch=epoch,
    )
    responses = frontend.runner.app[STORE].responses
    await responses.insert_background(row)
    if started:
        await responses.start(RESPONSE_ID)


async def until_ended(frontend: Frontend) -> dict[str, Any]:
    """The response, once it has ended."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with frontend.read(RESPONSE_ID) as answer:
                found: dict[str, Any] = await answer.json()
            if found["status"] not in ("queued", "in_progress"):
                return found
            await asyncio.sleep(0.05)


async def unfinished(frontend: Frontend) -> list[Unfinished]:
    return await frontend.runner.app[STORE].responses.unfinished(int(time.time()) + 10, 10)


@pytest.mark.parametrize("epoch", [1, 3])
async def test_one_of_which_nothing_was_seen_is_run_again_with_owners_of_new_epochs(
    worker: StandIn, tmp_path: Path, epoch: int
) -> None:
    async with served(tmp_path, **QUICK) as frontend:
        await abandoned(frontend, epoch=epoch)
        assert await worker.next_response() == RESPONSE_ID
        [command] = worker.commands(Open)
        assert (command.request, command.background) == (REQUEST, True)
        worker.append(RESPONSE_ID, text("Hello"), FINISHED)
        found = await until_ended(frontend)
        assert (found["status"], found["output"][0]["content"][0]["text"]) == ("completed", "Hello")
        assert await unfinished(frontend) == []


async def test_one_of_which_something_was_seen_has_failed(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, **QUICK) as frontend:
        await abandoned(frontend, started=True)
        found = await until_ended(frontend)
        assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
        assert "part of it was seen" in found["error"]["message"]
        assert worker.logs == {}
        async with frontend.read(RESPONSE_ID, params={"stream": "true"}) as stream:
            assert b"response.failed" in await stream.read()


async def test_one_that_would_be_refused_again_has_failed(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, **QUICK) as frontend:
        await abandoned(frontend, request=REQUEST.replace(b"holdfast-demo", b"gone"))
        found = await until_ended(frontend)
        assert found["status"] == "failed"
        assert "The model 'gone' does not exist" in found["error"]["message"]
        assert worker.logs == {}


@pytest.mark.parametrize("known", [False, True])
async def test_a_young_one_and_one_that_a_worker_knows_are_left_alone(
    worker: StandIn, tmp_path: Path, *, known: bool
) -> None:
    async with served(tmp_path, **QUICK | {"background_lost_after_s": 0.0001 if known else 50.0}) as frontend:
        if known:
            async with frontend.create(background=True) as answer:
                assert answer.status == 200
        else:
            await abandoned(frontend, age_s=1)
        await asyncio.sleep(1.5)  # many sweeps; whole seconds count
        assert len(worker.commands(Open)) == int(known)
        assert [row.status for row in await unfinished(frontend)] == ["queued"]


async def test_several_frontends_run_it_again_once(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, **QUICK) as frontend, served(tmp_path, **QUICK), served(tmp_path, **QUICK):
        await abandoned(frontend)
        await worker.next_response()
        await asyncio.sleep(0.5)
        assert len(worker.commands(Open)) == 1
        worker.append(RESPONSE_ID, FINISHED)
        assert (await until_ended(frontend))["status"] == "completed"
