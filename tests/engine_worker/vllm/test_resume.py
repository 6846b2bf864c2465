"""A turn resumed after any of its steps ends as it would have ended: the real engine, with the demo model."""

import asyncio
import multiprocessing
import os
import signal
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from engine_worker.engines.interface import Emit, Resume, Turn, TurnRecord, TurnRejected
from engine_worker.engines.vllm import build
from protocol.records import ErrorDetail, Step, TextDelta, TurnFinished
from tests.engine_worker.vllm.asking import Answer, Asker, Built, turn
from tests.pace import DEADLINE_S

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # vLLM and torch have warnings of their own
]

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "get_weather", "description": "Get the weather in a city", "parameters": CITY}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
        "friends": {
            "type": "array",
            "items": {"type": "string", "minLength": 4, "maxLength": 10},
            "minItems": 2,
            "maxItems": 3,
        },
    },
    "required": ["name", "age", "friends"],
    "additionalProperties": False,
}
PERSON_FORMAT = {"format": {"type": "json_schema", "name": "person", "schema": PERSON}}
ALICE = "Tell me about Alice, who is 30."
STORY = "Tell me a long story about a dragon."
COUNT = "Count from 1 to 20."
PENALTIES = {"presence_penalty": 1.0, "frequency_penalty": 0.7, "repetition_penalty": 1.1}

