"""The response object: every field, always, with the API's defaults (spec: "The response object")."""

from typing import Any, Final

import msgspec

from frontend.api.request import RequestSettings
from frontend.api.sampling import ExtendedSampling, Sampling
from frontend.api.text_formats import JsonSchema, TextConfig
from frontend.api.tools import AllowedTools, ToolChoice
from protocol.records import ErrorDetail, Opened, Usage

Json = dict[str, Any]
"""A JSON object, ready to be encoded."""

_ECHOED_WHEN_SENT: Final = (
    *(name for name in ExtendedSampling.__struct_fields__ if name not in {*Sampling.__struct_fields__, "cache_salt"}),
    "prompt_cache_retention",
)
"""Fields that neither reference knows, or only one: the response has them when the request had. `cache_salt` stays out:
it keeps others from probing the prefix cache, so it should not stand where others may read."""

_ERROR_CODE_OF_TYPE: Final = {"invalid_request_error": "invalid_prompt", "too_many_requests": "rate_limit_exceeded"}
"""`response.error.code` is a closed list in OpenAI's types; any other error is a `server_error` there."""


def new_response(opened: Opened, request: RequestSettings) -> Json:
    """The response as it stands when it is opened: in progress, or queued in the background, without output."""
    response = {
        "id": opened.response_id,
        "object": "response",
        "created_at": opened.created_at,
        "status": "queued" if opened.background else "in_progress",
        "background": opened.background,
        "completed_at": None,
        "conversation": None if request.conversation is None else {"id": request.conversation.id},
        "error": None,
        "frequency_penalty": _or(request.frequency_penalty, 0.0),
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": _or(request.metadata, {}),
        "model": request.model,
        "output": [],
        "parallel_tool_calls": _or(request.parallel_tool_calls, True),
        "presence_penalty": _or(request.presence_penalty, 0.0),
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {
            "effort": request.reasoning and request.reasoning.effort,
            "summary": request.reasoning and request.reasoning.summary,
        },
        "safety_identifier": request.safety_identifier,
        "service_tier": "default" if request.service_tier in (None, "auto") else request.service_tier,
        "store": _or(request.store, True),
        "temperature": _or(request.temperature, opened.sampling.temperature),
        "text": _text(request.text or TextConfig()),
        "tool_choice": _tool_choice(request.tool_choice),
        "tools": [_tool(tool) for tool in request.tools or ()],
        "top_logprobs": _or(request.top_logprobs, 0),
        "top_p": _or(request.top_p, opened.sampling.top_p),
        "truncation": _or(request.truncation, "disabled"),
        "usage": None,
        "user": request.user,
    }
    extensions = {name: getattr(request, name) for name in _ECHOED_WHEN_SENT}
    return response | {name: value for name, value in extensions.items() if value is not None}


def usage_json(usage: Usage) -> Json:
    """`usage` of an ended response. Writes to the prefix cache are not counted apart: they cost nothing here."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def error_json(error: ErrorDetail) -> Json:
    """`error` of a failed response."""
    code = _ERROR_CODE_OF_TYPE.get(error.type, "server_error")
    return {"code": code, "message": error.message, "type": error.type, "param": error.param}


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _text(text: TextConfig) -> Json:
    match text.format:
        case JsonSchema(name=name, schema=schema, description=description, strict=strict):
            echo: Json = {"type": "json_schema", "name": name, "description": description, "schema": schema}
            echo["strict"] = _or(strict, False)
        case None:
            echo = {"type": "text"}
        case plain:
            echo = msgspec.to_builtins(plain)
    return {"format": echo} if text.verbosity is None else {"format": echo, "verbosity": text.verbosity}


def _tool_choice(choice: ToolChoice | None) -> Any:
    if isinstance(choice, AllowedTools):
        return {"type": "allowed_tools", "mode": choice.mode or "auto", "tools": msgspec.to_builtins(choice.tools)}
    return "auto" if choice is None else msgspec.to_builtins(choice)


def _tool(tool: Json) -> Json:
    """A tool as the response shows it: a function with all its fields, any other as it was sent."""
    if tool["type"] != "function":
        return tool
    return {name: tool.get(name) for name in ("type", "name", "description", "parameters", "strict")}
