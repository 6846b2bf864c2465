"""Reads server-sent events as bytes, the way a byte-exact test needs them."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

DONE = b"data: [DONE]\n\n"


async def blocks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Each block of the stream, ended by an empty line, as it came; comments too."""
    buffer = b""
    async for chunk in answer.content.iter_any():
        buffer += chunk
        *whole, buffer = buffer.split(b"\n\n")
        for block in whole:
            yield block + b"\n\n"
    assert not buffer, f"the stream ended inside a block: {buffer!r}"


def is_comment(block: bytes) -> bool:
    """Whether the block is a keepalive comment."""
    return block.startswith(b":")


def parse(block: bytes) -> dict[str, Any]:
    """The event of a block; checks that the `event:` line repeats the body's type."""
    name, body = block.removesuffix(b"\n\n").split(b"\n")
    event: dict[str, Any] = json.loads(body.removeprefix(b"data: "))
    assert name == b"event: " + event["type"].encode()
    return event


def events(stream: list[bytes]) -> list[dict[str, Any]]:
    """The events among the blocks, without comments and `[DONE]`."""
    return [parse(block) for block in stream if not is_comment(block) and block != DONE]


async def read(answer: aiohttp.ClientResponse, until: Callable[[bytes], bool] | None = None) -> list[bytes]:
    """Blocks up to the end of the stream, or up to the first one for which `until` holds (that one included)."""
    stream = []
    async for block in blocks(answer):
        stream.append(block)
        if until is not None and until(block):
            break
    return stream


def without_comments(stream: list[bytes]) -> list[bytes]:
    """What must be equal between two readers of one response."""
    return [block for block in stream if not is_comment(block)]


def well_formed(stream: list[bytes]) -> list[dict[str, Any]]:
    """The events, after checking what holds for every whole stream: numbering, one terminal event, then `[DONE]`."""
    assert stream[-1] == DONE, stream[-2:]
    assert stream.count(DONE) == 1
    found = events(stream)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    terminal = {"response.completed", "response.incomplete", "response.failed"}
    assert [event["type"] in terminal for event in found].count(True) == 1
    assert found[-1]["type"] in terminal
    return found
