"""What was deleted is forgotten by the workers, whatever became of the word that was to tell them."""

import pytest

from frontend.answers import STORE
from protocol.commands import Close, Delete
from tests.frontend.served import FINISHED, Frontend, text
from tests.frontend.standin import StandIn


async def test_one_that_has_ended(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        worker.append(response_id, text("x"), FINISHED)
        await stream.read()
    async with frontend.client.delete(f"{frontend.url}/v1/responses/{response_id}") as answer:
        assert answer.status == 200
    await worker.until(lambda: worker.commands(Delete) == [Delete(response_id)])


@pytest.mark.parametrize("background", [False, True])
async def test_one_whose_worker_was_not_told_is_forgotten_when_it_ends(
    frontend: Frontend, worker: StandIn, *, background: bool
) -> None:
    async with frontend.create(stream=True, background=background) as stream:
        response_id = await worker.next_response()
        assert await frontend.runner.app[STORE].responses.delete("", response_id, 1, live=True)
        worker.append(response_id, text("x"), FINISHED)
        assert b'"status":"cancelled"' in await stream.read()
    await worker.until(lambda: worker.commands(Delete) == [Delete(response_id)])
    assert [close.status for close in worker.commands(Close)] == ["cancelled"]
