"""All that the newest `openai` package can send is either served or refused on purpose; nothing falls between."""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from openai.types import responses as sdk
from openai.types.responses import response_create_params, response_input_item_param, tool_param
from openai.types.responses.response_format_text_config_param import ResponseFormatTextConfigParam
from openai.types.shared_params.reasoning import Reasoning as ReasoningParam

from frontend.api import items, not_served, text_formats, tools
from frontend.api.errors import ApiError
from frontend.api.request import CreateRequest, ReasoningConfig, StreamOptions
from frontend.api.validation import bad_value, choices

TYPES = [
    # (the SDK's type, ours, where it stands in the body)
    (response_create_params.ResponseCreateParamsStreaming, CreateRequest, ""),
    (response_create_params.StreamOptions, StreamOptions, "stream_options."),
    (ReasoningParam, ReasoningConfig, "reasoning."),
    (sdk.ResponseTextConfigParam, text_formats.TextConfig, "text."),
    (sdk.ResponseFormatTextJSONSchemaConfigParam, text_formats.JsonSchema, "text.format."),
    (sdk.FunctionToolParam, tools.Function, "tools[]."),
    (sdk.ToolChoiceFunctionParam, tools.NamedFunction, "tool_choice."),
    (sdk.ToolChoiceAllowedParam, tools.AllowedTools, "tool_choice."),
    (sdk.EasyInputMessageParam, items.Message, "input[]."),
    (response_input_item_param.Message, items.Message, "input[]."),
    (sdk.ResponseOutputMessageParam, items.Message, "input[]."),
    (sdk.ResponseReasoningItemParam, items.Reasoning, "input[]."),
    (sdk.ResponseFunctionToolCallParam, items.FunctionCall, "input[]."),
    (response_input_item_param.FunctionCallOutput, items.FunctionCallOutput, "input[]."),
    (sdk.ResponseInputTextParam, items.InputText, "input[].content[]."),
    (sdk.ResponseInputImageParam, items.InputImage, "input[].content[]."),
    (sdk.ResponseInputImageContentParam, items.InputImage, "input[].output[]."),
    (sdk.ResponseOutputTextParam, items.OutputText, "input[].content[]."),
    (sdk.ResponseOutputRefusalParam, items.Refusal, "input[].content[]."),
]


def literals(annotation: Any) -> set[str]:
    """All strings in the literals anywhere in an annotation."""
    parts = get_args(annotation)
    return {part for part in parts if isinstance(part, str)} | {text for part in parts for text in literals(part)}


def types_of(union: Any) -> set[str]:
    """The `type`s of a union of the SDK's typed dictionaries."""
    hints = [get_type_hints(member).get("type") for member in get_args(union) if hasattr(member, "__annotations__")]
    return {name for hint in hints for name in literals(hint)}


@pytest.mark.parametrize(("theirs", "ours", "place"), TYPES, ids=lambda value: getattr(value, "__name__", value))
def test_every_field_is_served_or_refused(theirs: Any, ours: type[msgspec.Struct], place: str) -> None:
    names = {place + name for name in theirs.__annotations__} - {place + "type"}
    served = {place + field for field in ours.__struct_fields__}
    assert names - served - not_served.FIELDS.keys() == set()
    assert served & not_served.FIELDS.keys() == set()


@pytest.mark.parametrize(
    ("annotation", "place"),
    [
        (sdk.ResponseIncludable, "include[]"),
        (get_type_hints(response_create_params.ResponseCreateParamsBase)["service_tier"], "service_tier"),
        (get_type_hints(ReasoningParam)["effort"], "reasoning.effort"),
        (get_type_hints(ReasoningParam)["summary"], "reasoning.summary"),
        (get_type_hints(sdk.ResponseTextConfigParam)["verbosity"], "text.verbosity"),
        (sdk.ToolChoiceOptions, "tool_choice"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_value_is_served_or_refused(annotation: Any, place: str) -> None:
    refused = not_served.VALUES.get(place, {}).keys()
    served = set(choices(CreateRequest)[place])
    assert literals(annotation) - served - refused == set()
    assert served & refused == set()


def test_every_item_type_is_served_or_refused() -> None:
    served = {member.__struct_config__.tag for member in get_args(items.Item)}
    refused = not_served.VALUES["input[].type"].keys()
    assert types_of(sdk.ResponseInputItemParam) == served | refused


def test_every_content_type_is_served_or_refused() -> None:
    assert types_of(sdk.ResponseInputContentParam) == {"input_text", "input_image", "input_file"}
    for place in ("input[].content[].type", "input[].output[].type"):
        assert not_served.VALUES[place].keys() == {"input_file"}


def test_every_tool_type_is_served_omitted_or_refused() -> None:
    refused = not_served.VALUES["tools[].type"].keys()
    assert types_of(tool_param.ToolParam) == {"function"} | not_served.HOSTED_TOOLS | refused


def test_every_forced_tool_type_is_served_or_refused() -> None:
    for kind in types_of(response_create_params.ToolChoice) - {"function", "allowed_tools"}:
        with pytest.raises(ApiError, match="can't force"):
            tools.check_forced_type({"type": kind})


def test_every_text_format_is_served() -> None:
    assert types_of(ResponseFormatTextConfigParam) == {"text", "json_schema", "json_object"}


def test_every_refusal_says_why() -> None:
    for place, values in not_served.VALUES.items():
        for value, reason in values.items():
            error = bad_value(place, value)
            assert error.code == "unsupported_parameter"
            assert reason in error.message
