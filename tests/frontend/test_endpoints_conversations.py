"""A conversation has one writer at a time: who waits for whom, for how long, and what ends it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from protocol.commands import Delete, Open
from protocol.records import ErrorDetail
from tests.frontend.served import FINISHED, Frontend, served, text
from tests.frontend.standin import StandIn

OVERLOADED = ErrorDetail("server_error", "overloaded", "full")


async def new_conversation(frontend: Frontend) -> str:
    async with frontend.client.post(f"{frontend.url}/v1/conversations") as answer:
        assert answer.status == 200
        conversation_id: str = (await answer.json())["id"]
        return conversation_id


async def items_of(frontend: Frontend, conversation_id: str) -> list[str]:
    """What each message of the conversation says."""
    url = f"{frontend.url}/v1/conversations/{conversation_id}/items"
    async with frontend.client.get(url, params={"order": "asc"}) as answer:
        return [item["content"][0]["text"] for item in (await answer.json())["data"]]


def inputs(command: Open) -> list[str]:
    """What each message of a request that a worker got says."""
    found = []
    for item in json.loads(command.request)["input"]:
        content = item["content"]
        found.append(content if isinstance(content, str) else content[0]["text"])
    return found


async def answered(request: Any) -> tuple[int, Any]:
    async with request as answer:
        return answer.status, await answer.json()


async def until_open(worker: StandIn, count: int) -> str:
    """The id of the response that was opened last, of so many."""
    await worker.until(lambda: len(worker.logs) == count)
    return list(worker.logs)[-1]


async def test_the_second_writer_waits_for_the_first_and_reads_what_it_said(
    frontend: Frontend, worker: StandIn
) -> None:
    conversation_id = await new_conversation(frontend)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(answered(frontend.create(input="one", conversation=conversation_id)))
        first_id = await until_open(worker, 1)
        second = tasks.create_task(answered(frontend.create(input="two", conversation=conversation_id)))
        await asyncio.sleep(0.3)  # longer than it takes to open; it is only given the time to go wrong
        assert len(worker.logs) == 1
        worker.append(first_id, text("ONE"), FINISHED)
        worker.append(await until_open(worker, 2), text("TWO"), FINISHED)
    assert (first.result()[0], second.result()[0]) == (200, 200)
    assert inputs(worker.commands(Open)[1]) == ["one", "ONE", "two"]
    assert await items_of(frontend, conversation_id) == ["one", "ONE", "two", "TWO"]


async def test_whoever_has_waited_long_enough_is_told_so(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, conversation_wait_s=0.2) as frontend:
        conversation_id = await new_conversation(frontend)
        async with frontend.create(input="one", conversation=conversation_id, stream=True) as stream:
            first_id = await until_open(worker, 1)
            status, body = await answered(frontend.create(input="two", conversation=conversation_id))
            assert (status, body["error"]["code"]) == (409, "conversation_locked")
            assert body["error"]["param"] == "conversation"
            worker.append(first_id, FINISHED)
            await stream.read()
        assert len(worker.logs) == 1


async def follows(frontend: Frontend, worker: StandIn, conversation_id: str) -> None:
    """See that somebody may write to the conversation."""
    known = len(worker.logs)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(answered(frontend.create(input="next", conversation=conversation_id)))
        worker.append(await until_open(worker, known + 1), FINISHED)
    assert task.result()[0] == 200


async def test_one_that_is_refused_keeps_nobody_out(frontend: Frontend, worker: StandIn) -> None:
    conversation_id = await new_conversation(frontend)
    worker.rejects = OVERLOADED
    status, _ = await answered(frontend.create(input="one", conversation=conversation_id))
    assert status == 503
    worker.rejects = None
    await follows(frontend, worker, conversation_id)


@pytest.mark.parametrize("background", [False, True])
async def test_one_that_is_deleted_while_it_runs_keeps_nobody_out(
    frontend: Frontend, worker: StandIn, *, background: bool
) -> None:
    conversation_id = await new_conversation(frontend)
    fields: dict[str, Any] = {"conversation": conversation_id, "background": background, "stream": True}
    async with frontend.create(input="one", **fields):
        first_id = await until_open(worker, 1)
        async with frontend.client.delete(f"{frontend.url}/v1/responses/{first_id}") as answer:
            assert answer.status == 200
        await worker.until(lambda: bool(worker.commands(Delete)))
        await follows(frontend, worker, conversation_id)
    assert await items_of(frontend, conversation_id) == ["next", ""]  # and nothing of the deleted one


async def test_one_that_is_not_to_be_stored_keeps_nobody_out(frontend: Frontend, worker: StandIn) -> None:
    conversation_id = await new_conversation(frontend)
    await follows(frontend, worker, conversation_id)
    async with frontend.create(input="aside", conversation=conversation_id, store=False, stream=True) as stream:
        first_id = await until_open(worker, 2)
        assert inputs(worker.commands(Open)[1]) == ["next", "", "aside"]
        await follows(frontend, worker, conversation_id)
        worker.append(first_id, FINISHED)
        await stream.read()
    await follows(frontend, worker, conversation_id)
    assert "aside" not in await items_of(frontend, conversation_id)


async def test_a_client_that_left_while_it_waited_keeps_nobody_out(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path) as frontend:
        conversation_id = await new_conversation(frontend)
        for attempt in range(10):  # it leaves at a different moment each time
            leaving = asyncio.create_task(answered(frontend.create(input="gone", conversation=conversation_id)))
            await asyncio.sleep(0.002 * attempt)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        for response_id in worker.logs:
            worker.append(response_id, FINISHED)
        await follows_whatever_was_made(frontend, worker, conversation_id)


async def follows_whatever_was_made(frontend: Frontend, worker: StandIn, conversation_id: str) -> None:
    """As `follows`, where others may have been opened that nobody waits for."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(answered(frontend.create(input="next", conversation=conversation_id)))
        while not task.done():
            for response_id, log in list(worker.logs.items()):
                if not log.closed:
                    worker.append(response_id, FINISHED)
            await asyncio.sleep(0.05)
    assert task.result()[0] == 200


async def test_another_request_under_its_key_lets_nobody_in(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, conversation_wait_s=0.2) as frontend:
        conversation_id = await new_conversation(frontend)
        fields: dict[str, Any] = {"conversation": conversation_id, "headers": {"Idempotency-Key": "k"}}
        async with frontend.create(input="one", stream=True, **fields) as stream:
            first_id = await until_open(worker, 1)
            status, _ = await answered(frontend.create(input="other", **fields))
            assert status == 409
            status, body = await answered(frontend.create(input="two", conversation=conversation_id))
            assert (status, body["error"]["code"]) == (409, "conversation_locked")
            worker.append(first_id, FINISHED)
            await stream.read()
