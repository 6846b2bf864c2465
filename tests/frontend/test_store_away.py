"""A store that does not answer: what is live is served, what needs the store is told so, and no stream waits for it."""

import json
from pathlib import Path
from typing import Any

from protocol.commands import Close, Delete, Open
from tests.frontend.served import DONE, FINISHED, Frontend, events, served, text
from tests.frontend.standin import StandIn

NOWHERE = "postgresql://127.0.0.1:1/nothing"
"""A database that nobody serves."""
ABSENT = "resp_" + "0" * 32


async def answered(frontend: Frontend, worker: StandIn, **fields: Any) -> bytes:
    """A whole stream."""
    async with frontend.create(stream=True, **fields) as stream:
        assert stream.status == 200, await stream.text()
        worker.append(stream.headers["x-response-id"], text("word"), FINISHED)
        data: bytes = await stream.read()
        return data


async def status_of(frontend: Frontend, response_id: str) -> tuple[int, str | None]:
    async with frontend.read(response_id) as answer:
        return answer.status, answer.headers.get("Retry-After")


async def test_streams_end_and_are_kept_for_the_store(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, store=NOWHERE, store_wait_s=0.2) as frontend:
        data = await answered(frontend, worker)
        assert data.endswith(DONE)
        assert events(data)[-1]["type"] == "response.completed"
        assert [close.unstored for close in worker.commands(Close)] == [True]


async def test_nothing_more_is_taken_that_is_to_be_stored(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, store=NOWHERE, store_wait_s=0.2) as frontend:
        await answered(frontend, worker)
        async with frontend.create() as refused:
            assert refused.status == 503
            assert refused.headers["Retry-After"]
            assert json.loads(await refused.read())["error"]["type"] == "server_error"
        assert (await answered(frontend, worker, store=False)).endswith(DONE)


async def test_what_is_live_is_found_and_nothing_is_called_unknown(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, store=NOWHERE, store_wait_s=0.2) as frontend, frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        assert (await status_of(frontend, response_id))[0] == 200
        status, retry_after = await status_of(frontend, ABSENT)
        assert (status, bool(retry_after)) == (503, True)
        worker.append(response_id, FINISHED)
        assert (await stream.read()).endswith(DONE)


async def test_background_work_is_not_taken_and_forgotten_by_its_worker(worker: StandIn, tmp_path: Path) -> None:
    async with (
        served(tmp_path, store=NOWHERE, store_wait_s=0.2) as frontend,
        frontend.create(background=True) as refused,
    ):
        assert refused.status == 503
        [opened] = worker.commands(Open)
        await worker.until(lambda: worker.commands(Delete) == [Delete(opened.response_id)])
