"""What the servers are asked for: the kinds of work, as request bodies."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

STORED_STREAMS: Final = 32
REQUESTS_MIN: Final = 4
"""Requests in a run; where there are fewer streams they come one after the other, so that one is not all there is."""
_TOOL: Final = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
_CITIES: Final = ("Paris", "Rome", "London", "Berlin")


class Kind(StrEnum):
    """`TEXT`: servers without parsers. `PARSERS`: a thought and an answer, through reasoning and tool parser. `TOOLS`:
    every other answer is a tool call, the rest is text that the tool parser watches. `STORED`: as `PARSERS`, and ours
    keeps the responses (vLLM keeps nothing on disk, and is asked as before).
    """

    TEXT = "text"
    PARSERS = "parsers"
    TOOLS = "tools"
    STORED = "stored"

    @property
    def parsers(self) -> bool:
        """Whether it needs servers with parsers."""
        return self is not Kind.TEXT


def levels_of(kind: Kind, streams: Sequence[int]) -> Sequence[int]:
    """At how many streams a kind is measured, of those wished for: what storing costs is said by one figure."""
    return streams if kind is not Kind.STORED else sorted(streams, key=lambda each: abs(each - STORED_STREAMS))[:1]


def bodies(kind: Kind, streams: int, tokens: int, store: bool, **fields: Any) -> list[dict[str, Any]]:
    """The creates of a run with so many streams at a time, each of so many output tokens; `fields` are in all of them.

    No two stories are asked for in the same words. At temperature 0 both servers say the same.
    """
    common = {
        "stream": True,
        "store": store,
        "max_output_tokens": tokens,
        "chat_template_kwargs": {"enable_thinking": kind in (Kind.PARSERS, Kind.STORED)},
        **fields,
    }
    story = {"ignore_eos": True, **({"tools": [_TOOL]} if kind is Kind.TOOLS else {})}
    made = []
    for number in range(max(streams, REQUESTS_MIN)):
        if kind is Kind.TOOLS and number % 2:
            # It ends when it has called: what it would be made to say after that is nobody's text.
            asked = f"What's the weather like in {_CITIES[number // 2 % len(_CITIES)]}?"
            made.append({**common, "input": asked, "tools": [_TOOL]})
        else:
            made.append({**common, **story, "input": f"Write a long story about day {number}."})
    return made
