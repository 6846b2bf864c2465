"""The official Python SDK against the real engine, every event under its strict validation."""

import asyncio
import json
from typing import Literal

import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from tests.system.sdk import client
from tests.system.served import Served

pytestmark = pytest.mark.engine

STRICT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)

WEATHER: openai.types.responses.FunctionToolParam = {
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


class Person(BaseModel):
    """What `responses.parse` shall return."""

    name: str
    mood: Literal["happy", "sad"]


def test_sdk_streams_text(served: Served) -> None:
    kinds, text = [], ""
    stream = client(served).responses.create(model="gpt-4o-mini", input="Hello", stream=True, temperature=0)
    for event in stream:
        STRICT.validate_json(event.model_dump_json(exclude_unset=True), strict=True)
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert text == "Hello! How can I help you today?"


def test_sdk_stream_helper_collects_the_final_response(served: Served) -> None:
    with client(served).responses.stream(model="holdfast-demo", input="Count from 1 to 5.", temperature=0) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.status == "completed"
    assert final.output_text == deltas
    assert "1, 2, 3, 4, 5" in final.output_text


def test_sdk_resumes_a_stream_by_its_helper(served: Served) -> None:
    sdk = client(served)
    created = sdk.responses.create(model="holdfast-demo", input="Count from 1 to 20.", temperature=0)
    whole = list(sdk.responses.retrieve(created.id, stream=True))
    tail = list(sdk.responses.retrieve(created.id, stream=True, starting_after=whole[4].sequence_number))
    assert tail == whole[5:]
    assert sdk.responses.retrieve(created.id).output_text == created.output_text


def test_sdk_parses_into_a_pydantic_model(served: Served) -> None:
    parsed = client(served).responses.parse(
        model="holdfast-demo",
        input="My name is Bob. I am happy.",
        text_format=Person,
        temperature=0,
        max_output_tokens=200,
    )
    assert isinstance(parsed.output_parsed, Person)
    assert parsed.output_parsed.mood in {"happy", "sad"}


def test_sdk_function_call_round_trip(served: Served) -> None:
    sdk = client(served)
    messages: openai.types.responses.ResponseInputParam = [
        {"role": "user", "content": "What's the weather like in Paris?"}
    ]
    first = sdk.responses.create(model="holdfast-demo", input=messages, tools=[WEATHER], temperature=0)
    [call] = first.output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"location": "Paris"}
    messages += [
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees and sunny"},
    ]
    second = sdk.responses.create(model="holdfast-demo", input=messages, tools=[WEATHER], temperature=0)
    assert "18 degrees and sunny" in second.output_text


def test_sdk_streams_reasoning_and_tool_arguments(served: Served) -> None:
    stream = client(served).responses.create(
        model="holdfast-demo",
        input="What's the weather like in Paris?",
        tools=[WEATHER],
        tool_choice="required",
        reasoning={"effort": "medium"},
        stream=True,
        temperature=0,
        max_output_tokens=400,
    )
    kinds = []
    for event in stream:
        STRICT.validate_json(event.model_dump_json(exclude_unset=True), strict=True)
        kinds.append(event.type)
    assert "response.reasoning_text.delta" in kinds
    assert "response.function_call_arguments.delta" in kinds
    assert kinds[-1] == "response.completed"


def test_sdk_raises_its_typed_errors(served: Served) -> None:
    sdk = client(served)
    with pytest.raises(openai.NotFoundError, match="no-such-model"):
        sdk.responses.create(model="no-such-model", input="Hello")
    with pytest.raises(openai.BadRequestError, match="temperature") as refused:
        sdk.responses.create(model="holdfast-demo", input="Hello", temperature=-1)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve("resp_" + "0" * 32)
    assert [model.id for model in sdk.models.list()][:2] == ["holdfast-demo", "gpt-4o-mini"]


async def test_async_sdk_runs_many_at_once(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=served.url + "/v1", api_key="unused", max_retries=0) as sdk:
        answers = await asyncio.gather(
            *(
                sdk.responses.create(model="holdfast-demo", input=f"Count from 1 to {n}.", temperature=0)
                for n in range(3, 15)
            )
        )
    for n, answer in zip(range(3, 15), answers, strict=True):
        assert answer.output_text.rstrip(".").endswith(f", {n}")
