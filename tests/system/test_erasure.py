"""What a client deletes is soon in no file any more, and what is not to be stored never comes to a disk."""

import asyncio
import json
import secrets
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from benchmarks.deployment import Deployment, ready, wait_until
from frontend.store.replay import unpack
from frontend.store.tables import METADATA
from tests.pace import DEADLINE_S, PATIENT
from tests.postgres import Postgres
from tests.system import sse

pytestmark = pytest.mark.slow

ERASED_WITHIN_S = 60.0
"""As it is promised; a look is taken every `SWEEP_S`."""
SWEEP_S = 0.5
WORDS = 24
WHILE_LIVE_S = 0.4
"""Between two words, where something is to be done while the answer runs."""
PIECE_BYTES = 24
"""Of a compressed log, so much is looked for; it stands in one piece even where SQLite spreads the rest."""


class Scene:
    """A deployment under observation: its files, and one client."""

    def __init__(self, directory: Path, url: str, http: aiohttp.ClientSession) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.journals = directory / "journal"
        self.volatile = directory / "volatile"
        self.url = url + "/v1/"
        self._http = http

    def files_with(self, *pieces: bytes, below: Path | None = None) -> list[Path]:
        """The files of the deployment (its processes' logs too), or below a directory, in which any of these stand."""
        found = []
        for path in sorted((below or self.directory).rglob("*")):
            try:
                content = path.read_bytes() if path.is_file() else b""
            except FileNotFoundError:
                continue
            if any(piece in content for piece in pieces):
                found.append(path)
        return found

    def chunks_of(self, response_id: str) -> list[bytes]:
        """The response's log in the store, as it stands there."""
        with sqlite3.connect(f"file:{self.data / 'holdfast.db'}?mode=ro", uri=True) as store:
            query = "SELECT records FROM replay_chunks WHERE response_id = ?"
            chunks = [bytes(chunk) for (chunk,) in store.execute(query, (response_id,))]
        assert chunks
        return chunks

    def logs_of(self, response_id: str) -> list[bytes]:
        """The same, readable."""
        return [b"".join(unpack(chunk)) for chunk in self.chunks_of(response_id)]

    def pieces_of_log(self, response_id: str) -> list[bytes]:
        """Bytes that tell the response's compressed log in the store from any other."""
        chunks = self.chunks_of(response_id)
        return [chunk[len(chunk) // 2 :][:PIECE_BYTES] for chunk in chunks]

    async def ask(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """The answer's JSON; only 200 will do."""
        async with self._http.request(method, self.url + path, json=body or None) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    def stream(self, body: dict[str, Any]) -> Any:
        """A create whose answer is to be read as it comes."""
        return self._http.post(self.url + "responses", json=body | {"stream": True})

    async def delete(self, response_id: str) -> None:
        assert (await self.ask("DELETE", f"responses/{response_id}"))["deleted"]
        async with self._http.get(f"{self.url}responses/{response_id}") as answer:
            assert answer.status == 404

    async def comes(self, what: str, condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
        await asyncio.to_thread(wait_until, condition, deadline_s, what)

    async def is_erased(self, *pieces: bytes) -> None:
        """Nothing of this is in any file within the time promised."""
        try:
            await self.comes("erased", lambda: not self.files_with(*pieces), ERASED_WITHIN_S)
        except AssertionError:
            raise AssertionError({piece: self.files_with(piece) for piece in pieces}) from None


@asynccontextmanager
async def deployed(**store: str) -> AsyncIterator[Scene]:
    """A scene of one frontend and one worker."""
    settings = PATIENT | store | {"sweep_interval_s": str(SWEEP_S), "log_level": "debug", "access_log": "true"}
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as path,
        Deployment(Path(path), **settings) as deployment,
    ):
        deployment.worker("--engine", "scripted")
        _, url = deployment.frontend()
        await asyncio.to_thread(ready, url, deployment)
        async with asyncio.timeout(5 * DEADLINE_S), aiohttp.ClientSession() as http:
            yield Scene(Path(path), url, http)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with deployed() as scene:
        yield scene


def marker() -> bytes:
    """A word that is nowhere else."""
    return b"m" + secrets.token_hex(8).encode()


def body(word: bytes, interval_s: float = 0.0, **fields: Any) -> dict[str, Any]:
    """A create with this word in its input, and again and again in its output."""
    script = json.dumps({"text": f"{word.decode()} " * WORDS, "interval_s": interval_s})
    return {"model": "scripted", "input": f"Say {word.decode()}!", "metadata": {"script": script}, **fields}


async def up_to_output(answer: aiohttp.ClientResponse, word: bytes) -> None:
    """Read until the word was said."""
    async for block in sse.blocks(answer):
        if b"output_text.delta" in block and word in block:
            return
    raise AssertionError("the stream is over")


async def test_a_finished_response(scene: Scene) -> None:
    word = marker()
    response_id = (await scene.ask("POST", "responses", **body(word)))["id"]
    pieces = scene.pieces_of_log(response_id)
    assert scene.files_with(word, below=scene.data)
    assert scene.files_with(*pieces, below=scene.data)
    assert scene.files_with(word, below=scene.journals)
    await scene.delete(response_id)
    await scene.is_erased(word, *pieces)


async def test_a_response_that_is_being_streamed(scene: Scene) -> None:
    word = marker()
    async with scene.stream(body(word, WHILE_LIVE_S)) as answer:
        await up_to_output(answer, word)
        assert scene.files_with(word, below=scene.journals)
        await scene.delete(answer.headers["x-response-id"])
        rest = sse.events(await sse.read(answer))
    assert rest[-1]["response"]["status"] == "cancelled"
    await scene.is_erased(word)


async def test_a_response_in_the_background_that_runs(scene: Scene) -> None:
    word = marker()
    response_id = (await scene.ask("POST", "responses", **body(word, WHILE_LIVE_S, background=True)))["id"]
    await scene.comes("it runs", lambda: scene.files_with(word + b" " + word, below=scene.journals))
    assert scene.files_with(word, below=scene.data)
    await scene.delete(response_id)
    await scene.is_erased(word)


async def test_a_response_in_the_background_that_has_ended(scene: Scene) -> None:
    word = marker()
    response_id = (await scene.ask("POST", "responses", **body(word, background=True)))["id"]
    while (await scene.ask("GET", f"responses/{response_id}"))["status"] != "completed":
        await asyncio.sleep(0.05)
    pieces = scene.pieces_of_log(response_id)
    await scene.delete(response_id)
    await scene.is_erased(word, *pieces)


async def test_a_response_that_others_continue_leaves_nothing_with_them(scene: Scene) -> None:
    word, next_word = marker(), marker()
    first = (await scene.ask("POST", "responses", **body(word)))["id"]
    second = (await scene.ask("POST", "responses", **body(next_word, previous_response_id=first)))["id"]
    pieces = scene.pieces_of_log(first)
    await scene.delete(first)
    await scene.comes("erased", lambda: not scene.files_with(word, *pieces, below=scene.data), ERASED_WITHIN_S)
    [log] = scene.logs_of(second)
    assert next_word in log
    assert word not in log


async def test_a_conversation_keeps_what_was_said_until_it_is_deleted_itself(scene: Scene) -> None:
    word, added = marker(), marker()
    items = [{"role": "user", "content": f"Remember {added.decode()}."}]
    conversation = "conversations/" + (await scene.ask("POST", "conversations", items=items))["id"]
    response = await scene.ask("POST", "responses", **body(word, conversation=conversation.rpartition("/")[2]))
    pieces = scene.pieces_of_log(response["id"])
    await scene.delete(response["id"])
    await scene.is_erased(*pieces)
    said = await scene.ask("GET", f"{conversation}/items")
    assert [word.decode() in json.dumps(item) for item in said["data"]] == [True, True, False]
    assert (await scene.ask("DELETE", conversation))["deleted"]
    await scene.is_erased(word, added)


async def test_what_is_not_to_be_stored_is_on_no_disk_at_any_time(scene: Scene) -> None:
    word = marker()
    async with scene.stream(body(word, WHILE_LIVE_S / 5, store=False)) as answer:
        async for _ in sse.blocks(answer):
            elsewhere = [path for path in scene.files_with(word) if scene.volatile not in path.parents]
            assert not elsewhere
            # The last of the stream is sent when the log is closed; the journal is there until it is forgotten.
            assert scene.files_with(word, below=scene.volatile)
    await scene.delete(answer.headers["x-response-id"])
    await scene.is_erased(word)


async def test_what_is_not_stored_and_still_runs(scene: Scene) -> None:
    word = marker()
    async with scene.stream(body(word, WHILE_LIVE_S, store=False)) as answer:
        await up_to_output(answer, word)
        await scene.delete(answer.headers["x-response-id"])
        await sse.read(answer)
    await scene.is_erased(word)


async def rows_with(postgres: Postgres, database: str, word: bytes) -> list[str]:
    """The tables with rows in which the word stands, and those of logs with any row at all: they are compressed."""
    connection = await asyncpg.connect(user="holdfast", host=str(postgres.directory), database=database)
    try:
        found = []
        for table in METADATA.tables:
            rows = [row[0] for row in await connection.fetch(f"SELECT row::text FROM {table} row")]
            if any(word.hex() in row or word.decode() in row or table == "replay_chunks" for row in rows):
                found.append(table)
        return found
    finally:
        await connection.close()


async def test_postgresql_has_no_row_of_what_was_deleted(postgres: Postgres) -> None:
    postgres.command("CREATE DATABASE erasure")
    word = marker()
    async with deployed(store=postgres.url("erasure")) as scene:
        conversation = (await scene.ask("POST", "conversations"))["id"]
        ended = (await scene.ask("POST", "responses", **body(word, conversation=conversation)))["id"]
        running = (await scene.ask("POST", "responses", **body(word, WHILE_LIVE_S, background=True)))["id"]
        assert set(await rows_with(postgres, "erasure", word)) == {
            "responses",
            "items",
            "conversation_items",
            "replay_chunks",
        }
        await scene.delete(ended)
        await scene.delete(running)
        assert (await scene.ask("DELETE", f"conversations/{conversation}"))["deleted"]
        assert await rows_with(postgres, "erasure", word) == []
        await scene.is_erased(word)  # from the journals
        assert await rows_with(postgres, "erasure", word) == []  # and its end brought nothing back
