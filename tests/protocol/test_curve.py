"""Workers over TCP: only frontends whose key is authorized get in, and connections that break are made again."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from benchmarks.deployment import free_port
from protocol import channel, curve, curve_keys
from protocol.channel import CannotBind, ChannelLimits, FrontendChannel, Sent, WorkerChannel
from protocol.curve import new_secret, public_of
from protocol.curve_files import (
    BadCurveKeys,
    FrontendKeys,
    WorkerKeys,
    frontend_keys,
    read_authorized,
    worker_keys,
)
from tests.pace import DEADLINE_S


class Keys:
    """The keys of a deployment with one worker and one authorized host of frontends."""

    def __init__(self, directory: Path) -> None:
        self.authorized = directory / "authorized"
        secret, frontend = new_secret(), new_secret()
        self.authorized.write_text(f"# who may come in\n\nweb1 {public_of(frontend).hex()}\n")
        self.worker = WorkerKeys(secret, self.authorized)
        self.frontend = FrontendKeys(frontend, public_of(secret))
        self.stranger = FrontendKeys(new_secret(), public_of(secret))

    def authorize(self, keys: FrontendKeys) -> None:
        self.authorized.write_text(f"{self.authorized.read_text()}web2 {public_of(keys.secret).hex()}\n")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


class Inbox(list[bytes]):
    """What one end has received."""

    def at_worker(self, peer: bytes, frame: bytes) -> None:
        self.append(peer + b" " + frame)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.01)


def connect(endpoint: str, name: str, inbox: Inbox, keys: FrontendKeys | None) -> FrontendChannel:
    return FrontendChannel(endpoint, name, ChannelLimits(), inbox.append, keys)


async def test_a_frontend_with_an_authorized_key_gets_in(keys: Keys) -> None:
    endpoint, at_worker, at_frontend = f"tcp://127.0.0.1:{free_port()}", Inbox(), Inbox()
    worker = WorkerChannel(endpoint, ChannelLimits(), at_worker.at_worker, keys.worker)
    frontend = connect(endpoint, "f1", at_frontend, keys.frontend)
    await until(lambda: frontend.send(b"hello"))
    await until(lambda: at_worker)
    assert at_worker == [b"f1 hello"]
    assert worker.send(b"f1", b"welcome") is Sent.OK
    await until(lambda: at_frontend)
    assert at_frontend == [b"welcome"]
    frontend.close()
    worker.close()


async def test_without_a_key_that_is_known_nobody_gets_in_or_learns_anything(
    keys: Keys, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_RENEW_S", 0.1)  # so that each comes back many times
    caplog.set_level(logging.INFO)
    endpoint, at_worker, at_strangers = f"tcp://127.0.0.1:{free_port()}", Inbox(), Inbox()
    worker = WorkerChannel(endpoint, ChannelLimits(), at_worker.at_worker, keys.worker)
    another_worker = FrontendKeys(keys.frontend.secret, public_of(new_secret()))
    strangers = [
        connect(endpoint, "stranger", at_strangers, keys.stranger),
        connect(endpoint, "plain", at_strangers, None),
        connect(endpoint, "mistaken", at_strangers, another_worker),
    ]
    frontend = connect(endpoint, "f1", Inbox(), keys.frontend)
    for _ in range(100):
        assert [stranger.send(b"hello") for stranger in strangers] == [False] * 3
        assert {worker.send(name, b"secret") for name in (b"stranger", b"plain", b"mistaken")} == {Sent.GONE}
        await asyncio.sleep(0.01)
    await until(lambda: "refused a frontend" in caplog.text)
    await until(lambda: frontend.send(b"hello"))  # who belongs here is not kept out by them
    await until(lambda: at_worker)
    assert set(at_worker) == {b"f1 hello"}
    assert at_strangers == []
    assert caplog.text.count("refused a frontend") == 1
    assert public_of(keys.stranger.secret).hex() in caplog.text
    for each in (*strangers, frontend):
        each.close()
    worker.close()


async def test_a_frontend_that_was_refused_gets_in_once_its_key_is_authorized(
    keys: Keys, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_RENEW_S", 0.1)
    endpoint, at_worker = f"tcp://127.0.0.1:{free_port()}", Inbox()
    worker = WorkerChannel(endpoint, ChannelLimits(), at_worker.at_worker, keys.worker)
    frontend = connect(endpoint, "f1", Inbox(), keys.stranger)
    await until(lambda: not frontend.send(b"x") and "refused a frontend" in caplog.text)
    keys.authorized.write_text("not a key\n")
    await until(lambda: not frontend.send(b"x") and "nobody is let in" in caplog.text)
    keys.authorized.write_text("")
    keys.authorize(keys.stranger)
    await until(lambda: frontend.send(b"hello"))
    await until(lambda: at_worker)
    frontend.close()
    worker.close()


async def test_a_key_that_is_taken_away_shuts_out_who_came_in_with_it_and_nobody_else(
    keys: Keys, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curve, "_LOOK_S", 0.01)
    endpoint, at_worker, at_revoked, at_other = f"tcp://127.0.0.1:{free_port()}", Inbox(), Inbox(), Inbox()
    worker = WorkerChannel(endpoint, ChannelLimits(), at_worker.at_worker, keys.worker)
    keys.authorize(keys.stranger)
    revoked, other = (
        connect(endpoint, name, inbox, of)
        for name, inbox, of in (("f1", at_revoked, keys.frontend), ("f2", at_other, keys.stranger))
    )
    await until(lambda: revoked.send(b"hello"))
    await until(lambda: other.send(b"hello"))
    await until(lambda: len(at_worker) == 2)

    with_both = keys.authorized.read_text()
    keys.authorized.write_text("neither\n")  # a mistake shuts out nobody who is in
    assert worker.send(b"f1", b"a") is worker.send(b"f2", b"a") is Sent.OK
    keys.authorized.write_text("".join(line for line in with_both.splitlines(True) if "web1" not in line))
    await until(lambda: worker.send(b"f1", b"news") is Sent.GONE)
    assert revoked.send(b"let me do this")
    assert other.send(b"and this")
    await until(lambda: len(at_worker) > 2)
    assert worker.send(b"f2", b"b") is Sent.OK
    await until(lambda: b"b" in at_other)
    assert worker.send(b"f1", b"secret") is Sent.GONE
    assert sorted(at_worker) == [b"f1 hello", b"f2 and this", b"f2 hello"]
    assert caplog.text.count("refused a frontend") == 1

    keys.authorized.write_text(with_both)
    await until(lambda: revoked.send(b"again") and b"f1 again" in at_worker)
    assert worker.send(b"f1", b"welcome") is Sent.OK
    await until(lambda: b"welcome" in at_revoked)
    assert b"secret" not in at_revoked
    for each in (revoked, other):
        each.close()
    worker.close()


@asynccontextmanager
async def passing_on(to_port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A port that leads to another one, and a way to break its connections so that only who connected notices."""
    broken: list[asyncio.StreamWriter] = []
    kept: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while taken := await reader.read(65536):
            writer.write(taken)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_worker, to_worker = await asyncio.open_connection("127.0.0.1", to_port)
        broken.append(writer)
        kept.append(to_worker)
        back = asyncio.create_task(pump(from_worker, writer))
        await pump(reader, to_worker)
        await back  # the connection to the worker stays open until the end

    def break_all() -> None:
        for writer in broken:
            writer.transport.abort()
        broken.clear()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], break_all
    finally:
        server.close()
        for writer in (*broken, *kept):
            writer.transport.abort()
        await server.wait_closed()


