"""A token takes shorter ways than vLLM's own where those come to the same; here both are gone, and compared."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from engine_worker.engines.vllm.request import to_engine_request
from protocol.records import Step, TextDelta
from tests.engine_worker.vllm.asking import Answer, Asker, Built, turn

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
    monkeypatch.setattr(internals, "_handing_over", lambda state, *_: state.make_request_output)
    long = await ask(**asked)
    assert list(map(_shown, short.steps)) == list(map(_shown, long.steps))
    assert short.finished == long.finished


def _shown(step: Step) -> Step:
    """Without what opens a message before there is text: only the short way knows so early that no call can come."""
    return Step(step.token_ids, tuple(delta for delta in step.deltas if delta != TextDelta("")))


async def test_a_step_of_plain_outputs_passes_vllms_handler_by(
    built: Built, ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: Any = built.engine._plain  # type: ignore[attr-defined]
    processor: Any = built.engine._llm.output_processor  # type: ignore[attr-defined]
    whole: list[int] = []
    monkeypatch.setattr(plain, "_process_others", _counting(plain._process_others, whole))
    answer = await ask(input="Tell me a story about a dragon.", max_output_tokens=60)
    assert len(answer.steps) == 60
    assert len(whole) < 10  # the first, the last, and what came while one of these was on its way
    assert not plain._takers
    assert not processor.request_states


async def test_one_that_takes_the_long_way_leaves_the_others_theirs(ask: Asker) -> None:
    asked = [{"input": f"Tell me a story about dragon {number}.", **body} for number, body in enumerate(CASES.values())]
    alone = [await ask(**body) for body in asked]
    together = await asyncio.gather(*(ask(**body) for body in asked))
    assert list(map(_told, together)) == list(map(_told, alone))


def _told(answer: Answer) -> tuple[Any, ...]:
    """All but what depends on the others too: log-probabilities a little, and what was in the cache."""
    return answer.token_ids, answer.text, answer.reasoning, answer.calls, answer.finished.reason


def _counting(process: Callable[..., Any], counts: list[int]) -> Callable[..., Any]:
    def counted(outputs: list[Any], *rest: Any, **options: Any) -> Any:
        counts.append(len(outputs))
        return process(outputs, *rest, **options)

    return counted


@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["no tool", "a tool"])
async def test_tool_calls_are_looked_for_where_there_are_tools(built: Built, tools: list[Any]) -> None:
    engine: Any = built.engine
    request = to_engine_request(msgspec.json.decode(turn(tools=tools).request), engine._serving)
    rendered = await engine._renderer.render(request, sent_bytes=100)
    assert (rendered.parser.tool_parser is not None) == bool(tools)
    assert rendered.parser.reasoning_parser is not None
