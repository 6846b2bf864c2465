"""The Responses API on the real engine, byte by byte over plain HTTP."""

import json
from typing import Any

import aiohttp
import pytest

from tests.system import sse
from tests.system.served import Served

pytestmark = pytest.mark.engine

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather",
    "parameters": {
        "type": "object",
        "properties": {"location": {"type": "string"}},
        "required": ["location"],
        "additionalProperties": False,
    },
    "strict": True,
}
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


async def stream(served: Served, **body: Any) -> list[dict[str, Any]]:
    """A create's whole stream, checked to be well formed."""
    body = {"model": "holdfast-demo", "temperature": 0, "stream": True, **body}
    async with aiohttp.ClientSession() as client, client.post(served.url + "/v1/responses", json=body) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-cache"
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert answer.headers["x-response-id"].startswith("resp_")
        return sse.well_formed(await sse.read(answer))


async def create(served: Served, **body: Any) -> dict[str, Any]:
    """A create's JSON answer."""
    body = {"model": "holdfast-demo", "temperature": 0, **body}
    async with aiohttp.ClientSession() as client, client.post(served.url + "/v1/responses", json=body) as answer:
        assert answer.status == 200, await answer.text()
        response: dict[str, Any] = await answer.json()
        return response


def text_of(response: dict[str, Any]) -> str:
    """All text of a response object."""
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    return "".join(part["text"] for part in parts)


async def test_streaming_responses_emits_done(served: Served) -> None:
    """The seed's request as it stands: a readable answer, in order, then `[DONE]`."""
    found = await stream(served, model="gpt-4o-mini", input="Test streaming", temperature=None)
    types = [event["type"] for event in found]
    assert types[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert types[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert set(types[4:-4]) == {"response.output_text.delta"}
    text = "".join(event["delta"] for event in found if event["type"] == "response.output_text.delta")
    assert text == text_of(found[-1]["response"])
    assert len(text.split()) >= 3
    assert text.isascii()


async def test_json_answer_is_the_fold_of_the_same_stream(served: Served) -> None:
    streamed = (await stream(served, input="Count from 1 to 12."))[-1]["response"]
    answered = await create(served, input="Count from 1 to 12.")
    for response in (streamed, answered):
        for item in response["output"]:
            item.pop("id")
        for field in ("id", "created_at", "completed_at"):
            response.pop(field)
        response["usage"]["input_tokens_details"].pop("cached_tokens")
    assert streamed == answered
    assert "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12" in text_of(answered)


async def test_model_chooses_to_call_a_tool_and_answers_from_its_result(served: Served) -> None:
    question = {"role": "user", "content": "What's the weather like in Paris?"}
    found = await stream(served, input=[question], tools=[WEATHER])
    [call] = found[-1]["response"]["output"]
    assert (call["type"], call["name"], call["status"]) == ("function_call", "get_weather", "completed")
    assert json.loads(call["arguments"]) == {"location": "Paris"}
    deltas = [event["delta"] for event in found if event["type"] == "response.function_call_arguments.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == call["arguments"]

    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "18 degrees and sunny"}
    answer = await create(served, input=[question, call, result], tools=[WEATHER])
    assert "18 degrees and sunny" in text_of(answer)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "get_weather"}], ids=["required", "named"])
async def test_forced_tool_call_follows_its_schema(served: Served, choice: object) -> None:
    response = await create(served, input="Hello", tools=[WEATHER], tool_choice=choice, max_output_tokens=200)
    call = response["output"][-1]
    assert (call["type"], call["name"]) == ("function_call", "get_weather")
    assert set(json.loads(call["arguments"])) == {"location"}


async def test_tool_choice_none_calls_nothing(served: Served) -> None:
    response = await create(served, input="What's the weather like in Paris?", tools=[WEATHER], tool_choice="none")
    assert {item["type"] for item in response["output"]} == {"message"}


async def test_two_tool_calls_in_parallel(served: Served) -> None:
    response = await create(served, input="What's the weather like in Paris and London?", tools=[WEATHER])
    calls = [json.loads(item["arguments"]) for item in response["output"] if item["type"] == "function_call"]
    assert calls == [{"location": "Paris"}, {"location": "London"}]