async def test_a_connection_that_only_the_frontend_knows_to_be_broken_is_replaced(keys: Keys) -> None:
    port, at_worker, at_frontend = free_port(), Inbox(), Inbox()
    worker = WorkerChannel(f"tcp://127.0.0.1:{port}", ChannelLimits(), at_worker.at_worker, keys.worker)
    async with passing_on(port) as (door, break_all):
        frontend = connect(f"tcp://127.0.0.1:{door}", "f1", at_frontend, keys.frontend)
        await until(lambda: frontend.send(b"before"))
        await until(lambda: at_worker)
        at_worker.clear()
        break_all()
        await until(lambda: frontend.send(b"after") and at_worker)
        assert set(at_worker) == {b"f1 after"}
        await until(lambda: worker.send(b"f1", b"answer") is Sent.OK and at_frontend)
        frontend.close()
    worker.close()


async def test_a_port_that_is_taken_is_said_to_be(keys: Keys) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    worker = WorkerChannel(endpoint, ChannelLimits(), Inbox().at_worker, keys.worker)
    with pytest.raises(CannotBind, match=f"can't listen at {endpoint}: Address already in use"):
        WorkerChannel(endpoint, ChannelLimits(), Inbox().at_worker, keys.worker)
    worker.close()


def run(directory: Path, *arguments: str) -> None:
    curve_keys.main(["--curve-dir", str(directory), *arguments])


def test_keys_are_made_for_their_owner_alone_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu, web = tmp_path / "gpu", tmp_path / "web"
    run(gpu, "worker")
    public = capsys.readouterr().out.strip()
    run(web, "frontend")
    frontend_public = capsys.readouterr().out.strip()
    (web / "worker.pub").write_text((gpu / "worker.pub").read_text())
    run(gpu, "authorize", "web1", frontend_public)
    for secret in (gpu / "worker.key", web / "frontend.key"):
        assert secret.stat().st_mode & 0o777 == 0o600

    at_worker, at_frontend = worker_keys(gpu, plain=False), frontend_keys(web, plain=True)
    assert at_worker is not None
    assert at_frontend is not None
    assert public_of(at_worker.secret).hex() == public == at_frontend.worker.hex()
    assert read_authorized(at_worker.authorized) == {public_of(at_frontend.secret): "web1"}
    assert public_of(at_frontend.secret).hex() == frontend_public

    run(gpu, "authorize", "web2", "00" * 32)
    run(gpu, "revoke", "web1")
    assert read_authorized(gpu / "authorized") == {bytes(32): "web2"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("worker",), "there is a key .*worker.key already"),
        (("authorize", "web1", "11" * 32), "has a key named 'web1' already"),
        (("authorize", "web2", "1234"), "line 2 of .*authorized is not `NAME PUBLIC_KEY`"),
        (("revoke", "web2"), "has no key named 'web2'"),
    ],
)
def test_what_would_spoil_the_files_is_not_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str
) -> None:
    tmp_path.chmod(0o700)
    run(tmp_path, "worker")
    run(tmp_path, "authorize", "web1", "00" * 32)
    before = {path: path.read_text() for path in tmp_path.iterdir()}
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, *arguments)
    assert re.search(why, capsys.readouterr().err)
    assert {path: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    run(tmp_path, "worker")
    (tmp_path / "worker.key").chmod(0o640)
    with pytest.raises(BadCurveKeys, match=r"worker\.key can be read by others"):
        worker_keys(tmp_path, plain=True)


def test_tcp_without_keys_is_refused_unless_it_is_wanted(tmp_path: Path) -> None:
    for find in (worker_keys, frontend_keys):
        with pytest.raises(BadCurveKeys, match="--allow-plain-tcp"):
            find(tmp_path, plain=False)
        assert find(tmp_path, plain=True) is None