CASES: dict[str, dict[str, Any]] = {
    "greedy": {"input": STORY, "max_output_tokens": 80},
    "to the end of its text": {"input": COUNT},
    "seeded": {"input": STORY, "temperature": 2, "seed": 7, "top_p": 0.95, "max_output_tokens": 60, **PENALTIES},
    "seeded, all of the vocabulary": {"input": STORY, "temperature": 2, "seed": 11, "max_output_tokens": 60},
    "at least so many tokens": {"min_tokens": 50, "max_output_tokens": 60, **PENALTIES},
    "schema": {"input": ALICE, "text": PERSON_FORMAT, "max_output_tokens": 120},
    "seeded schema": {"input": ALICE, "text": PERSON_FORMAT, "temperature": 1, "seed": 3, "max_output_tokens": 120},
    "reasoning": {"reasoning": {"effort": "low"}},
    "reasoning, then schema": {
        "input": ALICE,
        "text": PERSON_FORMAT,
        "reasoning": {"effort": "medium"},
        "max_output_tokens": 200,
    },
    "call": {"input": "What's the weather like in Paris and in London?", "tools": [WEATHER]},
    "required call": {"tools": [WEATHER], "tool_choice": "required", "max_output_tokens": 120},
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "input": COUNT},
    "stop string": {"input": COUNT, "stop": ["7, 8"]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def story(built: Built) -> Answer:
    """A long answer, uninterrupted."""
    return await Asker(built.engine)(input=STORY)


def cut(answer: Answer, steps: int) -> Resume:
    """The turn as a dead engine left it after so many steps."""
    return Resume(answer.prepared, tuple(answer.steps[:steps]))


def resumed_turn(resume: Resume, **body: Any) -> Turn:
    return replace(turn(**body), resume=resume)


async def go_on(ask: Asker, answer: Answer, steps: int, **body: Any) -> Answer:
    """The answer cut after so many steps, with what came when it was resumed."""
    after = await ask.run(resumed_turn(cut(answer, steps), **body))
    assert all(isinstance(record, Step | TurnFinished) for record in after.records)
    return Answer([*answer.records[: 2 + steps], *after.records])


def facts(answer: Answer) -> dict[str, Any]:
    """All that a client gets to know of an answer, but for how it came apart and what was cached."""
    return {
        "token_ids": answer.token_ids,
        "text": answer.text,
        "reasoning": answer.reasoning,
        "calls": answer.calls,
        "end": replace(answer.finished, usage=replace(answer.finished.usage, cached_tokens=0)),
        "logprobs": [(token.token, [top.token for top in token.top]) for token in answer.logprobs],
    }


@pytest.mark.parametrize("body", CASES.values(), ids=CASES)
async def test_a_resumed_turn_ends_as_the_uninterrupted_one(ask: Asker, body: dict[str, Any]) -> None:
    whole = await ask(**body)
    steps = len(whole.steps)
    for after in sorted({0, 1, steps // 3, steps // 2, steps - 3, steps - 1, steps}):
        resumed = await go_on(ask, whole, after, **body)
        assert facts(resumed) == facts(whole), f"cut after {after} of {steps} steps"
        figures = [token.logprob for token in whole.logprobs]
        assert [token.logprob for token in resumed.logprobs] == pytest.approx(figures, abs=1e-3)


async def test_resumed_turns_run_side_by_side(ask: Asker) -> None:
    wholes = [await ask(**body) for body in CASES.values()]
    halves = [
        go_on(ask, whole, len(whole.steps) // 2, **body) for whole, body in zip(wholes, CASES.values(), strict=True)
    ]
    for whole, resumed in zip(wholes, await asyncio.gather(*halves), strict=True):
        assert facts(resumed) == facts(whole)


@pytest.mark.parametrize("executor", ["uni", "mp"])
async def test_a_turn_goes_on_in_another_engine_when_its_own_was_killed(ask: Asker, executor: str) -> None:
    """The module's engine goes on; the one that began is built here, and dies by SIGKILL.

    Its model runs inside EngineCore, or in a process below it as models on several GPUs do.
    """
    bodies = [CASES["greedy"], CASES["seeded"], CASES["reasoning, then schema"]]
    begun = [Answer() for _ in bodies]
    told = asyncio.Event()

    def emit_into(answer: Answer) -> Emit:
        def emit(_: str, record: TurnRecord) -> None:
            answer.records.append(record)
            if all(len(other.steps) >= 10 for other in begun) and not told.is_set():
                os.kill(core, signal.SIGKILL)

        return emit

    others = multiprocessing.active_children()
    arguments = ("--distributed-executor-backend", executor)
    engine = await asyncio.to_thread(build, arguments, asyncio.get_running_loop(), lambda _: told.set())
    try:
        (core,) = [child.pid or 0 for child in multiprocessing.active_children() if child not in others]
        for answer, body in zip(begun, bodies, strict=True):
            await engine.start_turn(turn(**body), emit_into(answer))
        await asyncio.wait_for(told.wait(), DEADLINE_S)
    finally:
        await engine.close()
    assert engine.fingerprint == ask.engine.fingerprint
    for answer, body in zip(begun, bodies, strict=True):
        assert not isinstance(answer.records[-1], TurnFinished)
        assert facts(await go_on(ask, answer, len(answer.steps), **body)) == facts(await ask(**body))


# --- refusals ---


async def refusal(ask: Asker, resume: Resume, **body: Any) -> ErrorDetail:
    records: list[TurnRecord] = []
    with pytest.raises(TurnRejected) as rejected:
        await ask.run(resumed_turn(resume, **body), lambda _, record: records.append(record))
    assert records == []
    assert (rejected.value.error.type, rejected.value.error.code) == ("server_error", "engine_lost")
    return rejected.value.error


async def test_a_turn_of_another_engine_is_refused(ask: Asker) -> None:
    whole = await ask(input=COUNT)
    fingerprint = ask.engine.fingerprint.encode()
    assert fingerprint in whole.prepared.state
    other = replace(whole.prepared, state=whole.prepared.state.replace(fingerprint, b"0" * len(fingerprint)))
    assert "not the ones it began with" in (await refusal(ask, Resume(other, ()))).message
    foreign = replace(whole.prepared, state=b"foreign")
    assert "another kind" in (await refusal(ask, Resume(foreign, ()))).message


@pytest.mark.parametrize("at", [0, 5, 9])
async def test_steps_that_are_not_reproduced_are_refused(ask: Asker, at: int) -> None:
    whole = await ask(input=COUNT)
    steps = whole.steps[:10]
    steps[at] = replace(steps[at], deltas=(TextDelta("other"),))
    assert "as it did" in (await refusal(ask, Resume(whole.prepared, tuple(steps)))).message
    assert (await ask(input=COUNT)).text == whole.text


async def test_steps_after_an_end_are_refused(ask: Asker) -> None:
    whole = await ask(input=COUNT)
    await refusal(ask, Resume(whole.prepared, (*whole.steps, Step((), (TextDelta("more"),)))))


async def test_log_probabilities_that_were_held_back_are_not_made_up(ask: Asker) -> None:
    body: dict[str, Any] = {**CASES["logprobs"], **CASES["stop string"]}
    whole = await ask(**body)
    assert "log-probabilities" in (await refusal(ask, cut(whole, 10), **body)).message
    assert facts(await go_on(ask, whole, len(whole.steps), **body)) == facts(whole)  # nothing is held back at its end


async def test_output_that_its_grammar_does_not_take_fails_its_turn_alone(ask: Asker) -> None:
    other, constrained = await asyncio.gather(ask(input=ALICE), ask(**CASES["schema"]))
    assert other.prepared.prompt_token_ids == constrained.prepared.prompt_token_ids
    beside, failed = await asyncio.gather(
        ask(input=COUNT), ask.run(resumed_turn(Resume(constrained.prepared, tuple(other.steps[:3]))))
    )
    assert failed.finished.reason == "error"
    assert failed.steps == []
    assert beside.text.endswith(", 20")


# --- ends ---


async def test_a_resumed_turn_can_be_aborted(ask: Asker, story: Answer) -> None:
    def abort_at_5(response_id: str, record: TurnRecord) -> None:
        if isinstance(record, Step):
            seen.append(record)
            if len(seen) == 5:
                ask.engine.abort(response_id)

    seen: list[Step] = []
    after = await ask.run(resumed_turn(cut(story, 20)), abort_at_5)
    assert after.finished.reason == "aborted"
    assert after.finished.usage.output_tokens == 20 + len(after.token_ids)


@pytest.mark.parametrize("passes", [0, 1, 2, 4])
async def test_a_resume_that_is_cancelled_leaves_nothing(ask: Asker, story: Answer, passes: int) -> None:
    records: list[TurnRecord] = []
    resumed = resumed_turn(cut(story, len(story.steps) - 1))
    start = asyncio.create_task(ask.engine.start_turn(resumed, lambda _, record: records.append(record)))
    for _ in range(passes):  # of the loop: the replay lets others have their turn now and then
        await asyncio.sleep(0)
    if start.cancel():
        with pytest.raises(asyncio.CancelledError):
            await start
        await ask()
        assert records == []
    assert ask.engine.load().running == ask.engine.load().waiting == 0
