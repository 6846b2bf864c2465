"""The real engine with the demo model: every kind of answer, every refusal, and every way a turn can end.

The model is small. Where its words can be relied upon they are compared; elsewhere the structure is.
"""

import asyncio
import itertools
import json
from typing import Any

import jsonschema
import pytest

from engine_worker.engines.interface import EngineLoad, TurnRecord, TurnRejected
from engine_worker.engines.vllm.request import SHORT_BYTES_MAX
from protocol.records import ErrorDetail, ReasoningDelta, Step, TextDelta
from tests.engine_worker.vllm.asking import Asker, Built, turn

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # vLLM and torch have warnings of their own
]

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "get_weather", "description": "Get the weather in a city", "parameters": CITY}
TIME = {"type": "function", "name": "get_time", "description": "Get the time in a city", "parameters": CITY}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
PERSON_FORMAT = {"format": {"type": "json_schema", "name": "person", "schema": PERSON}}
LONG = 3000
"""Tokens of an answer that goes on for as long as it may: more than come before an abort arrives."""
STORY = "Tell me a long story about a dragon."
TO_BE_LONG = {"note": "x" * SHORT_BYTES_MAX}
"""Makes a request one that is rendered in threads, and is not in its prompt."""
UNRESOLVED = {"type": "object", "properties": {"a": {"$ref": "#/$defs/nowhere"}}}


async def rejection(ask: Asker, **body: Any) -> ErrorDetail:
    records: list[TurnRecord] = []
    with pytest.raises(TurnRejected) as rejected:
        await ask(lambda _, record: records.append(record), **body)
    assert records == []
    return rejected.value.error


# --- the engine itself ---


async def test_the_loop_answers_while_the_engine_is_built(built: Built) -> None:
    assert built.longest_pause_s < 1  # a worker counts as lost after 2 s without a heartbeat, one every 0.5 s


async def test_the_model_is_served_under_its_name_and_alias(built: Built) -> None:
    (card,) = built.engine.models
    assert (card.name, card.aliases, card.context_tokens) == ("holdfast-demo", ("gpt-4o-mini",), 4096)
    assert card.created_at > 0


# --- answers ---


async def test_chat(ask: Asker) -> None:
    answer = await ask()
    assert answer.text.strip()
    assert answer.finished.reason == "stop"
    assert answer.finished.usage.input_tokens == answer.started.prompt_tokens > 0
    assert answer.finished.usage.output_tokens == len(answer.token_ids) > 0
    assert (answer.reasoning, answer.calls, answer.logprobs) == ("", [], [])


async def test_text_comes_step_by_step(ask: Asker) -> None:
    answer = await ask(input="Count from 1 to 20.")
    assert answer.text == ", ".join(map(str, range(1, 21)))
    assert len(answer.steps) == len(answer.token_ids)
    assert all(isinstance(delta, TextDelta) and delta.text for delta in answer.deltas)


async def test_a_long_answer(ask: Asker) -> None:
    answer = await ask(input=STORY)
    assert len(answer.token_ids) >= 300
    assert answer.text.endswith("The end.")
    assert answer.finished.reason == "stop"


async def test_reasoning_comes_first_as_the_model_wrote_it_and_the_text_without_newlines_before_it(ask: Asker) -> None:
    answer = await ask(reasoning={"effort": "medium"})
    tokenizer = ask.engine._llm.get_tokenizer()  # type: ignore[attr-defined]
    thought, told = tokenizer.decode(answer.token_ids).removeprefix("<think>").split("</think>")
    assert answer.reasoning == thought
    assert told.startswith(f"\n\n{answer.text}")
    assert answer.reasoning.strip()
    assert answer.text == answer.text.strip("\n") != ""
    kinds = [type(delta).__name__ for delta in answer.deltas]
    assert [kind for kind, _ in itertools.groupby(kinds)] == ["ReasoningDelta", "TextDelta"]
    assert 0 < answer.finished.usage.reasoning_tokens < answer.finished.usage.output_tokens


async def test_a_thought_is_told_to_be_over_with_the_token_that_ends_it(ask: Asker, built: Built) -> None:
    engine: Any = built.engine
    mark = engine._llm.get_tokenizer().convert_tokens_to_ids("</think>")
    for tools in [], [WEATHER]:
        answer = await ask(reasoning={"effort": "medium"}, tools=tools)
        assert [step.token_ids for step in answer.steps if ReasoningDelta("", ended=True) in step.deltas] == [(mark,)]


