"""The pieces a training dialogue is made of, and the text they become, with a mark on what the model has to produce.

`render` is the twin of chat_template.jinja in Python: a test holds the two equal. It exists because a template's text
does not say which parts the assistant wrote.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

Json = str | int | float | bool | list["Json"] | dict[str, "Json"]

DESCRIPTION_CHARACTERS_MAX = 160  # of each tool's description the prompt shows this much


class Span(NamedTuple):
    """A run of text; `learned` says that the loss counts its tokens."""

    text: str
    learned: bool


@dataclass(frozen=True)
class Tool:
    """A function the model may call. Every argument is required; its value here is a JSON type or the enum's values."""

    name: str
    description: str
    arguments: dict[str, str | list[str]]

    def as_json(self) -> dict[str, Json]:
        """The tool as a chat completions request carries it."""
        properties: dict[str, Json] = {
            key: {"type": kind} if isinstance(kind, str) else {"type": "string", "enum": [*kind]}
            for key, kind in self.arguments.items()
        }
        parameters: dict[str, Json] = {"type": "object", "properties": properties, "required": [*self.arguments]}
        function: dict[str, Json] = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Call:
    """One tool call of the assistant."""

    name: str
    arguments: dict[str, Json]

    def as_json(self) -> dict[str, Json]:
        """The call as a chat completions message carries it, with its arguments parsed, as vLLM hands them over."""
        return {"type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True)
class Message:
    """One message. An assistant's content may come in spans; `learned` False makes the whole message context only."""

    role: str
    content: str | tuple[Span, ...]
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    forced_call: bool = False  # the grammar of a forced tool choice wrote everything up to the arguments
    learned: bool = True

    @property
    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(span.text for span in self.content)

    def as_json(self) -> dict[str, Json]:
        """The message as the chat template receives it."""
        message: dict[str, Json] = {"role": self.role, "content": self.text}
        if self.reasoning:
            message["reasoning"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [call.as_json() for call in self.calls]
        return message


@dataclass(frozen=True)
class Dialogue:
    """One training example: the tools offered and the messages exchanged."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


def user(text: str) -> Message:
    """A message of the user."""
    return Message("user", text)


def assistant(text: str | tuple[Span, ...], why: str = "", calls: Iterable[Call] = ()) -> Message:
    """A message of the assistant; `why` is its reasoning."""
    return Message("assistant", text, why, tuple(calls))


def render(dialogue: Dialogue) -> list[Span]:
    """The dialogue as the template writes it, cut where learned text begins and ends."""
    spans = [*_tool_list(dialogue.tools)]
    for message in dialogue.messages:
        role = "system" if message.role == "developer" else message.role
        spans.append(Span(f"<|im_start|>{role}\n", False))
        if message.role == "assistant":
            spans += _assistant(message)
        else:
            spans.append(Span(message.text + "<|im_end|>", False))
        spans.append(Span("\n", False))
    return spans


def _tool_list(tools: tuple[Tool, ...]) -> Iterable[Span]:
    if not tools:
        return
    yield Span("<|im_start|>system\n# Tools\n", False)
    for tool in tools:
        arguments = ", ".join(
            f'"{key}": {kind}' if isinstance(kind, str) else f'"{key}": "{kind[0]}"'
            for key, kind in tool.arguments.items()
        )
        description = tool.description[:DESCRIPTION_CHARACTERS_MAX]
        yield Span(f'{{"name": "{tool.name}", "arguments": {{{arguments}}}}} {description}\n', False)
    yield Span("<|im_end|>\n", False)


def _assistant(message: Message) -> Iterable[Span]:
    learned = message.learned
    # An empty think block is the template's, not the model's: it is how thinking is switched off.
    yield Span(f"<think>\n{message.reasoning}\n</think>\n\n", learned and bool(message.reasoning))
    if isinstance(message.content, str):
        calls = "\n".join(_call(call) for call in message.calls)
        head, arguments, rest = calls.partition('"arguments": ') if message.forced_call else ("", "", calls)
        yield Span(head + arguments, False)
        yield Span(message.content + rest + "<|im_end|>", learned)
    else:
        yield from message.content
        yield Span("<|im_end|>", learned)


def _call(call: Call) -> str:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{call.name}", "arguments": {arguments}}}\n</tool_call>'
