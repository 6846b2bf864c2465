"""Webhooks over a real store, posted to a receiver on loopback: signed for OpenAI's SDK, told again, and given up."""

import asyncio
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from aiohttp.abc import AbstractResolver

from frontend.config import Settings
from frontend.delivering import Webhooks
from frontend.store.errors import StoreUnavailable
from frontend.store.finishing import Finished, Stored
from frontend.store.schema import prepare
from frontend.store.store import Store
from frontend.webhook_endpoints import WebhookEndpoint
from frontend.webhooks import deliveries
from tests.frontend.receiver import HANG, OTHER_SECRET, SECRET, receiving
from tests.protocol.test_outgoing import FakeDns

pytestmark = pytest.mark.slow

LOOPBACK = "127.0.0.1/32"
FOREVER_S = 10 * 365 * 86_400

Endpoints = Mapping[str, WebhookEndpoint]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an empty database."""
    directory = tmp_path_factory.mktemp("prepared")
    directory.chmod(0o700)
    prepare(Settings(data_dir=directory))
    return directory / "holdfast.db"


@pytest.fixture
def settings(prepared: Path, tmp_path: Path) -> Settings:
    """A database of its own, and little patience."""
    (tmp_path / "holdfast.db").write_bytes(prepared.read_bytes())
    return Settings(
        data_dir=tmp_path,
        store_wait_s=30.0,
        outgoing_allow=LOOPBACK,
        webhook_timeout_s=30.0,
        webhook_backoff_s=0.05,
        webhook_interval_s=0.05,
    )


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    store = Store(settings)
    yield store
    await store.close()


def at(url: str, secret: str = SECRET) -> WebhookEndpoint:
    return WebhookEndpoint(url, secret)


async def finish(store: Store, name: str, endpoints: Endpoints, status: str = "completed") -> None:
    """Store the end of a background response, with whom to tell."""
    now = int(time.time())
    finished = Finished(
        response_id=name,
        tenant="default",
        created_at=now,
        model="m",
        status=status,
        epoch=1,
        closed_at=now,
        closed=b"closed",
        response=b"{}",
        input_items=(),
        output_items=(),
        records=(b"record",),
        background=True,
        deliveries=deliveries(name, status, now, endpoints),
    )
    assert await store.responses.finish(finished) == Stored()


@asynccontextmanager
async def delivering(
    settings: Settings, store: Store, endpoints: Endpoints, dns: AbstractResolver | None = None
) -> AsyncIterator[Webhooks]:
    """Deliver until the end of the block, as one serving process does."""
    webhooks = Webhooks(settings, store, lambda _tenant: endpoints, dns)
    webhooks.start()
    yield webhooks
    await webhooks.close()


def rows(settings: Settings) -> list[tuple[str, int, float | None]]:
    """What stands in the store: of each delivery its endpoint, its attempts, and when it is due (None: given up)."""
    with closing(sqlite3.connect(settings.data_dir / "holdfast.db")) as database:
        return database.execute("SELECT endpoint, attempts, due_at FROM deliveries ORDER BY 1").fetchall()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it; the test's own timeout is the bound."""
    while not condition():
        await asyncio.sleep(0.01)


async def until_told(settings: Settings) -> None:
    """Wait until the store has no delivery."""
    await until(lambda: rows(settings) == [])


def changed(settings: Settings, **changes: Any) -> Settings:
    return msgspec.structs.replace(settings, **changes)


# ---- what arrives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["completed", "failed", "incomplete", "cancelled"])
async def test_openais_sdk_takes_what_arrives(settings: Settings, store: Store, status: str) -> None:
    async with receiving() as receiver:
        endpoints = {"server": at(receiver.url + "/hook")}
        await finish(store, "resp_1", endpoints, status)
        async with delivering(settings, store, endpoints):
            (post,) = await receiver.until(1)
            await until_told(settings)
    event = post.unwrap()
    assert event.type == f"response.{status}"
    assert event.object == "event"
    assert event.data.id == "resp_1"  # type: ignore[union-attr]
    assert abs(event.created_at - time.time()) < 60
    assert post.headers["Content-Type"] == "application/json"


async def test_openais_sdk_refuses_another_secret_and_an_old_post(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as receiver:
        endpoints = {"server": at(receiver.url)}
        await finish(store, "resp_1", endpoints)
        async with delivering(settings, store, endpoints):
            (post,) = await receiver.until(1)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        post.unwrap(OTHER_SECRET)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3600)
    with pytest.raises(openai.InvalidWebhookSignatureError, match="too old"):
        post.unwrap()


