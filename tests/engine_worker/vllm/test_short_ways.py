"""A token takes shorter ways than vLLM's own where those come to the same; here both are gone, and compared."""

from typing import Any

import msgspec
import pytest

from engine_worker.engines.vllm.request import to_engine_request
from tests.engine_worker.vllm.asking import Asker, Built, turn

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # vLLM and torch have warnings of their own
]
TOOL = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
CASES: dict[str, dict[str, Any]] = {
    "text": {"max_output_tokens": 60},
    "reasoning, then text": {"max_output_tokens": 60, "reasoning": {"effort": "medium"}},
    "text with tools at hand": {"max_output_tokens": 60, "tools": [TOOL]},
    "a tool call": {"tools": [TOOL], "tool_choice": "required"},
    "a stop string": {"max_output_tokens": 200, "stop": ["dragon", "was"]},
    "logprobs": {"max_output_tokens": 20, "top_logprobs": 2, "include": ["message.output_text.logprobs"]},
    "cut short": {"max_output_tokens": 1},
}


@pytest.mark.parametrize("body", CASES.values(), ids=CASES)
async def test_the_short_ways_make_no_difference(
    ask: Asker, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any]
) -> None:
    from engine_worker.engines.vllm import internals, turn  # imports vLLM, which takes seconds

    asked = {"input": "Tell me a story about a dragon.", **body}
    await ask(**asked)  # so that the prompt is in the cache for both
    short = await ask(**asked)
    monkeypatch.setattr(turn, "only_text_follows", lambda _: False)
    monkeypatch.setattr(internals, "_handing_over", lambda state, _: state.make_request_output)
    long = await ask(**asked)
    assert short.steps == long.steps
    assert short.finished == long.finished


@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["no tool", "a tool"])
async def test_tool_calls_are_looked_for_where_there_are_tools(built: Built, tools: list[Any]) -> None:
    engine: Any = built.engine
    request = to_engine_request(msgspec.json.decode(turn(tools=tools).request), engine._serving)
    rendered = await engine._renderer.render(request, sent_bytes=100)
    assert (rendered.parser.tool_parser is not None) == bool(tools)
    assert rendered.parser.reasoning_parser is not None
