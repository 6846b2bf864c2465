"""Responses in the background and streams read again, by the official Python SDK, with either store."""

import time
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.responses import Response

from tests.pace import DEADLINE_S
from tests.system import sse
from tests.system.sdk import client
from tests.system.served import Served
from tests.system.test_clients import STRICT

pytestmark = pytest.mark.engine

MODEL = "holdfast-demo"
TERMINAL = {"completed", "failed", "incomplete", "cancelled"}


def until_ended(sdk: openai.OpenAI, response_id: str) -> tuple[list[Any], Response]:
    """Poll until it has ended; returns each status that was seen, in order, and the response."""
    seen: list[Any] = []
    give_up_at = time.monotonic() + 2 * DEADLINE_S
    while time.monotonic() < give_up_at:
        found = sdk.responses.retrieve(response_id)
        if found.status not in seen:
            seen.append(found.status)
        if found.status in TERMINAL:
            return seen, found
        time.sleep(0.05)
    raise AssertionError(f"{response_id} has not ended: {seen}")


def long(sdk: openai.OpenAI, **fields: Any) -> Response:
    """One in the background that takes a while: the model's whole context, so that it still runs on a busy machine."""
    extra = {"ignore_eos": True}
    created: Response = sdk.responses.create(
        model=MODEL, input="Tell me a story.", background=True, max_output_tokens=4000, extra_body=extra, **fields
    )
    return created


def test_one_in_the_background_is_polled_until_it_has_completed(served_on: Served) -> None:
    sdk, elsewhere = client(served_on), client(served_on._replace(url=served_on.other_url))
    created = sdk.responses.create(model=MODEL, input="Count from 1 to 20.", background=True, temperature=0)
    assert (created.status, created.background, created.output) == ("queued", True, [])
    seen, found = until_ended(elsewhere, created.id)
    assert set(seen) <= {"queued", "in_progress", "completed"}
    assert found.status == "completed"
    assert "19, 20" in found.output_text
    assert sdk.responses.retrieve(created.id) == found


def test_one_in_the_background_is_streamed(served_on: Served) -> None:
    sdk = client(served_on)
    stream = sdk.responses.create(model=MODEL, input="Hello", background=True, stream=True, temperature=0)
    kinds = []
    for event in stream:
        STRICT.validate_json(event.model_dump_json(exclude_unset=True), strict=True)
        kinds.append(event.type)
    assert kinds[:2] == ["response.created", "response.queued"]
    assert kinds[-1] == "response.completed"


def test_it_goes_on_without_its_client_and_is_read_to_the_end_elsewhere(served_on: Served) -> None:
    sdk, elsewhere = client(served_on), client(served_on._replace(url=served_on.other_url))
    seen = []
    stream = sdk.responses.create(model=MODEL, input="Count from 1 to 20.", background=True, stream=True, temperature=0)
    response_id = ""
    for event in stream:
        seen.append(event)
        if event.type == "response.created":
            response_id = event.response.id
        if event.type == "response.output_text.delta":
            break
    stream.close()
    rest = elsewhere.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number)
    seen += list(rest)
    assert seen == list(sdk.responses.retrieve(response_id, stream=True))
    assert seen[-1].type == "response.completed"


def test_a_cancelled_one_stays_cancelled(served_on: Served) -> None:
    sdk, elsewhere = client(served_on), client(served_on._replace(url=served_on.other_url))
    created = long(sdk)
    cancelled = elsewhere.responses.cancel(created.id)
    assert cancelled.status == "cancelled"
    assert sdk.responses.cancel(created.id) == cancelled
    assert sdk.responses.retrieve(created.id) == cancelled
    assert elsewhere.responses.retrieve(created.id) == cancelled
    replay = list(sdk.responses.retrieve(created.id, stream=True))
    assert replay[-1].type == "response.incomplete"
    assert replay[-1].response == cancelled


def test_one_that_has_ended_is_answered_to_a_cancel_as_it_is(served_on: Served) -> None:
    sdk = client(served_on)
    created = sdk.responses.create(model=MODEL, input="Hello", background=True, temperature=0)
    _, found = until_ended(sdk, created.id)
    assert sdk.responses.cancel(created.id) == found


def test_only_those_in_the_background_can_be_cancelled(served_on: Served) -> None:
    sdk = client(served_on)
    created = sdk.responses.create(model=MODEL, input="Hello", temperature=0)
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        sdk.responses.cancel(created.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.cancel("resp_" + "0" * 32)


def test_a_running_one_is_deleted_and_does_not_come_back(served_on: Served) -> None:
    sdk, elsewhere = client(served_on), client(served_on._replace(url=served_on.other_url))
    created = long(sdk)
    elsewhere.responses.delete(created.id)
    give_up_at = time.monotonic() + 3
    while time.monotonic() < give_up_at:  # as long as it might take to be closed
        for frontend in (sdk, elsewhere):
            with pytest.raises(openai.NotFoundError):
                frontend.responses.retrieve(created.id)
        time.sleep(0.5)


@pytest.mark.parametrize("background", [False, True])
async def test_bytes_are_the_same_live_and_stored_from_every_frontend(served_on: Served, *, background: bool) -> None:
    body = {"model": MODEL, "input": "Count from 1 to 9.", "stream": True, "temperature": 0, "background": background}
    async with aiohttp.ClientSession() as http:
        async with http.post(served_on.url + "/v1/responses", json=body) as answer:
            first = sse.blocks(answer)
            seen = [await anext(first) for _ in range(5)]
            response_id = answer.headers["x-response-id"]
            live = await read(http, served_on.other_url, response_id)
            seen += [block async for block in first]
        whole = sse.without_comments(seen)
        sse.well_formed(whole)
        assert live == whole
        for url in (served_on.url, served_on.other_url):
            assert await read(http, url, response_id) == whole
            for after in range(len(whole) - 1):
                assert await read(http, url, response_id, after) == whole[after + 1 :]


async def read(http: aiohttp.ClientSession, url: str, response_id: str, after: int | None = None) -> list[bytes]:
    query = {"stream": "true"} if after is None else {"stream": "true", "starting_after": str(after)}
    async with http.get(f"{url}/v1/responses/{response_id}", params=query) as answer:
        assert answer.status == 200, await answer.text()
        return sse.without_comments(await sse.read(answer))