async def test_while_secrets_change_both_are_good(settings: Settings, store: Store) -> None:
    async with receiving() as receiver:
        endpoints = {"server": at(receiver.url, f"{SECRET} {OTHER_SECRET}")}
        await finish(store, "resp_1", endpoints)
        async with delivering(settings, store, endpoints):
            (post,) = await receiver.until(1)
    assert post.unwrap(SECRET) == post.unwrap(OTHER_SECRET)


# ---- failures --------------------------------------------------------------------------------------------------------


async def test_after_a_failure_the_same_is_told_again_signed_anew(settings: Settings, store: Store) -> None:
    async with receiving(500, 302, 404) as receiver:
        receiver.headers["Location"] = receiver.url + "/elsewhere"
        endpoints = {"server": at(receiver.url + "/hook")}
        await finish(store, "resp_1", endpoints)
        async with delivering(settings, store, endpoints):
            posts = await receiver.until(4)
            await until_told(settings)
    assert len({post.webhook_id for post in posts}) == 1
    assert len({post.body for post in posts}) == 1
    assert [post.path for post in posts] == ["/hook"] * 4  # no redirect was followed
    assert all(post.unwrap() for post in posts)


async def test_an_endpoint_that_does_not_answer_in_time_is_told_again(settings: Settings, store: Store) -> None:
    async with receiving(HANG) as receiver:
        endpoints = {"server": at(receiver.url)}
        await finish(store, "resp_1", endpoints)
        async with delivering(changed(settings, webhook_timeout_s=0.3), store, endpoints):
            await receiver.until(2)


async def test_an_endpoint_that_is_down_is_told_when_it_is_up(settings: Settings, store: Store) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    endpoints = {"server": at(f"http://127.0.0.1:{port}/hook")}
    await finish(store, "resp_1", endpoints)
    async with delivering(settings, store, endpoints):
        await until(lambda: rows(settings)[0][1] >= 2)
        async with receiving(port=port) as receiver:
            await receiver.until(1)
            await until_told(settings)