async def test_json_schema_is_followed(served: Served) -> None:
    text = {"format": {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}}
    response = await create(served, input="My name is Alice and I am 30.", text=text, max_output_tokens=200)
    person = json.loads(text_of(response))
    assert set(person) == {"name", "age"}
    assert isinstance(person["age"], int)
    assert response["text"]["format"]["schema"] == PERSON


async def test_json_object_is_json(served: Served) -> None:
    response = await create(
        served, input="Give me a JSON object.", text={"format": {"type": "json_object"}}, max_output_tokens=300
    )
    if response["status"] == "completed":
        assert isinstance(json.loads(text_of(response)), dict)
    else:
        assert text_of(response).startswith("{")


async def test_reasoning_comes_before_the_answer(served: Served) -> None:
    found = await stream(served, input="Count from 1 to 5.", reasoning={"effort": "medium"})
    response = found[-1]["response"]
    reasoning, message = response["output"]
    assert (reasoning["type"], message["type"]) == ("reasoning", "message")
    deltas = [event["delta"] for event in found if event["type"] == "response.reasoning_text.delta"]
    assert "".join(deltas) == reasoning["content"][0]["text"]
    assert "".join(deltas).strip()
    assert "1, 2, 3, 4, 5" in text_of(response)
    assert 0 < response["usage"]["output_tokens_details"]["reasoning_tokens"] < response["usage"]["output_tokens"]


async def test_long_answer_ends_by_itself(served: Served) -> None:
    response = await create(served, input="Write a long story.")
    assert response["status"] == "completed"
    assert response["usage"]["output_tokens"] >= 300
    assert text_of(response).rstrip().endswith("The end.")


async def test_max_output_tokens_makes_it_incomplete(served: Served) -> None:
    found = await stream(served, input="Write a long story.", max_output_tokens=16)
    response = found[-1]["response"]
    assert found[-1]["type"] == "response.incomplete"
    assert response["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["usage"]["output_tokens"] == 16
    assert response["output"][-1]["status"] == "incomplete"


async def test_logprobs_of_every_token(served: Served) -> None:
    body = {"input": "Hello", "top_logprobs": 3, "include": ["message.output_text.logprobs"]}
    found = await stream(served, **body)
    [part] = found[-1]["response"]["output"][0]["content"]
    assert "".join(entry["token"] for entry in part["logprobs"]).startswith(part["text"])
    assert all(len(entry["top_logprobs"]) == 3 for entry in part["logprobs"])
    assert all(entry["logprob"] <= 0 for entry in part["logprobs"])
    streamed = [entry for event in found if event["type"].endswith("text.delta") for entry in event["logprobs"]]
    assert streamed == part["logprobs"]


async def test_what_the_request_leaves_out_is_echoed_as_it_is_used(served: Served) -> None:
    response = await create(served, input="Hello", temperature=None)
    assert (response["temperature"], response["top_p"]) == (0.3, 1.0)  # the demo model's generation_config.json
    assert (await create(served, input="Hello", temperature=0.5))["temperature"] == 0.5


async def test_seed_makes_sampling_repeatable(served: Served) -> None:
    body = {"input": "Write a long story.", "temperature": 2, "max_output_tokens": 100, "ignore_eos": True}
    first, second = [[text_of(await create(served, seed=seed, **body)) for seed in range(4)] for _ in range(2)]
    assert first == second
    assert len(set(first)) > 1


async def test_conversation_in_items_is_remembered(served: Served) -> None:
    items = [
        {"role": "user", "content": "My name is Alice."},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Nice to meet you, Alice!"}],
        },
        {"role": "user", "content": [{"type": "input_text", "text": "What is my name?"}]},
    ]
    response = await create(served, input=items, instructions="You are a helpful assistant.")
    assert "Alice" in text_of(response)
    assert response["instructions"] == "You are a helpful assistant."


async def test_a_repeated_prompt_reports_cached_tokens(served: Served) -> None:
    body = {
        "input": "Please summarize: " + "the quick brown fox jumps over the lazy dog " * 20,
        "max_output_tokens": 16,
    }
    await create(served, **body)
    usage = (await create(served, **body))["usage"]
    assert 0 < usage["input_tokens_details"]["cached_tokens"] < usage["input_tokens"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