# --- tools ---


async def test_a_call_chosen_by_the_model(ask: Asker) -> None:
    answer = await ask(input="What's the weather like in Paris?", tools=[WEATHER])
    assert answer.calls == [("get_weather", {"city": "Paris"})]
    assert answer.text == ""
    assert answer.finished.reason == "stop"
    assert len(answer.deltas) > 3  # arguments stream


async def test_a_call_after_reasoning_leaves_no_text(ask: Asker) -> None:
    answer = await ask(input="What's the weather like in Paris?", tools=[WEATHER], reasoning={"effort": "low"})
    assert answer.reasoning != ""
    assert [name for name, _ in answer.calls] == ["get_weather"]
    assert answer.text == ""


async def test_a_required_call(ask: Asker) -> None:
    answer = await ask(tools=[WEATHER, TIME], tool_choice="required")
    assert answer.calls
    for name, arguments in answer.calls:
        assert name in ("get_weather", "get_time")
        jsonschema.validate(arguments, CITY)


async def test_a_named_call(ask: Asker) -> None:
    choice = {"type": "function", "name": "get_time"}
    answer = await ask(input="What's the weather like in Paris?", tools=[WEATHER, TIME], tool_choice=choice)
    ((name, arguments),) = answer.calls
    assert name == "get_time"
    jsonschema.validate(arguments, CITY)


async def test_an_allowed_call(ask: Asker) -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_time"}]}
    answer = await ask(input="What's the weather like in Paris?", tools=[WEATHER, TIME], tool_choice=allowed)
    assert {name for name, _ in answer.calls} == {"get_time"}


async def test_no_call_where_none_may_be(ask: Asker) -> None:
    answer = await ask(input="Hi there!", tools=[WEATHER], tool_choice="none")
    assert answer.calls == []
    assert answer.text != ""


async def test_two_calls_in_parallel(ask: Asker) -> None:
    question = "What's the weather like in Paris and in London?"
    answer = await ask(input=question, tools=[WEATHER])
    assert answer.calls == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "London"})]
    single = await ask(input=question, tools=[WEATHER], parallel_tool_calls=False)
    assert len(single.calls) == 1


async def test_a_tool_result_is_read(ask: Asker) -> None:
    items = [
        {"type": "message", "role": "user", "content": "What's the weather like in Paris?"},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "I will call get_weather."}]},
        {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": '{"city": "Paris"}'},
        {"type": "function_call_output", "call_id": "c", "output": "18 degrees and sunny"},
    ]
    answer = await ask(input=items, tools=[WEATHER], instructions="Be brief.")
    assert "18 degrees and sunny" in answer.text


# --- formats ---


@pytest.mark.parametrize("reasoning", [{}, {"reasoning": {"effort": "medium"}}])
async def test_text_follows_a_schema_also_after_reasoning(ask: Asker, reasoning: Any) -> None:
    answer = await ask(input="Tell me about Alice, who is 30.", text=PERSON_FORMAT, **reasoning)
    jsonschema.validate(json.loads(answer.text), PERSON)
    assert bool(answer.reasoning) == bool(reasoning)


async def test_text_is_a_json_object(ask: Asker) -> None:
    answer = await ask(input="Tell me about Alice.", text={"format": {"type": "json_object"}}, max_output_tokens=400)
    assert answer.text.startswith("{")
    if answer.finished.reason == "stop":
        assert isinstance(json.loads(answer.text), dict)


# --- sampling ---


async def test_logprobs_belong_to_the_text(ask: Asker) -> None:
    include = ["message.output_text.logprobs"]
    answer = await ask(include=include, top_logprobs=2, reasoning={"effort": "low"})
    assert "".join(token.token for token in answer.logprobs) == answer.text
    for token in answer.logprobs:
        assert [top.logprob for top in token.top] == sorted((top.logprob for top in token.top), reverse=True)
        assert len(token.top) == 2
        assert token.top[0].token == token.token  # greedy
    without_alternatives = await ask(include=include)
    assert all(token.top == () for token in without_alternatives.logprobs)
    assert without_alternatives.logprobs != []


