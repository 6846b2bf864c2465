"""Who is let in, and that a tenant sees its own objects only, at every endpoint there is."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import ClientResponse
from aiohttp.web import Application

from benchmarks.deployment import REPOSITORY
from frontend.keys import main
from protocol.commands import Abort, Delete, Open
from tests.frontend.served import DONE, FINISHED, Frontend, read_until, served, text
from tests.frontend.standin import StandIn
from tests.frontend.tenants import make_key
from tests.pace import DEADLINE_S

pytestmark = pytest.mark.slow

OBJECTS = {
    ("GET", "/v1/responses/{response_id}"),
    ("DELETE", "/v1/responses/{response_id}"),
    ("POST", "/v1/responses/{response_id}/cancel"),
    ("GET", "/v1/responses/{response_id}/input_items"),
    ("GET", "/v1/conversations/{conversation_id}"),
    ("POST", "/v1/conversations/{conversation_id}"),
    ("DELETE", "/v1/conversations/{conversation_id}"),
    ("GET", "/v1/conversations/{conversation_id}/items"),
    ("POST", "/v1/conversations/{conversation_id}/items"),
    ("GET", "/v1/conversations/{conversation_id}/items/{item_id}"),
    ("DELETE", "/v1/conversations/{conversation_id}/items/{item_id}"),
}
"""Every endpoint whose path names a tenant's object: add yours, with a `BODIES` entry if it wants one."""
BODIES = {
    ("POST", "/v1/conversations/{conversation_id}"): {"metadata": {"mine": "now"}},
    ("POST", "/v1/conversations/{conversation_id}/items"): {"items": [{"role": "user", "content": "hi"}]},
}
"""Good ones, so that nothing but the object's tenant is amiss."""
NOBODYS = {("GET", "/v1/models/{model}")}
"""Endpoints whose paths name what all tenants share."""


@pytest.fixture
def alice(tmp_path: Path) -> dict[str, str]:
    return make_key(tmp_path, "alice")


@pytest.fixture
def bob(tmp_path: Path) -> dict[str, str]:
    return make_key(tmp_path, "bob")


@pytest.fixture
async def locked(
    alice: dict[str, str], bob: dict[str, str], worker: StandIn, tmp_path: Path
) -> AsyncIterator[Frontend]:
    """A frontend that knows two keys."""
    assert alice != bob
    assert worker.phase == "ready"
    async with served(tmp_path) as frontend:
        yield frontend


async def error(answer: ClientResponse) -> Any:
    return (await answer.json())["error"]


# ---- who is let in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer"}, {"Authorization": "Bearer sk-wrong"}, {"api-key": "sk-wrong"}, {"api-key": ""}],
)
async def test_without_a_key_that_holds_nothing_is_answered_but_401(locked: Frontend, headers: dict[str, str]) -> None:
    async with locked.create(headers=headers) as create, locked.read("resp_1", headers=headers) as read:
        for answer in (create, read):
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert answer.headers["x-request-id"]
            found = await error(answer)
            assert (found["type"], found["code"], found["param"]) == ("authentication_error", "invalid_api_key", None)
            assert "sk-wrong" not in found["message"]
    async with locked.client.get(locked.url + "/nowhere", headers=headers) as answer:
        assert answer.status == 401


async def test_a_key_opens_by_either_header(locked: Frontend, alice: dict[str, str]) -> None:
    secret = alice["Authorization"].removeprefix("Bearer ")
    for headers in (alice, {"authorization": f"bearer  {secret} "}, {"api-key": secret}):
        async with locked.client.get(locked.url + "/v1/models", headers=headers) as answer:
            assert answer.status == 200


async def test_health_needs_no_key(locked: Frontend) -> None:
    for path in ("live", "ready"):
        async with locked.client.get(f"{locked.url}/health/{path}") as answer:
            assert answer.status in (200, 503)


async def test_where_no_key_was_made_none_is_asked_for(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True, headers={"Authorization": "Bearer unused"}) as stream:
        assert stream.status == 200
        assert not [name for name in stream.headers if name.startswith("x-ratelimit")]
    assert [(command.tenant, command.key) for command in worker.commands(Open)] == [("", "")]


async def test_revoked_keys_are_refused_and_new_ones_let_in_without_a_restart(
    locked: Frontend, alice: dict[str, str], tmp_path: Path
) -> None:
    async def status(headers: dict[str, str]) -> int:
        async with locked.client.get(locked.url + "/v1/models", headers=headers) as answer:
            return answer.status

    assert await status(alice) == 200
    main(["--keys-file", str(tmp_path / "data" / "keys.json"), "revoke", "alice"])
    carol = make_key(tmp_path, "carol")
    while await status(alice) != 401:
        pass
    assert await status(carol) == 200


async def test_the_sdk_raises_its_authentication_error(locked: Frontend) -> None:
    async with openai.AsyncOpenAI(base_url=locked.url + "/v1", api_key="sk-wrong", max_retries=0) as sdk:
        with pytest.raises(openai.AuthenticationError) as raised:
            await sdk.responses.create(model="holdfast-demo", input="hi")
    assert raised.value.code == "invalid_api_key"
    assert raised.value.request_id


# ---- starting open ---------------------------------------------------------------------------------------------------