async def test_gone_is_not_told_again(settings: Settings, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    async with receiving(410) as receiver:
        endpoints = {"server": at(receiver.url)}
        await finish(store, "resp_1", endpoints)
        async with delivering(settings, store, endpoints):
            await until(lambda: "is given up" in caplog.text)
            assert rows(settings) == [("server", 1, None)]
            assert await store.deliveries.claim(time.time() + FOREVER_S, 10, 1.0) == []
        assert len(receiver.posts) == 1
    assert "to endpoint server is given up after attempt 1: it answered 410 Gone" in caplog.text


async def test_a_failure_without_end_is_given_up(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver:
        receiver.by_path["/hook"] = 500
        endpoints = {"server": at(receiver.url + "/hook")}
        await finish(store, "resp_1", endpoints)
        async with delivering(changed(settings, webhook_give_up_s=1.5), store, endpoints):
            await until(lambda: "is given up" in caplog.text)
        assert [(len(receiver.posts), None)] == [(attempts, due_at) for _, attempts, due_at in rows(settings)]
    (given_up,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "it answered 500, and the event is too old to be told again" in given_up.getMessage()


async def test_an_endpoint_that_is_configured_later_is_told_then(settings: Settings, store: Store) -> None:
    async with receiving() as receiver:
        endpoints: dict[str, WebhookEndpoint] = {}
        await finish(store, "resp_1", {"server": at(receiver.url)})
        async with delivering(settings, store, endpoints):
            await until(lambda: rows(settings)[0][1] >= 2)
            endpoints["server"] = at(receiver.url)
            await receiver.until(1)


async def test_when_the_store_fails_it_is_told_again(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both where a claim fails and where what came of it can't be stored: the claim runs out after two timeouts."""
    failures = ["claim", "done"]

    def failing(name: str) -> None:
        works = getattr(store.deliveries, name)

        async def fails(*arguments: Any, **options: Any) -> Any:
            if name in failures:
                failures.remove(name)
                raise StoreUnavailable("the disk is full")
            return await works(*arguments, **options)

        monkeypatch.setattr(store.deliveries, name, fails)

    failing("claim")
    failing("done")
    async with receiving() as receiver:
        endpoints = {"server": at(receiver.url)}
        await finish(store, "resp_1", endpoints)
        async with delivering(changed(settings, webhook_timeout_s=1.0), store, endpoints):
            posts = await receiver.until(2)
            await until_told(settings)
    assert failures == []
    assert len({post.webhook_id for post in posts}) == 1


# ---- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "resolved"), [("127.0.0.1", ""), ("internal.test", "127.0.0.1")])
async def test_private_addresses_are_refused_unless_allowed(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture, host: str, resolved: str
) -> None:
    async with receiving() as receiver:
        endpoints = {"server": at(receiver.url.replace("127.0.0.1", host))}
        await finish(store, "resp_1", endpoints)
        # Short claims, for this one may be left with a claim when it is closed.
        strict = changed(settings, outgoing_allow="", webhook_timeout_s=1.0)
        async with delivering(strict, store, endpoints, FakeDns([resolved])):
            await until(lambda: rows(settings)[0][1] >= 2)
        assert receiver.posts == []
        assert "127.0.0.1 is not a public address, and no network in `outgoing_allow` has it" in caplog.text
        async with delivering(settings, store, endpoints, FakeDns([resolved])):
            await receiver.until(1)


async def test_secrets_are_neither_logged_nor_stored(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with receiving(500, HANG, *[410] * 100) as receiver:
        endpoints = {"server": at(receiver.url + "/path-with-token?key=query-with-token")}
        await finish(store, "resp_1", endpoints)
        async with delivering(changed(settings, webhook_timeout_s=0.3), store, endpoints):
            await until(lambda: rows(settings)[0][2] is None)
    stored = b"".join(path.read_bytes() for path in settings.data_dir.glob("holdfast.db*"))
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name != "aiohttp.access")  # theirs
    for secret in (SECRET.removeprefix("whsec_"), "token"):
        assert secret not in logged
        assert secret.encode() not in stored


# ---- several ---------------------------------------------------------------------------------------------------------


async def test_two_processes_tell_everything_once(settings: Settings, store: Store) -> None:
    other = Store(settings)
    async with receiving() as receiver:
        endpoints = {name: at(f"{receiver.url}/{name}") for name in ("a", "b", "c")}
        async with delivering(settings, store, endpoints), delivering(settings, other, endpoints):
            for number in range(20):
                await finish(store, f"resp_{number}", endpoints)
            await receiver.until(60)
            await until_told(settings)
    await other.close()
    assert len(receiver.counts()) == len(receiver.posts) == 60


async def test_a_slow_endpoint_holds_up_no_other(settings: Settings, store: Store) -> None:
    limits = changed(settings, webhook_timeout_s=120.0, webhook_requests_max=4, webhook_endpoint_requests_max=2)
    async with receiving() as receiver:
        receiver.by_path["/slow"] = HANG
        slow, quick = {"slow": at(receiver.url + "/slow")}, {"quick": at(receiver.url + "/quick")}
        for number in range(10):
            await finish(store, f"resp_slow_{number}", slow)
        async with delivering(limits, store, slow | quick):
            await receiver.until(2)
            for number in range(10):
                await finish(store, f"resp_quick_{number}", quick)
            await until(lambda: {endpoint for endpoint, *_ in rows(settings)} == {"slow"})
            assert sorted(post.path for post in receiver.posts) == ["/quick"] * 10 + ["/slow"] * 2


async def test_what_a_killed_process_had_claimed_is_told_by_another(settings: Settings, store: Store) -> None:
    quick = changed(settings, webhook_timeout_s=3.0)
    async with receiving(HANG) as receiver:
        endpoints = {"server": at(receiver.url)}
        await finish(store, "resp_1", endpoints)
        killed = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, str(quick.data_dir), receiver.url)
        await receiver.until(1)
        os.kill(killed.pid, signal.SIGKILL)
        await killed.wait()
        async with delivering(quick, store, endpoints):
            posts = await receiver.until(2)
            await until_told(settings)
    assert posts[0].webhook_id == posts[1].webhook_id
    assert posts[0].body == posts[1].body


CHILD = f"""
import asyncio, pathlib, sys
from frontend.config import Settings
from frontend.delivering import Webhooks
from frontend.store.store import Store
from frontend.webhook_endpoints import WebhookEndpoint

async def main(data_dir, url):
    settings = Settings(data_dir=pathlib.Path(data_dir), outgoing_allow="{LOOPBACK}", webhook_timeout_s=3.0)
    endpoints = {{"server": WebhookEndpoint(url, "{SECRET}")}}
    Webhooks(settings, Store(settings), lambda _tenant: endpoints).start()
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""
