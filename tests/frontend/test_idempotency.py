"""`Idempotency-Key`: a create that is sent again joins the first run, on whichever frontend it arrives."""

import asyncio
from pathlib import Path

import pytest

from protocol.commands import Open
from tests.frontend.served import DONE, FINISHED, Frontend, read_until, served, text
from tests.frontend.standin import StandIn

KEY = {"Idempotency-Key": "order 66"}


async def test_same_key_and_body_join_the_run_on_any_frontend(worker: StandIn, tmp_path: Path) -> None:
    async with (
        served(tmp_path) as first,
        served(tmp_path) as second,
        first.create(stream=True, headers=KEY) as original,
    ):
        response_id = await worker.next_response()
        worker.append(response_id, text("Hello"))
        await read_until(original, b"Hello")
        async with second.create(stream=True, headers=KEY) as joined:
            worker.append(response_id, text(" world"), FINISHED)
            whole = await joined.read()
        assert joined.headers["x-response-id"] == response_id
        async with first.create(stream=True, headers=KEY) as replayed:
            assert await replayed.read() == whole
    assert whole.endswith(DONE)
    assert len(worker.logs) == 1
    assert len(worker.commands(Open)) == 1


async def test_same_key_joins_a_plain_answer(frontend: Frontend, worker: StandIn) -> None:
    async def create() -> bytes:
        async with frontend.create(headers=KEY) as answer:
            body: bytes = await answer.read()
            return body

    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(create()) for _ in range(2)]
        response_id = await worker.next_response()
        await worker.until(lambda: len(worker.readers_of(response_id)) == 2)
        worker.append(response_id, FINISHED)
    assert answers[0].result() == answers[1].result()
    assert len(worker.logs) == 1


async def test_same_key_with_another_body_is_409(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True, headers=KEY) as original:
        response_id = await worker.next_response()
        await read_until(original, b"response.in_progress")
        async with frontend.create(input="something else", headers=KEY) as answer:
            error = (await answer.json())["error"]
        assert answer.status == 409
        assert (error["type"], error["code"]) == ("idempotency_error", "idempotency_mismatch")
        await worker.until(lambda: len(worker.readers_of(response_id)) == 1)
        worker.append(response_id, FINISHED)
        assert (await original.read()).endswith(DONE)


async def test_different_keys_make_different_responses(frontend: Frontend, worker: StandIn) -> None:
    async with (
        frontend.create(stream=True, headers=KEY),
        frontend.create(stream=True, headers={"Idempotency-Key": "order 67"}),
    ):
        await worker.until(lambda: len(worker.logs) == 2)


@pytest.mark.parametrize("key", ["", "k" * 256, "caf\u00e9"])
async def test_keys_that_are_none_are_refused(frontend: Frontend, worker: StandIn, key: str) -> None:
    async with frontend.create(headers={"Idempotency-Key": key}) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "Idempotency-Key"
    assert worker.logs == {}
