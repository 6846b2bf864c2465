"""Conversations by the official Python SDK under its strict validation, with either store."""

import openai
import pytest
from openai.types.conversations import ConversationItem

from tests.system.sdk import client
from tests.system.served import Served
from tests.system.test_clients import WEATHER

pytestmark = pytest.mark.engine

MODEL = "holdfast-demo"


def texts(items: list[ConversationItem]) -> list[str]:
    """What each message says; other items by their type."""
    return [
        "".join(getattr(part, "text", "") for part in item.content) if item.type == "message" else item.type
        for item in items
    ]


def say(sdk: openai.OpenAI, conversation_id: str, text: str) -> str:
    return sdk.responses.create(model=MODEL, input=text, conversation=conversation_id, temperature=0).output_text


def test_a_conversation_from_its_making_to_its_end(served_on: Served) -> None:
    sdk, elsewhere = client(served_on), client(served_on._replace(url=served_on.other_url))
    created = sdk.conversations.create(items=[], metadata={"topic": "demo"})
    assert elsewhere.conversations.retrieve(created.id) == created
    updated = elsewhere.conversations.update(created.id, metadata={"topic": "other", "user": "x"})
    assert updated.metadata == {"topic": "other", "user": "x"}
    assert sdk.conversations.retrieve(created.id) == updated
    assert list(sdk.conversations.items.list(created.id)) == []
    deleted = sdk.conversations.delete(created.id)
    assert (deleted.id, deleted.deleted) == (created.id, True)
    for gone in (
        lambda: elsewhere.conversations.retrieve(created.id),
        lambda: elsewhere.conversations.update(created.id, metadata={}),
        lambda: elsewhere.conversations.delete(created.id),
        lambda: elsewhere.conversations.items.list(created.id),
        lambda: say(elsewhere, created.id, "Hello"),
    ):
        with pytest.raises(openai.NotFoundError):
            gone()


def test_items_are_added_listed_by_page_read_and_taken_out(served_on: Served) -> None:
    sdk = client(served_on)
    conversation = sdk.conversations.create(items=[{"role": "developer", "content": "Be kind."}])
    added = sdk.conversations.items.create(
        conversation.id, items=[{"role": "user", "content": f"number {number}"} for number in range(5)]
    )
    wanted = ["Be kind.", *(f"number {number}" for number in range(5))]
    everything = list(sdk.conversations.items.list(conversation.id, order="asc", limit=2))
    assert texts(everything) == wanted
    assert everything[1:] == added.data
    assert list(sdk.conversations.items.list(conversation.id, order="desc", limit=4)) == everything[::-1]
    page = sdk.conversations.items.list(conversation.id, order="asc", after=everything[2].id or "", limit=2)
    assert (texts(page.data), page.has_more) == (wanted[3:5], True)
    third = everything[3].id or ""
    assert sdk.conversations.items.retrieve(third, conversation_id=conversation.id) == everything[3]
    left = sdk.conversations.items.delete(third, conversation_id=conversation.id)
    assert left.id == conversation.id
    with pytest.raises(openai.NotFoundError):
        sdk.conversations.items.retrieve(third, conversation_id=conversation.id)
    remaining = list(sdk.conversations.items.list(conversation.id, order="asc"))
    assert texts(remaining) == wanted[:3] + wanted[4:]


def test_responses_read_their_conversation_and_are_added_to_it(served_on: Served) -> None:
    sdk, elsewhere = client(served_on), client(served_on._replace(url=served_on.other_url))
    conversation = sdk.conversations.create()
    first = say(sdk, conversation.id, "My name is Clara.")
    second = say(elsewhere, conversation.id, "What is my name?")
    assert "Clara" in second
    items = list(sdk.conversations.items.list(conversation.id, order="asc"))
    assert texts(items) == ["My name is Clara.", first, "What is my name?", second]


def test_a_function_call_and_its_output_in_a_conversation(served_on: Served) -> None:
    sdk = client(served_on)
    conversation = sdk.conversations.create()
    asked = sdk.responses.create(
        model=MODEL,
        input="What's the weather like in Paris?",
        conversation={"id": conversation.id},
        tools=[WEATHER],
        temperature=0,
    )
    [call] = asked.output
    assert call.type == "function_call"
    assert asked.conversation is not None
    assert asked.conversation.id == conversation.id
    answered = sdk.responses.create(
        model=MODEL,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees and sunny"}],
        conversation=conversation.id,
        tools=[WEATHER],
        temperature=0,
    )
    assert "18 degrees and sunny" in answered.output_text
    items = list(sdk.conversations.items.list(conversation.id, order="asc"))
    assert [item.type for item in items] == ["message", "function_call", "function_call_output", "message"]


def test_a_streamed_response_is_in_its_conversation_when_its_stream_has_ended(served_on: Served) -> None:
    sdk = client(served_on)
    conversation = sdk.conversations.create()
    stream = sdk.responses.create(model=MODEL, input="Hello", conversation=conversation.id, temperature=0, stream=True)
    text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert texts(list(sdk.conversations.items.list(conversation.id, order="asc"))) == ["Hello", text]


def test_what_was_not_to_be_stored_is_not_added(served_on: Served) -> None:
    sdk = client(served_on)
    conversation = sdk.conversations.create()
    sdk.responses.create(model=MODEL, input="Hello", conversation=conversation.id, store=False, temperature=0)
    assert list(sdk.conversations.items.list(conversation.id)) == []
    say(sdk, conversation.id, "Hello")  # and it keeps nobody out
    assert len(list(sdk.conversations.items.list(conversation.id))) == 2


def test_a_conversation_and_a_previous_response_exclude_each_other(served_on: Served) -> None:
    sdk = client(served_on)
    conversation = sdk.conversations.create()
    before = sdk.responses.create(model=MODEL, input="Hello", temperature=0)
    with pytest.raises(openai.BadRequestError):
        sdk.responses.create(model=MODEL, input="Hello", conversation=conversation.id, previous_response_id=before.id)