async def test_a_stop_string_ends_the_text_and_is_not_in_it(ask: Asker) -> None:
    answer = await ask(input="Count from 1 to 20.", stop=["7, 8"])
    assert answer.text == "1, 2, 3, 4, 5, 6, "
    assert answer.finished.reason == "stop"


async def test_a_seed_decides(ask: Asker) -> None:
    body: dict[str, Any] = {"input": "Once upon", "temperature": 2, "max_output_tokens": 40, "ignore_eos": True}
    one, same, *others = [await ask(seed=seed, **body) for seed in (1, 1, 2, 3, 4)]
    assert one.token_ids == same.token_ids
    assert any(other.token_ids != one.token_ids for other in others)


async def test_seeded_long_prompts_side_by_side(ask: Asker) -> None:
    prompts = [f"{number} " + "word " * 1500 for number in range(4)]
    body: dict[str, Any] = {"seed": 1, "temperature": 1, "max_output_tokens": 16}
    answers = await asyncio.gather(*(ask(input=prompt, **body) for prompt in prompts))
    assert {answer.finished.reason for answer in answers} <= {"stop", "length"}


async def test_length_ends_a_turn(ask: Asker) -> None:
    answer = await ask(input="Count from 1 to 20.", max_output_tokens=16)
    assert (answer.finished.reason, len(answer.token_ids)) == ("length", 16)


async def test_min_tokens_keep_a_turn_going(ask: Asker) -> None:
    short = await ask()
    longer = await ask(min_tokens=len(short.token_ids) + 20, max_output_tokens=100)
    assert len(longer.token_ids) >= len(short.token_ids) + 20


async def test_a_prompt_seen_before_is_cached(ask: Asker) -> None:
    body: dict[str, Any] = {
        "input": "Please remember these words: " + "apple river stone " * 40,
        "max_output_tokens": 16,
    }
    await ask(cache_salt="mine", **body)
    again = await ask(cache_salt="mine", **body)
    assert 32 <= again.finished.usage.cached_tokens < again.finished.usage.input_tokens
    other = await ask(cache_salt="another's", **body)
    assert other.finished.usage.cached_tokens == 0


async def test_many_at_once(ask: Asker) -> None:
    answers = await asyncio.gather(*(ask(input=f"Count from 1 to {last}.") for last in range(3, 19)))
    assert [answer.text.split(", ")[-1] for answer in answers] == [str(last) for last in range(3, 19)]


async def test_a_short_request_is_queued_in_one_pass_of_the_loop(ask: Asker) -> None:
    starts = [asyncio.create_task(ask(input=f"Hi there, I'm number {number}!")) for number in range(8)]
    await asyncio.sleep(0)
    load = ask.engine.load()
    assert load.running + load.waiting == len(starts)
    await asyncio.gather(*starts)


@pytest.mark.parametrize(
    "body",
    [
        {"instructions": "Be brief.", "reasoning": {"effort": "low"}},
        {"input": "What's the weather like in Paris?", "tools": [WEATHER, TIME], "tool_choice": "required"},
        {"input": [{"type": "message", "role": role, "content": "Hello"} for role in ("user", "assistant", "user")]},
    ],
)
async def test_a_short_request_has_the_prompt_that_a_long_one_has(ask: Asker, body: dict[str, Any]) -> None:
    short = await ask(max_output_tokens=16, **body)
    long = await ask(max_output_tokens=16, metadata=TO_BE_LONG, **body)
    assert short.prepared.prompt_token_ids == long.prepared.prompt_token_ids
    assert short.token_ids == long.token_ids


# --- refusals ---


async def test_a_prompt_longer_than_the_context(ask: Asker) -> None:
    error = await rejection(ask, input="word " * 6000)
    assert (error.type, error.code) == ("invalid_request_error", "context_length_exceeded")
    assert error.param == "input"
    assert "4096" in error.message


async def test_a_prompt_that_leaves_no_room_for_an_answer(ask: Asker) -> None:
    overhead = (await ask(input="word", max_output_tokens=16)).started.prompt_tokens
    per_word = (await ask(input="word word", max_output_tokens=16)).started.prompt_tokens - overhead
    fitting = (4096 - overhead) // per_word
    error = await rejection(ask, input="word" + " word" * fitting)
    assert error.code == "context_length_exceeded"
    answer = await ask(input="word" + " word" * (fitting - 1))
    assert answer.finished.usage.input_tokens + answer.finished.usage.output_tokens <= 4096


