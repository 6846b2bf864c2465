"""What follows on what was stored, by the official Python SDK under its strict validation, with either store."""

import openai
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall, ResponseItem

from tests.system.sdk import client
from tests.system.served import Served
from tests.system.test_clients import WEATHER

pytestmark = pytest.mark.engine

MODEL = "holdfast-demo"


def say(sdk: openai.OpenAI, text: str, previous: Response | None = None) -> Response:
    previous_id = None if previous is None else previous.id
    return sdk.responses.create(model=MODEL, input=text, previous_response_id=previous_id, temperature=0)


def input_tokens(response: Response) -> int:
    assert response.usage is not None
    return response.usage.input_tokens


def test_five_turns_with_a_function_call_among_them(served_on: Served) -> None:
    sdk = client(served_on)
    turns = [say(sdk, "My name is Clara.")]
    asked = sdk.responses.create(
        model=MODEL,
        input="What's the weather like in Paris?",
        previous_response_id=turns[-1].id,
        tools=[WEATHER],
        tool_choice="required",
        temperature=0,
    )
    turns.append(asked)
    [call] = [item for item in asked.output if isinstance(item, ResponseFunctionToolCall)]
    answered = sdk.responses.create(
        model=MODEL,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees and sunny"}],
        previous_response_id=asked.id,
        tools=[WEATHER],
        temperature=0,
    )
    turns.append(answered)
    assert "18 degrees and sunny" in answered.output_text
    turns.append(say(sdk, "Count from 1 to 5.", turns[-1]))
    turns.append(say(sdk, "What is my name?", turns[-1]))
    assert "Clara" in turns[-1].output_text
    assert [turn.previous_response_id for turn in turns] == [None, *(turn.id for turn in turns[:-1])]
    # The request with tools has their description in it, so what has no tools is compared with what has none.
    assert input_tokens(turns[0]) < input_tokens(turns[3]) < input_tokens(turns[4])
    assert input_tokens(turns[1]) < input_tokens(turns[2])


def test_a_chain_goes_on_at_another_frontend(served_on: Served) -> None:
    first = say(client(served_on), "My favorite color is teal.")
    elsewhere = client(served_on._replace(url=served_on.other_url))
    assert "teal" in say(elsewhere, "What is my favorite color?", first).output_text


def test_a_branch_does_not_see_the_other_branch(served_on: Served) -> None:
    sdk = client(served_on)
    root = say(sdk, "Hello")
    named = say(sdk, "My name is Clara.", root)
    assert "Clara" in say(sdk, "What is my name?", named).output_text
    assert "Clara" not in say(sdk, "What is my name?", root).output_text


def test_input_items_are_those_of_the_request_itself_by_page(served_on: Served) -> None:
    sdk = client(served_on)
    before = say(sdk, "Hello")
    messages: openai.types.responses.ResponseInputParam = [
        {"role": "user", "content": f'Say "{number}"'} for number in range(5)
    ]
    created = sdk.responses.create(model=MODEL, input=messages, previous_response_id=before.id, temperature=0)
    everything = list(sdk.responses.input_items.list(created.id, order="asc", limit=2))
    assert [text_of(item) for item in everything] == [f'Say "{number}"' for number in range(5)]
    assert list(sdk.responses.input_items.list(created.id, limit=3)) == everything[::-1]
    page = sdk.responses.input_items.list(created.id, order="asc", after=everything[1].id or "", limit=2)
    assert page.data == everything[2:4]
    assert page.has_more


def test_an_item_reference_stands_for_the_item(served_on: Served) -> None:
    sdk = client(served_on)
    told = say(sdk, "My name is Clara.")
    [own] = sdk.responses.input_items.list(told.id)
    assert own.id
    answer = sdk.responses.create(
        model=MODEL,
        input=[
            {"type": "item_reference", "id": own.id},
            {"type": "item_reference", "id": told.output[0].id or ""},
            {"role": "user", "content": "What is my name?"},
        ],
        temperature=0,
    )
    assert "Clara" in answer.output_text
    with pytest.raises(openai.NotFoundError) as refused:
        sdk.responses.create(model=MODEL, input=[{"type": "item_reference", "id": "msg_absent"}])
    assert refused.value.param == "input[0].id"


def test_what_was_deleted_is_gone_and_continues_nothing(served_on: Served) -> None:
    sdk = client(served_on)
    created = say(sdk, "Hello")
    sdk.responses.delete(created.id)
    for frontend in (sdk, client(served_on._replace(url=served_on.other_url))):
        with pytest.raises(openai.NotFoundError):
            frontend.responses.retrieve(created.id)
        with pytest.raises(openai.NotFoundError):
            list(frontend.responses.retrieve(created.id, stream=True))
        with pytest.raises(openai.NotFoundError):
            frontend.responses.input_items.list(created.id)
        with pytest.raises(openai.NotFoundError):
            frontend.responses.delete(created.id)
        with pytest.raises(openai.NotFoundError) as refused:
            say(frontend, "And now?", created)
        assert refused.value.code == "previous_response_not_found"


def test_a_stored_response_is_retrieved_as_it_was_answered(served_on: Served) -> None:
    sdk = client(served_on)
    created = say(sdk, "Hello")
    elsewhere = client(served_on._replace(url=served_on.other_url))
    assert elsewhere.responses.retrieve(created.id) == created
    included = elsewhere.responses.retrieve(created.id, include=["message.output_text.logprobs"])
    assert included.output_text == created.output_text
    with pytest.raises(openai.BadRequestError, match="include"):
        elsewhere.responses.retrieve(created.id, include=["no.such.thing"])  # type: ignore[list-item]


def test_what_was_not_to_be_stored_is_not(served_on: Served) -> None:
    sdk = client(served_on)
    created = sdk.responses.create(model=MODEL, input="Hello", store=False, temperature=0)
    with pytest.raises(openai.NotFoundError):
        say(sdk, "And now?", created)


def text_of(item: ResponseItem) -> str:
    assert item.type == "message"
    [part] = item.content
    assert part.type == "input_text"
    return part.text
