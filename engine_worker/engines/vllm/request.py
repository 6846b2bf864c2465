"""What vLLM is asked for, made from an accepted create body: pure, and without vLLM.

The body was validated by a frontend, so only what depends on how this engine was started is refused here.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from engine_worker.engines.interface import TurnRejected
from protocol.records import ErrorDetail

Json = dict[str, Any]

SHORT_BYTES_MAX: Final = 4096
"""Of a request's JSON: the demo model's template and tokenizer take 1.5 ms for as much."""
LOGPROBS: Final = "message.output_text.logprobs"
_SAME_FIELDS: Final = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "ignore_eos",
    "cache_salt",
    "parallel_tool_calls",
)
"""Fields that vLLM's `ResponsesRequest` has with the same name and meaning."""
_TIER_PRIORITIES: Final[Mapping[str, int]] = {"priority": -1, "flex": 1}
"""vLLM's priority of a service tier, where the request sets none of its own; lower runs earlier, 0 is the default."""
_NO_PARAMETERS: Final[Json] = {"type": "object", "properties": {}}


class Serving(msgspec.Struct, frozen=True):
    """How this engine serves its model.

    `reasoning_effort` is what an absent `reasoning.effort` means (None: the model's own default). `can_skip_reasoning`
    is false for models that always reason; `tool_calls` says that calls can be parsed; `priorities` that the scheduler
    has a priority policy.
    """

    reasoning_effort: str | None = "none"
    can_skip_reasoning: bool = True
    tool_calls: bool = True
    priorities: bool = False


class EngineRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request in vLLM's terms.

    `fields` fill a `ResponsesRequest`, but for its instructions and input; `items` are input items in one spelling
    (`normalized`). What that request has no field for stands beside it: `min_tokens`, `priority`, and
    `max_output_tokens`, which is bounded once the prompt's length is known. `top_logprobs` is None when no logprobs are
    asked for. `schemas` maps the path of each JSON schema that output must follow to the schema.
    """

    instructions: str | None
    items: tuple[Json, ...]
    fields: Json
    max_output_tokens: int | None = None
    min_tokens: int = 0
    priority: int = 0
    top_logprobs: int | None = None
    drop_oldest: bool = False
    schemas: Mapping[str, Json] = {}

    @property
    def parallel_tool_calls(self) -> bool:
        """Whether more than one call may come out of this turn."""
        return self.fields.get("parallel_tool_calls") is not False


def to_engine_request(body: Mapping[str, Any], serving: Serving) -> EngineRequest:
    """Map an accepted create body. Raises `TurnRejected` for what this engine was not started to do."""
    tools, choice = _tools(body)
    if tools and not serving.tool_calls:
        raise refused("tools", "This model is served without a tool parser (--tool-call-parser); send no tools.")
    instructions, items = _instructions_and_items(body)
    logprobs = LOGPROBS in body.get("include", ())
    top_logprobs = body.get("top_logprobs", 0) if logprobs else None
    fields = {name: body[name] for name in _SAME_FIELDS if name in body}
    fields |= _reasoning(body, serving) | _text_format(body)
    fields |= {"model": body["model"], "stream": True, "truncation": "disabled"}
    if tools:
        fields |= {"tools": [tool for _, tool in tools], "tool_choice": choice}
    if logprobs:
        fields |= {"include": [LOGPROBS], "top_logprobs": top_logprobs}
    return EngineRequest(
        instructions=instructions,
        items=items,
        fields=fields,
        max_output_tokens=body.get("max_output_tokens"),
        min_tokens=body.get("min_tokens", 0),
        priority=_priority(body, serving),
        top_logprobs=top_logprobs,
        drop_oldest=body.get("truncation") == "auto",
        schemas=_schemas(fields, tools),
    )


def refused(param: str | None, message: str, code: str = "invalid_value") -> TurnRejected:
    """A rejection that is the client's fault, at `param`."""
    return TurnRejected(ErrorDetail("invalid_request_error", code, message, param))


def is_short(request: EngineRequest, sent_bytes: int) -> bool:
    """Whether a request that came in so many bytes takes no time to render: little text, and no image to fetch."""
    return sent_bytes <= SHORT_BYTES_MAX and not any(
        isinstance(item.get(field), list) for item in request.items for field in ("content", "output")
    )


# --- input ---


def _instructions_and_items(body: Mapping[str, Any]) -> tuple[str | None, tuple[Json, ...]]:
    """Instructions with the leading system and developer messages joined to them, and the other items.

    Many templates take one system message, and only as the first.
    """
    instructions = [body["instructions"]] if body.get("instructions") else []
    items = normalized(body["input"])
    leading = 0
    for item in items:
        if item.get("role") not in ("system", "developer") or not isinstance(item["content"], str):
            break
        instructions.append(item["content"])
        leading += 1
    return "\n\n".join(instructions) or None, items[leading:]