async def test_truncation_drops_the_oldest_items(ask: Asker) -> None:
    old = [{"type": "message", "role": "user", "content": "word " * 800} for _ in range(12)]
    question = {"type": "message", "role": "user", "content": "Count from 1 to 5."}
    answer = await ask(input=[*old, question], truncation="auto", max_output_tokens=100, instructions="Be brief.")
    assert 1000 < answer.started.prompt_tokens <= 4096 - 100
    error = await rejection(ask, input=[question, {**question, "content": "word " * 6000}], truncation="auto")
    assert error.code == "context_length_exceeded"


async def test_a_schema_that_is_no_grammar(ask: Asker) -> None:
    format_ = {"type": "json_schema", "name": "x", "schema": UNRESOLVED}
    error = await rejection(ask, text={"format": format_})
    assert (error.type, error.param) == ("invalid_request_error", "text.format.schema")
    assert ".cc:" not in error.message
    tools = [{"type": "web_search"}, WEATHER, {**WEATHER, "name": "broken", "parameters": UNRESOLVED}]
    error = await rejection(ask, tools=tools, tool_choice="required")
    assert (error.type, error.param) == ("invalid_request_error", "tools[2].parameters")


async def test_an_image_for_a_model_of_text(ask: Asker) -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    error = await rejection(ask, input=[{"type": "message", "role": "user", "content": [image]}])
    assert (error.type, error.param) == ("invalid_request_error", "input")


async def test_more_min_tokens_than_fit(ask: Asker) -> None:
    assert (await rejection(ask, min_tokens=5000)).param == "min_tokens"


# --- ends ---


async def test_an_aborted_turn_ends_once(ask: Asker) -> None:
    def abort_at_20(response_id: str, record: TurnRecord) -> None:
        if isinstance(record, Step) and len(seen) < 20:
            seen.append(record)
            if len(seen) == 20:
                ask.engine.abort(response_id)
                ask.engine.abort(response_id)

    seen: list[Step] = []
    answer = await ask(abort_at_20, input=STORY, ignore_eos=True, max_output_tokens=LONG)
    assert answer.finished.reason == "aborted"
    assert 20 <= answer.finished.usage.output_tokens == len(answer.token_ids) < LONG
    ask.engine.abort("resp_of_nobody")
    load = ask.engine.load()
    assert (load.running, load.waiting, load.kv_use) == (0, 0, 0.0)


async def test_an_abort_at_the_last_token_ends_once(ask: Asker) -> None:
    def abort_at_the_end(response_id: str, record: TurnRecord) -> None:
        if isinstance(record, Step):
            seen.append(record)
            if len(seen) == 16:
                ask.engine.abort(response_id)

    seen: list[Step] = []
    answer = await ask(abort_at_the_end, input=STORY, max_output_tokens=16)
    assert answer.finished.reason == "aborted"


@pytest.mark.parametrize("passes", [0, 1, 3, 6])
async def test_a_start_that_is_cancelled_leaves_nothing(ask: Asker, passes: int) -> None:
    records: list[TurnRecord] = []
    long = turn(input=STORY, metadata=TO_BE_LONG)
    start = asyncio.create_task(ask.engine.start_turn(long, lambda _, record: records.append(record)))
    for _ in range(passes):  # of the loop, so that it is somewhere on its way
        await asyncio.sleep(0)
    cancelled = start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert cancelled
    await ask()
    assert records == []
    assert ask.engine.load().running == ask.engine.load().waiting == 0


async def test_load_counts_what_runs(ask: Asker) -> None:
    def note_load(_: str, __: TurnRecord) -> None:
        loads.append(ask.engine.load())

    loads: list[EngineLoad] = []
    before = ask.engine.load().step
    await asyncio.gather(*(ask(note_load, input="Count from 1 to 9.") for _ in range(4)))
    busiest = max(loads, key=lambda load: load.running)
    assert busiest.running + busiest.waiting == 4
    assert 0 < busiest.kv_use < 1
    assert ask.engine.load().step > before