def start(directory: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Start a frontend that must end by itself: its port is taken, which it finds out when it has made up its mind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "frontend", "--port", port, "--data-dir", str(directory), *flags]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_keys_it_does_not_listen_to_the_world(host: str, tmp_path: Path) -> None:
    ended = start(tmp_path, "--host", host)
    assert ended.returncode == 2
    assert f"whoever reaches {host} would be let in" in ended.stderr
    assert "python -m frontend.keys create" in ended.stderr
    assert "--allow-open" in ended.stderr


@pytest.mark.parametrize("flags", ["--host 0.0.0.0 --allow-open true", "--host 0.0.0.0 --keys-file {keys}", ""])
def test_it_does_where_it_is_told_to_or_has_a_key(flags: str, tmp_path: Path, alice: dict[str, str]) -> None:
    assert alice
    ended = start(tmp_path / "empty", *flags.format(keys=tmp_path / "data" / "keys.json").split())
    assert ended.returncode == 1, ended.stderr
    assert "can't listen" in ended.stderr


def test_a_keys_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("[")
    ended = start(tmp_path)
    assert ended.returncode == 2
    assert str(tmp_path / "keys.json") in ended.stderr
    assert "Traceback" not in ended.stderr


# ---- one tenant's objects --------------------------------------------------------------------------------------------


async def test_a_live_response_is_its_tenants_alone(
    locked: Frontend, worker: StandIn, alice: dict[str, str], bob: dict[str, str], tmp_path: Path
) -> None:
    async with served(tmp_path) as other, locked.create(stream=True, headers=alice) as original:
        response_id = await worker.next_response()
        worker.append(response_id, text("Hello"))
        await read_until(original, b"Hello")
        for frontend in (locked, other):
            for params in ({}, {"stream": "true"}, {"stream": "true", "starting_after": "99"}):
                async with (
                    frontend.read(response_id, headers=bob, params=params) as strangers,
                    frontend.read("resp_" + "0" * 32, headers=bob, params=params) as nothing,
                ):
                    assert strangers.status == nothing.status == 404
                    seen, expected = await strangers.text(), await nothing.text()
                    assert seen == expected.replace("resp_" + "0" * 32, response_id)
        colleague = make_key(tmp_path, "alices-agent", "alice")
        worker.append(response_id, FINISHED)
        whole = await original.read()
        assert whole.endswith(DONE)
        async with served(tmp_path) as later, later.read(response_id, headers=colleague) as answer:
            assert (await answer.json())["status"] == "completed"


async def test_the_same_idempotency_key_of_two_tenants_makes_two_responses(
    locked: Frontend, worker: StandIn, alice: dict[str, str], bob: dict[str, str]
) -> None:
    for headers in (alice, bob, alice):
        async with locked.create(stream=True, headers={**headers, "Idempotency-Key": "order 66"}) as stream:
            await read_until(stream, b"response.in_progress")
    opened = worker.commands(Open)
    assert [(command.tenant, command.key) for command in opened] == [("alice", "alice"), ("bob", "bob")]
    assert len({command.response_id for command in opened}) == 2


def endpoints_with_objects(app: Application) -> set[tuple[str, str]]:
    """Method and path of every endpoint whose path names something."""
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    return {(method, path) for method, path in routes if "{" in path and method != "HEAD"}


async def conversation_of(frontend: Frontend, headers: dict[str, str]) -> dict[str, str]:
    """A new conversation and its item, by their names in paths."""
    item = {"type": "message", "role": "user", "content": "hi"}
    url = f"{frontend.url}/v1/conversations"
    async with frontend.client.post(url, json={"items": [item]}, headers=headers) as answer:
        conversation_id = (await answer.json())["id"]
    async with frontend.client.get(f"{url}/{conversation_id}/items", headers=headers) as answer:
        item_id = (await answer.json())["data"][0]["id"]
    return {"conversation_id": conversation_id, "item_id": item_id}


async def see(frontend: Frontend, headers: dict[str, str], names: dict[str, str]) -> dict[tuple[str, str], int]:
    """The status of every GET of these objects."""
    seen = {}
    for method, path in OBJECTS:
        if method == "GET":
            async with frontend.client.get(frontend.url + path.format(**names), headers=headers) as answer:
                seen[method, path] = answer.status
    return seen


async def test_no_endpoint_shows_or_changes_another_tenants_objects(
    locked: Frontend, worker: StandIn, alice: dict[str, str], bob: dict[str, str]
) -> None:
    assert endpoints_with_objects(locked.runner.app) == OBJECTS | NOBODYS, "say whose objects these are, above"
    names = await conversation_of(locked, alice)
    async with locked.create(stream=True, headers=alice) as stream:
        live = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        create = asyncio.ensure_future(_post(locked, alice))
        stored = await worker.next_response(known=1)
        worker.append(stored, FINISHED)
        assert await create == stored
        for response_id in (live, stored):
            before = await see(locked, alice, {**names, "response_id": response_id})
            assert set(before.values()) == {200}
            for method, path in sorted(OBJECTS):
                url = locked.url + path.format(**names, response_id=response_id)
                body = BODIES.get((method, path))
                async with locked.client.request(method, url, headers=bob, json=body) as answer:
                    assert answer.status == 404, (method, path)
                    assert (await error(answer))["code"].endswith("_not_found")
            assert await see(locked, alice, {**names, "response_id": response_id}) == before
        worker.append(live, FINISHED)
        assert (await stream.read()).endswith(DONE)
    assert not worker.commands(Abort) + worker.commands(Delete)


async def _post(frontend: Frontend, headers: dict[str, str]) -> str:
    async with frontend.create(headers=headers) as answer:
        response_id: str = (await answer.json())["id"]
        return response_id
