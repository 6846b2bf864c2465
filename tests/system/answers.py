"""Answers of the real engine to requests of all kinds, to be compared between two runs of which one is disturbed."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.system import sse

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather",
    "parameters": {
        "type": "object",
        "properties": {"places": {"type": "array", "items": {"type": "string", "minLength": 8}, "minItems": 30}},
        "required": ["places"],
        "additionalProperties": False,
    },
    "strict": True,
}
LIST = {
    "type": "object",
    "properties": {
        "numbers": {"type": "array", "items": {"type": "integer", "minimum": 1000, "maximum": 9999}, "minItems": 60}
    },
    "required": ["numbers"],
    "additionalProperties": False,
}
SCHEMA = {"format": {"type": "json_schema", "name": "list", "schema": LIST, "strict": True}}

REQUESTS: dict[str, dict[str, Any]] = {
    "greedy": {"input": "Write a long story.", "temperature": 0},
    "seeded": {
        "input": "Write a long story.",
        "temperature": 1,
        "top_p": 0.9,
        "seed": 11,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.3,
        "ignore_eos": True,
    },
    "schema": {"input": "Give me numbers.", "temperature": 0, "text": SCHEMA},
    "tool call": {"input": "What's the weather?", "temperature": 0, "tools": [WEATHER], "tool_choice": "required"},
    "reasoning, then schema": {
        "input": "Give me numbers.",
        "temperature": 0,
        "text": SCHEMA,
        "reasoning": {"effort": "medium"},
    },
    "logprobs": {
        "input": "Write a long story.",
        "temperature": 0,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs"],
    },
    "stop string": {"input": "Write a long story.", "temperature": 0, "stop": ["Part 5"]},
}
RUNNING_MIN = 5
"""Of these requests, how many must still run at a death: one that comes too late shows nothing."""
ATTEMPTS_MAX = 5
"""How often they are begun to find them so: on a busy machine one may begin when others have ended."""


class Progress:
    """How far the streams of one run are."""

    def __init__(self) -> None:
        self.begun: set[str] = set()
        self.ended: set[str] = set()
        self.changed = asyncio.Event()
        self.delta_times: dict[str, list[float]] = {name: [] for name in REQUESTS}

    async def have_begun(self, count: int) -> None:
        while len(self.begun) < count:
            self.changed.clear()
            await self.changed.wait()


async def answer(client: aiohttp.ClientSession, url: str, name: str, progress: Progress) -> dict[str, Any]:
    """The final response of one request, by one connection that must see no error."""
    body = {"model": "holdfast-demo", "stream": True, "max_output_tokens": 700, **REQUESTS[name]}
    stream = []
    async with client.post(url + "/v1/responses", json=body) as reply:
        assert reply.status == 200, await reply.text()
        async for block in sse.blocks(reply):
            stream.append(block)
            if b".delta\n" in block:
                progress.delta_times[name].append(time.monotonic())
                progress.begun.add(name)
                progress.changed.set()
    progress.ended.add(name)
    found = sse.well_formed(sse.without_comments(stream))
    final = found[-1]["response"]
    assert isinstance(final, dict)
    assert final["status"] in {"completed", "incomplete"}, (name, final["error"])
    return final


async def answers(
    url: str, kill: Callable[[], object] | None = None, begun: int = len(REQUESTS)
) -> tuple[dict[str, Any], float]:
    """Output and usage of all requests, run at once; `kill` is called when so many of them have begun.

    With it, the longest wait of any of them from that death to its next delta, in seconds.
    """
    for _ in range(ATTEMPTS_MAX):
        progress, killed, in_time = Progress(), float("inf"), True
        async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(client, url, name, progress)) for name in REQUESTS]
            if kill is not None:
                await progress.have_begun(begun)
                in_time = len(REQUESTS) - len(progress.ended) >= RUNNING_MIN
                if in_time:
                    killed = time.monotonic()
                    await asyncio.to_thread(kill)
        if in_time:
            times = progress.delta_times.values()
            waits = [min((at - killed for at in each if at > killed), default=0.0) for each in times]
            return {name: without_ids(task.result()) for name, task in zip(REQUESTS, tasks, strict=True)}, max(waits)
    raise AssertionError(f"in {ATTEMPTS_MAX} attempts, too many answers had ended before the last one began")


def without_ids(final: dict[str, Any]) -> dict[str, Any]:
    """What must be equal between two runs of one request."""
    output = [{key: value for key, value in item.items() if key not in {"id", "call_id"}} for item in final["output"]]
    usage = {key: final["usage"][key] for key in ("input_tokens", "output_tokens", "output_tokens_details")}
    return {"status": final["status"], "output": output, "usage": usage}
