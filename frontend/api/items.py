"""Input items: what a create request's `input` may hold, and the rules that reach across items."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from frontend.api.errors import invalid
from frontend.api.validation import ApiObject, bad_value

TEXT_CHARACTERS_MAX: Final = 10_485_760
CALL_ID_CHARACTERS_MAX: Final = 64

Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
CallId = Annotated[str, Meta(min_length=1, max_length=CALL_ID_CHARACTERS_MAX)]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputText(ApiObject, frozen=True, tag="input_text"):
    """Text from the user, the system or the developer."""

    text: Text


class InputImage(ApiObject, frozen=True, tag="input_image"):
    """An image by `https:`, `http:` or `data:` URL."""

    image_url: str
    detail: Literal["low", "high", "auto", "original"] | None = None


class OutputText(ApiObject, frozen=True, tag="output_text"):
    """Text of an earlier answer, as the API gave it; only `text` is shown to the model."""

    text: Text
    annotations: list[dict[str, Any]] | None = None
    logprobs: list[dict[str, Any]] | None = None


class Refusal(ApiObject, frozen=True, tag="refusal"):
    """An earlier refusal to answer."""

    refusal: Text


class ReasoningText(ApiObject, frozen=True, tag="reasoning_text"):
    """Reasoning of an earlier answer."""

    text: Text


class SummaryText(ApiObject, frozen=True, tag="summary_text"):
    """A summary of earlier reasoning."""

    text: Text


class Message(ApiObject, frozen=True, tag="message"):
    """A message, the client's or an earlier answer's; `type` may be absent in what a client sends."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Text | list[InputText | InputImage | OutputText | Refusal]
    id: str | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class Reasoning(ApiObject, frozen=True, tag="reasoning"):
    """Reasoning of an earlier answer, given back."""

    summary: list[SummaryText] | None = None
    content: list[ReasoningText] | None = None
    id: str | None = None
    status: ItemStatus | None = None


class FunctionCall(ApiObject, frozen=True, tag="function_call"):
    """A call that the model made; `arguments` is what it wrote, which need not be valid JSON."""

    call_id: CallId
    name: Annotated[str, Meta(min_length=1)]
    arguments: Text
    id: str | None = None
    status: ItemStatus | None = None


class FunctionCallOutput(ApiObject, frozen=True, tag="function_call_output"):
    """What the client's function answered to the call `call_id`."""

    call_id: CallId
    output: Text | list[InputText | InputImage]
    name: str | None = None
    id: str | None = None
    status: ItemStatus | None = None


class ItemReference(ApiObject, frozen=True, tag="item_reference"):
    """An item that is stored, by its id."""

    id: Annotated[str, Meta(min_length=1)]


Item = Message | Reasoning | FunctionCall | FunctionCallOutput | ItemReference

_INPUT_PARTS = ("input_text", "input_image")
_PARTS_OF_ROLE: Final = {
    "user": _INPUT_PARTS,
    "system": _INPUT_PARTS,
    "developer": _INPUT_PARTS,
    "assistant": ("output_text", "refusal", "input_text"),
}
_URL_SCHEMES = ("https://", "http://", "data:")


def with_types(sent: Any) -> Any:
    """`input` as sent, with each item's type spelled out where the API lets it be left away."""
    return [_with_type(item) for item in sent] if isinstance(sent, list) else sent


def _with_type(item: Any) -> Any:
    if not isinstance(item, dict) or item.get("type") is not None:
        return item
    if "role" in item or "content" in item:
        return {**item, "type": "message"}
    return {**item, "type": "item_reference"} if "id" in item else item


def check_items(items: Sequence[Item], *, continues: bool = False) -> None:
    """Check what no single field shows. Raises `ApiError` naming the item.

    Where they continue what is stored or refer to it, the calls that outputs answer may stand there.
    """
    elsewhere = continues or any(isinstance(item, ItemReference) for item in items)
    calls: set[str] = set()
    for index, item in enumerate(items):
        path = f"input[{index}]"
        match item:
            case Message():
                _check_message(item, path)
            case FunctionCall():
                calls.add(item.call_id)
            case FunctionCallOutput():
                if item.call_id not in calls and not elsewhere:
                    message = f"No function call with call_id '{item.call_id}' comes before this output in 'input'."
                    raise invalid(f"{path}.call_id", message)
                _check_images(item.output, f"{path}.output")
            case Reasoning() | ItemReference():
                pass


def _check_message(message: Message, path: str) -> None:
    if isinstance(message.content, str):
        return
    allowed = _PARTS_OF_ROLE[message.role]
    for index, part in enumerate(message.content):
        kind = part.__struct_config__.tag
        if kind not in allowed:
            raise bad_value(f"{path}.content[{index}].type", kind, allowed)
    _check_images(message.content, f"{path}.content")


def _check_images(content: str | Sequence[ApiObject], path: str) -> None:
    for index, part in enumerate(content):
        if isinstance(part, InputImage) and not part.image_url.startswith(_URL_SCHEMES):
            message = f"Expected an https:, http: or data: URL, got {part.image_url[:32]!r}."
            raise invalid(f"{path}[{index}].image_url", message, "invalid_image_url")