def normalized(sent: str | Sequence[Mapping[str, Any]]) -> tuple[Json, ...]:
    """Input items with the fields the model is shown and no others, and text as plain strings where it is all text."""
    if isinstance(sent, str):
        return ({"type": "message", "role": "user", "content": sent},)
    return tuple(item for item in map(_normalized_item, sent) if item is not None)


def _normalized_item(item: Mapping[str, Any]) -> Json | None:
    match item["type"]:
        case "message":
            return {"type": "message", "role": item["role"], "content": _content(item["content"])}
        case "function_call":
            return {"type": "function_call", **{key: item[key] for key in ("call_id", "name", "arguments")}}
        case "function_call_output":
            output = _content(item["output"])
            return {"type": "function_call_output", "call_id": item["call_id"], "output": output}
        case "reasoning":
            # A summary stands in for reasoning that is not there; with neither there is nothing to show.
            text = _joined(item.get("content") or item.get("summary") or ())
            return {"type": "reasoning", "text": text} if text else None
        case other:
            raise refused("input", f"This engine reads no input items of type '{other}'.")


def _content(sent: str | Sequence[Mapping[str, Any]]) -> str | list[Json]:
    if isinstance(sent, str):
        return sent
    if any(part["type"] == "input_image" for part in sent):
        return [{"detail": "auto", **part} if part["type"] == "input_image" else dict(part) for part in sent]
    return _joined(sent)


def _joined(parts: Iterable[Mapping[str, Any]]) -> str:
    return "\n".join(part["refusal"] if part["type"] == "refusal" else part["text"] for part in parts)


# --- tools ---


def _tools(body: Mapping[str, Any]) -> tuple[list[tuple[str, Json]], str | Json]:
    """The functions the model may call, each with its path in the request, and vLLM's tool choice.

    Tools that OpenAI's own service would run never reach the model. A limit on the choice (`none`, `allowed_tools`) is
    kept by leaving out the others: what the model is not shown it does not call.
    """
    choice = body.get("tool_choice", "auto")
    allowed: set[str] | None = None
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        allowed = {tool["name"] for tool in choice["tools"]}
        choice = choice.get("mode", "auto")
    if choice == "none":
        return [], choice
    forced = choice != "auto"
    tools = [
        (f"tools[{index}]", _function(tool, forced))
        for index, tool in enumerate(body.get("tools", ()))
        if tool["type"] == "function" and (allowed is None or tool["name"] in allowed)
    ]
    return tools, choice


def _function(tool: Mapping[str, Any], forced: bool) -> Json:
    """A tool as vLLM takes it; only a strict one's arguments are held to its schema, and so are a forced one's."""
    return {
        "type": "function",
        "name": tool["name"],
        "description": tool.get("description"),
        "parameters": tool.get("parameters") or _NO_PARAMETERS,
        "strict": forced or bool(tool.get("strict")),
    }


# --- reasoning, format, scheduling ---


def _reasoning(body: Mapping[str, Any], serving: Serving) -> Json:
    """`reasoning` for models with their own effort levels, and the variables by which templates switch thinking.

    Thinking is always said to be on or off: some templates, and the parsers that go with them, take silence for "on".
    """
    effort = body.get("reasoning", {}).get("effort") or serving.reasoning_effort
    if effort == "none" and not serving.can_skip_reasoning:
        raise refused("reasoning.effort", "This model always reasons; leave 'reasoning.effort' out or ask for 'low'.")
    sent = body.get("chat_template_kwargs", {})
    if "chat_template" in sent:
        raise refused("chat_template_kwargs.chat_template", "The chat template can't be sent with a request.")
    variables: Json = {}
    if effort is not None:
        variables |= {"enable_thinking": effort != "none", "thinking": effort != "none"}
    if effort not in (None, "none"):
        variables["reasoning_effort"] = effort
    verbosity = body.get("text", {}).get("verbosity")
    if verbosity is not None:
        variables["verbosity"] = verbosity
    reasoning: Json = {"reasoning": {"effort": effort}} if "reasoning_effort" in variables else {}
    return reasoning | {"chat_template_kwargs": variables | sent}


def _text_format(body: Mapping[str, Any]) -> Json:
    format_ = body.get("text", {}).get("format", {"type": "text"})
    return {} if format_["type"] == "text" else {"text": {"format": format_}}


def _schemas(fields: Json, tools: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    schemas = {f"{path}.parameters": tool["parameters"] for path, tool in tools if tool["strict"]}
    format_ = fields.get("text", {}).get("format", {})
    if format_.get("type") == "json_schema":
        schemas["text.format.schema"] = format_["schema"]
    return schemas


def _priority(body: Mapping[str, Any], serving: Serving) -> int:
    priority: int = body.get("priority", 0)
    if not serving.priorities:
        if priority:
            message = "'priority' needs an engine started with '--scheduling-policy priority'; leave it out or send 0."
            raise refused("priority", message)
        return 0
    return priority or _TIER_PRIORITIES.get(body.get("service_tier", "default"), 0)
