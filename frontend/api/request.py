"""The create request: from an HTTP body to what is accepted, or to a 400 that names the parameter.

Theory of operation
    The body is decoded, its items and tools are brought into their one spelling, converted to types, and compared with
    what the types kept, which finds unknown fields. Then come the rules that reach across fields. What is left is
    encoded again: that JSON, `Accepted.wire`, is what workers render and what every fold of the response reads.

    It is canonical: typed fields stand in the types' order, absent and null are one, numbers have one spelling, and
    equal requests give equal bytes. Inside JSON schemas and other free-form objects the client's order of keys is kept,
    because it has a meaning: the model writes properties in the schema's order.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from frontend.api import not_served
from frontend.api.errors import invalid, unsupported
from frontend.api.items import Item, Text, check_items, with_types
from frontend.api.sampling import ExtendedSampling
from frontend.api.text_formats import TextConfig, check_text
from frontend.api.tools import ToolChoice, check_choice, check_forced_type, read_tools
from frontend.api.validation import ApiObject, read, strays, without_indices

NESTING_MAX: Final = 128
"""Levels of objects and arrays in a body."""

UnknownFields = Literal["refuse", "ignore"]
"""What becomes of a field that the API does not have. One that it has and we do not serve is refused either way."""

Include = Literal[
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "web_search_call.action.sources",
    "web_search_call.results",
]
ShortId = Annotated[str, Meta(max_length=64)]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


class StreamOptions(ApiObject, frozen=True):
    """`stream_options`: whether deltas are padded, so that their sizes tell an eavesdropper less."""

    include_obfuscation: bool | None = None


class ConversationRef(ApiObject, frozen=True):
    """`conversation`: the one that the response continues and is added to; a bare id means the same."""

    id: Annotated[str, Meta(min_length=1)]


class ReasoningConfig(ApiObject, frozen=True):
    """`reasoning`: how much the model thinks; a `summary` of `auto` leaves it to the server, which writes none."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto"] | None = None


class RequestSettings(ExtendedSampling, frozen=True, kw_only=True):
    """All of a create request but its input (spec: "Create: fields"); None means absent.

    This is what a fold of the response needs: reading it skips the input, which may be megabytes.
    """

    model: Annotated[str, Meta(min_length=1)]
    instructions: Text | None = None
    include: list[Include] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    metadata: Metadata | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    background: bool | None = None
    previous_response_id: Annotated[str, Meta(min_length=1)] | None = None
    conversation: ConversationRef | None = None
    store: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    prompt_cache_key: ShortId | None = None
    prompt_cache_retention: Literal["in_memory"] | None = None
    safety_identifier: ShortId | None = None
    user: str | None = None
    client_metadata: dict[str, str] | None = None


class CreateRequest(RequestSettings, frozen=True, kw_only=True):
    """An accepted create body. Where it continues something, its input may be empty, and is without the history."""

    input: Text | list[Item]

    @property
    def continues(self) -> bool:
        """Whether its context begins with what is stored."""
        return self.previous_response_id is not None or self.conversation is not None


class Accepted(msgspec.Struct, frozen=True):
    """A validated request, its canonical JSON, and the types of the tools that are kept from the model."""

    request: CreateRequest
    wire: bytes
    omitted_tools: tuple[str, ...]

    @property
    def digest(self) -> bytes:
        """Tells whether another request asks for the same."""
        return blake2b(self.wire, digest_size=16).digest()


_settings_decoder = msgspec.json.Decoder(RequestSettings)


def parse_create(body: bytes, unknown_fields: UnknownFields = "refuse") -> Accepted:
    """Validate a create body. Raises `ApiError` (400) that names the parameter."""
    sent = decoded(body)
    refuse_strays(_top_level_strays(sent), unknown_fields)
    check_forced_type(sent.get("tool_choice"))
    tools = read_tools(sent.get("tools"))
    spelled = _spelled(sent)
    request = read({**spelled, "tools": tools.as_json}, CreateRequest)
    refuse_strays(strays(spelled, msgspec.to_builtins(request)), unknown_fields)
    _check(request)
    check_choice(request.tool_choice, tools.function_names)
    return Accepted(request, msgspec.json.encode(request), tools.omitted)


def parse_wire(wire: bytes) -> RequestSettings:
    """Read a request that was accepted before (`Accepted.wire`, `Opened.request`), without its input."""
    return _settings_decoder.decode(wire)


def _spelled(sent: dict[str, Any]) -> dict[str, Any]:
    """The body with what the API lets be left away or said in short."""
    conversation = sent.get("conversation")
    if isinstance(conversation, str):
        conversation = {"id": conversation}
    items = with_types(sent.get("input"))
    if items is None and (conversation is not None or sent.get("previous_response_id") is not None):
        items = []
    return {**sent, "input": items, "conversation": conversation}


def decoded(body: bytes) -> dict[str, Any]:
    """A body as a JSON object that is not too deep. Raises `ApiError` (400)."""
    if not body.strip():
        raise invalid(None, "The request body is empty; expected a JSON object.", "invalid_json")
    try:
        sent = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(None, f"The request body is not valid JSON: {error}.", "invalid_json") from error
    _check_nesting(sent)
    return read(sent, dict[str, Any])


def _check_nesting(sent: Any) -> None:
    """Refuse what is so deep that whoever handles it later might run out of stack."""
    level: list[Any] = [[sent]]
    for _ in range(NESTING_MAX + 1):
        nodes = [node.values() if isinstance(node, dict) else node for node in level]
        level = [child for node in nodes for child in node if isinstance(child, (dict, list))]
        if not level:
            return
    raise invalid(None, f"The request body is nested deeper than {NESTING_MAX} levels.", "invalid_json")


def _top_level_strays(sent: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Said first: whoever misspells `input` is told so, and not that it is missing."""
    known = CreateRequest.__struct_fields__
    return ((name, value) for name, value in sent.items() if name not in known and value is not None)


def refuse_strays(found: Iterator[tuple[str, Any]], unknown_fields: UnknownFields) -> None:
    """Say what is wrong with fields that no type knows. Raises `ApiError` (400)."""
    for path, value in found:
        reason = not_served.FIELDS.get(without_indices(path))
        if reason is not None and value is not False:
            raise unsupported(path, f"'{path}' is not supported: {reason}")
        if reason is None and unknown_fields == "refuse":
            raise invalid(path, f"Unknown parameter: '{path}'.", "unknown_parameter")


def _check(request: CreateRequest) -> None:
    """The rules that reach across fields."""
    if isinstance(request.input, list):
        if not request.input and not request.instructions and not request.continues:
            raise invalid("input", "'input' is empty, and there are no 'instructions'; expected at least one item.")
        check_items(request.input, continues=request.continues)
    if request.text is not None:
        check_text(request.text)
    if request.previous_response_id is not None and request.conversation is not None:
        message = "'previous_response_id' and 'conversation' both say what came before; send one of them."
        raise invalid("previous_response_id", message, "mutually_exclusive_parameters")
    if request.background and request.store is False:
        raise invalid("background", "'background': true needs the response to be stored; send 'store': true.")
    if request.stream_options is not None and not request.stream:
        raise invalid("stream_options", "'stream_options' is only allowed with 'stream': true.")
    if (request.min_tokens or 0) > (request.max_output_tokens or request.min_tokens or 0):
        message = f"'min_tokens' is {request.min_tokens}, more than 'max_output_tokens' ({request.max_output_tokens})."
        raise invalid("min_tokens", message)
