"""Clients with streams from a scripted worker."""

import asyncio
import json
import time
from typing import Any

import aiohttp

from tests.system import sse

STREAMS = 20
STEPS = 60
INTERVAL_S = 0.12
"""So slow that no answer ends before every client has read its `DELTAS`, on a busy machine too."""
DELTAS = 5
"""Deltas every client has read before it is called half way."""


def body(number: int, **fields: Any) -> dict[str, Any]:
    """A create that takes some eight seconds; they differ, so that their ends do not fall together."""
    script = json.dumps({"steps": STEPS + number, "interval_s": INTERVAL_S})
    return {"model": "scripted", "input": "x", "stream": True, "metadata": {"script": script}, **fields}


def is_delta(block: bytes) -> bool:
    return block.startswith(b"event: response.output_text.delta")


def words(stream: list[bytes]) -> list[str]:
    found = sse.well_formed(stream)
    assert found[-1]["type"] == "response.completed", found[-1]
    text: str = found[-1]["response"]["output"][0]["content"][0]["text"]
    return text.split()


class Reader:
    """A client that keeps what it reads, and where it was when its connection broke."""

    def __init__(self) -> None:
        self.response_id = ""
        self.blocks: list[bytes] = []
        self.delta_times: list[float] = []
        self.begun = asyncio.Event()
        self.half_way = asyncio.Event()

    async def create(self, client: aiohttp.ClientSession, url: str, number: int, **fields: Any) -> None:
        async with client.post(url + "/v1/responses", json=body(number, **fields)) as answer:
            assert answer.status == 200
            self.response_id = answer.headers["x-response-id"]
            self.begun.set()
            await self._read(answer)

    async def get(self, client: aiohttp.ClientSession, url: str, response_id: str) -> None:
        query = {"stream": "true"}
        if self.blocks:
            query["starting_after"] = str(sse.parse(self.without_comments[-1])["sequence_number"])
        async with client.get(f"{url}/v1/responses/{response_id}", params=query) as answer:
            assert answer.status == 200, await answer.text()
            await self._read(answer)

    @property
    def is_over(self) -> bool:
        """Whether it has read its stream to the end."""
        return bool(self.blocks) and self.blocks[-1] == sse.DONE

    @property
    def without_comments(self) -> list[bytes]:
        return sse.without_comments(self.blocks)

    def waited_s(self, moment: float) -> float:
        """How long after that moment (monotonic seconds) the next delta came; 0 when none was left to come."""
        return next((at - moment for at in self.delta_times if at > moment), 0.0)

    async def _read(self, answer: aiohttp.ClientResponse) -> None:
        async for block in sse.blocks(answer):
            self.blocks.append(block)
            if is_delta(block):
                self.delta_times.append(time.monotonic())
                if len(self.delta_times) >= DELTAS:
                    self.half_way.set()


async def begin(
    client: aiohttp.ClientSession, url: str, tasks: list[asyncio.Task[None]], count: int = STREAMS
) -> list[Reader]:
    """Start so many streams; every other one is not to be stored."""
    readers = [Reader() for _ in range(count)]
    for number, reader in enumerate(readers):
        tasks.append(asyncio.create_task(reader.create(client, url, number, store=bool(number % 2))))
    for reader in readers:
        await reader.begun.wait()
    return readers
