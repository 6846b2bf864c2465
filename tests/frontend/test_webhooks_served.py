"""Webhooks of a running frontend: background responses are told of, to the server's endpoint and to the tenant's."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from frontend.keys import main as keys
from tests.frontend.receiver import SECRET, Receiver, receiving
from tests.frontend.served import FINISHED, Frontend, served, text
from tests.frontend.standin import StandIn


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def told_at(receiver: Receiver) -> dict[str, Any]:
    """The settings by which a frontend tells this receiver."""
    return {
        "outgoing_allow": "127.0.0.1/32",
        "webhook_url": receiver.url + "/server",
        "webhook_secret": SECRET,
        "webhook_interval_s": 60.0,  # whoever stores a delivery posts it at once
    }


async def run(frontend: Frontend, worker: StandIn, **fields: Any) -> str:
    """Make a response in the background, let it end, and return its id."""
    async with frontend.create(background=True, **fields) as answer:
        made = await answer.json()
        assert answer.status == 200, made
    worker.append(made["id"], text("Hello"), FINISHED)
    return str(made["id"])


async def test_a_background_response_is_told_of_when_it_ends(
    worker: StandIn, receiver: Receiver, tmp_path: Path
) -> None:
    async with served(tmp_path, **told_at(receiver)) as frontend:
        response_id = await run(frontend, worker)
        (post,) = await receiver.until(1)
        event = post.unwrap()
        assert (event.type, event.data.id) == ("response.completed", response_id)  # type: ignore[union-attr]
        async with frontend.read(response_id) as answer:  # what is told of can be read
            assert (await answer.json())["status"] == "completed"


async def test_one_in_the_foreground_is_not(worker: StandIn, receiver: Receiver, tmp_path: Path) -> None:
    async with served(tmp_path, **told_at(receiver)) as frontend:
        async with frontend.create(stream=True) as stream:
            worker.append(stream.headers["x-response-id"], text("Hello"), FINISHED)
            await stream.read()
        response_id = await run(frontend, worker)
        posts = await receiver.until(1)
    assert [post.unwrap().data.id for post in posts] == [response_id]  # type: ignore[union-attr]


async def test_only_endpoints_of_its_own_tenants_keys_are_told(
    worker: StandIn, receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets: dict[str, list[str]] = {}
    for name, tenant in (("alice", "acme"), ("bob", "acme"), ("carol", "other")):
        options = ["--tenant", tenant, "--webhook-url", f"{receiver.url}/{name}"]
        keys(["--keys-file", str(tmp_path / "keys.json"), "create", name, *options])
        secrets[name] = capsys.readouterr().out.split()
    async with served(tmp_path, **told_at(receiver), keys_file=str(tmp_path / "keys.json")) as frontend:
        await run(frontend, worker, headers={"Authorization": f"Bearer {secrets['alice'][0]}"})
        posts = await receiver.until(3)
    assert sorted(post.path for post in posts) == ["/alice", "/bob", "/server"]
    for post in posts:
        assert post.unwrap(SECRET if post.path == "/server" else secrets[post.path.removeprefix("/")][1])


async def test_a_webhook_that_can_not_be_is_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in (["--webhook-url", "ftp://x"], ["--webhook-url", "http://x", "--webhook-events", "all"]):
        with pytest.raises(SystemExit) as ended:
            keys(["--keys-file", str(tmp_path / "keys.json"), "create", "alice", *options])
        assert ended.value.code == 2
        assert "a webhook's" in capsys.readouterr().err
    assert not (tmp_path / "keys.json").exists()
