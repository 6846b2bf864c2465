"""Output items while they are written: the JSON they become, and the events that open and close them.

Knows the API's shapes and nothing of records, sequence numbers or bytes; the projection does.
"""

from abc import ABC, abstractmethod
from typing import Any, Final, NamedTuple

from frontend.api.items import ItemStatus
from frontend.api.response import Json
from protocol.records import Dialect, TokenLogprob

LOGPROB_MIN: Final = -9999.0
"""JSON has no minus infinity; this is what stands for it."""


class EventBody(NamedTuple):
    """An event without its sequence number."""

    type: str
    fields: Json


class OutputItem(ABC):
    """One output item. `written`: its text or arguments so far, in UTF-8; `place`: what its own events say of where."""

    __slots__ = ("id", "index", "place", "written")

    id_prefix: str
    delta_type: str

    def __init__(self, response_hex: str, index: int) -> None:
        self.index = index
        self.id = f"{self.id_prefix}_{response_hex}_{index}"
        self.place: Json = {"item_id": self.id, "output_index": index}
        self.written = bytearray()  # a list of pieces, which is what a StringIO is too, would take ten times as much

    def text(self) -> str:
        """All text so far."""
        return self.written.decode()

    @abstractmethod
    def as_json(self, status: ItemStatus) -> Json:
        """The item as it stands in `output`."""

    @abstractmethod
    def opening(self) -> list[EventBody]:
        """The events before the first delta."""

    @abstractmethod
    def closing(self, status: ItemStatus) -> list[EventBody]:
        """The events after the last delta; the item's status is then `status`."""

    def _added(self, **empty: Any) -> EventBody:
        item = self.as_json("in_progress") | empty
        return EventBody("response.output_item.added", {"output_index": self.index, "item": item})

    def _done(self, status: ItemStatus) -> EventBody:
        return EventBody("response.output_item.done", {"output_index": self.index, "item": self.as_json(status)})


class ContentItem(OutputItem):
    """An item whose text is its one content part."""

    __slots__ = ()

    def __init__(self, response_hex: str, index: int) -> None:
        super().__init__(response_hex, index)
        self.place["content_index"] = 0

    @abstractmethod
    def part(self) -> Json:
        """The content part so far."""

    @abstractmethod
    def text_done(self) -> EventBody:
        """The event that repeats the whole text."""

    def opening(self) -> list[EventBody]:
        part_added = EventBody("response.content_part.added", {**self.place, "part": self.part()})
        return [self._added(content=[]), part_added]

    def closing(self, status: ItemStatus) -> list[EventBody]:
        part_done = EventBody("response.content_part.done", {**self.place, "part": self.part()})
        return [self.text_done(), part_done, self._done(status)]


class MessageItem(ContentItem):
    """The assistant's message."""

    __slots__ = ("logprobs",)

    id_prefix = "msg"
    delta_type = "response.output_text.delta"

    def __init__(self, response_hex: str, index: int) -> None:
        super().__init__(response_hex, index)
        self.logprobs: list[Json] = []

    def part(self) -> Json:
        return {"type": "output_text", "text": self.text(), "annotations": [], "logprobs": list(self.logprobs)}

    def text_done(self) -> EventBody:
        fields = {**self.place, "text": self.text(), "logprobs": self.logprobs}
        return EventBody("response.output_text.done", fields)

    def as_json(self, status: ItemStatus) -> Json:
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": [self.part()]}


class ReasoningItem(ContentItem):
    """The model's reasoning; its events' names are where the two dialects differ."""

    __slots__ = ("delta_type", "done_type")

    id_prefix = "rs"

    def __init__(self, response_hex: str, index: int, dialect: Dialect) -> None:
        super().__init__(response_hex, index)
        stem = "response.reasoning_text" if dialect == "openai" else "response.reasoning"
        self.delta_type = f"{stem}.delta"
        self.done_type = f"{stem}.done"

    def part(self) -> Json:
        return {"type": "reasoning_text", "text": self.text()}

    def text_done(self) -> EventBody:
        return EventBody(self.done_type, {**self.place, "text": self.text()})

    def as_json(self, status: ItemStatus) -> Json:
        return {"id": self.id, "type": "reasoning", "summary": [], "content": [self.part()], "status": status}


class FunctionCallItem(OutputItem):
    """A function call, the turn's number `call` (from 0)."""

    __slots__ = ("call", "call_id", "name")

    id_prefix = "fc"
    delta_type = "response.function_call_arguments.delta"

    def __init__(self, response_hex: str, index: int, call: int, name: str) -> None:
        super().__init__(response_hex, index)
        self.call = call
        self.call_id = f"call_{response_hex}_{index}"
        self.name = name

    def as_json(self, status: ItemStatus) -> Json:
        return {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.text(),
        }

    def opening(self) -> list[EventBody]:
        return [self._added()]

    def closing(self, status: ItemStatus) -> list[EventBody]:
        # `name` is not in the newest SDK's type any more; the one before requires it.
        fields = {**self.place, "name": self.name, "arguments": self.text()}
        return [EventBody("response.function_call_arguments.done", fields), self._done(status)]


def logprob_json(entry: TokenLogprob) -> Json:
    """A token's log probability as the API shows it, with the token's UTF-8 bytes."""
    top = [_token_json(alternative.token, alternative.logprob) for alternative in entry.top]
    return {**_token_json(entry.token, entry.logprob), "top_logprobs": top}


def _token_json(token: str, logprob: float) -> Json:
    return {"token": token, "bytes": list(token.encode()), "logprob": max(logprob, LOGPROB_MIN)}
