"""A frontend's application on a real port, in the test's own event loop, and the bytes of its streams."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web

from frontend.answers import LINKS
from frontend.app import build_app
from frontend.config import Settings
from frontend.links import Links
from frontend.store.schema import prepare
from protocol.records import Step, TextDelta, TurnFinished, Usage

DONE = b"data: [DONE]\n\n"
PATIENCE_S = 30.0
"""How long the store may keep anybody waiting here: a busy machine's disk may take its time."""
FINISHED = TurnFinished("stop", Usage(7, 0, 5, 0))


class Frontend(NamedTuple):
    """A running frontend: where it is, what is inside, and a client for it."""

    url: str
    links: Links
    client: aiohttp.ClientSession
    runner: web.AppRunner

    def create(self, **fields: Any) -> Any:
        """POST /v1/responses; `headers` and `params` go to the request, the rest into the body."""
        request = {name: fields.pop(name) for name in ("headers", "params") if name in fields}
        body = {"model": "holdfast-demo", "input": "hello", **fields}
        return self.client.post(f"{self.url}/v1/responses", json=body, **request)

    def read(self, response_id: str, **request: Any) -> Any:
        """GET /v1/responses/{id}."""
        return self.client.get(f"{self.url}/v1/responses/{response_id}", **request)


@cache
def empty_database() -> bytes:
    """The database as the first start of a frontend makes it."""
    with TemporaryDirectory() as directory:
        settings = Settings(data_dir=Path(directory) / "data")
        prepare(settings)
        return (settings.data_dir / "holdfast.db").read_bytes()


@asynccontextmanager
async def served(run_dir: Path, **settings: Any) -> AsyncIterator[Frontend]:
    """Serve until the end of the block, with a store in the run directory, which is made with the first frontend."""
    data_dir = run_dir / "data"
    data_dir.mkdir(mode=0o700, exist_ok=True)
    if not (data_dir / "holdfast.db").exists():
        (data_dir / "holdfast.db").write_bytes(empty_database())
    quick = {"heartbeat_interval_s": 0.1, "drain_s": 0.0, "store_wait_s": PATIENCE_S, **settings}
    made = Settings(run_dir=run_dir, data_dir=data_dir, **quick)
    runner = web.AppRunner(build_app(made, lambda _models: None), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{site.port}"
            yield Frontend(url, runner.app[LINKS], client, runner)
    finally:
        await runner.cleanup()


def text(words: str) -> Step:
    """A step that brought this text."""
    return Step((1,), (TextDelta(words),))


async def read_until(stream: aiohttp.ClientResponse, mark: bytes) -> bytes:
    """Read the stream up to and including the chunk that brings `mark`."""
    data = b""
    while mark not in data:
        chunk = await stream.content.readany()
        assert chunk, f"the stream ended before {mark!r}: {data!r}"
        data += chunk
    return data


def blocks(data: bytes) -> list[bytes]:
    """The stream's blocks (events, comments), each with the empty line that ends it."""
    assert data.endswith(b"\n\n")
    return [block + b"\n\n" for block in data.split(b"\n\n")[:-1]]


def events(data: bytes) -> list[dict[str, Any]]:
    """The bodies of the stream's events, in order."""
    lines = [line for block in blocks(data) for line in block.splitlines() if line.startswith(b"data: {")]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]
