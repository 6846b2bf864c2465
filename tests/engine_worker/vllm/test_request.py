"""An accepted body becomes what vLLM is asked for, with nothing lost and nothing ignored."""

from typing import Any

import pytest

from engine_worker.engines.interface import TurnRejected
from engine_worker.engines.vllm.request import (
    SHORT_BYTES_MAX,
    EngineRequest,
    Serving,
    is_short,
    normalized,
    to_engine_request,
)

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}
CLOCK = {"type": "function", "name": "clock", "description": "Tells the time.", "strict": True}
DEMO = Serving()
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}


def mapped(serving: Serving = DEMO, **body: Any) -> EngineRequest:
    return to_engine_request({"model": "m", "input": "Hi", **body}, serving)


def rejection_of(serving: Serving = DEMO, **body: Any) -> str | None:
    with pytest.raises(TurnRejected) as rejected:
        mapped(serving, **body)
    assert rejected.value.error.type == "invalid_request_error"
    return rejected.value.error.param


def tool_names(request: EngineRequest) -> list[str]:
    return [tool["name"] for tool in request.fields.get("tools", ())]


# --- input ---


def test_a_string_is_a_user_message() -> None:
    assert mapped().items == ({"type": "message", "role": "user", "content": "Hi"},)


def test_parts_of_text_become_one_string() -> None:
    user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in ("a", "b")]}
    parts = [{"type": "output_text", "text": "c", "annotations": []}, {"type": "refusal", "refusal": "d"}]
    assistant = {"type": "message", "role": "assistant", "content": parts, "id": "msg_1", "status": "completed"}
    assert [item["content"] for item in normalized([user, assistant])] == ["a\nb", "c\nd"]


def test_images_stay_parts() -> None:
    parts = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": "data:x"}]
    (item,) = normalized([{"type": "message", "role": "user", "content": parts}])
    assert item["content"] == [parts[0], {"type": "input_image", "image_url": "data:x", "detail": "auto"}]


def test_a_call_and_its_output_keep_what_the_model_is_shown() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "sunny"}]}
    items = normalized([{**call, "id": "fc_1", "status": "completed"}, {**output, "id": "fco_1"}])
    assert items == (call, {**output, "output": "sunny"})


def test_reasoning_is_its_content_or_else_its_summary() -> None:
    content = [{"type": "reasoning_text", "text": "think"}]
    summary = [{"type": "summary_text", "text": "short"}]
    sent: list[dict[str, Any]] = [
        {"type": "reasoning", "summary": summary, "content": content},
        {"type": "reasoning", "summary": summary},
        {"type": "reasoning", "summary": []},
    ]
    assert [item["text"] for item in normalized(sent)] == ["think", "short"]


def test_leading_system_messages_join_the_instructions() -> None:
    messages = [
        {"type": "message", "role": role, "content": role} for role in ("developer", "system", "user", "developer")
    ]
    request = mapped(input=messages, instructions="Be brief.")
    assert request.instructions == "Be brief.\n\ndeveloper\n\nsystem"
    assert [item["role"] for item in request.items] == ["user", "developer"]


def test_no_instructions_are_none() -> None:
    assert mapped().instructions is None
    assert mapped(instructions="").instructions is None


# --- tools ---


def test_hosted_tools_are_kept_from_the_model() -> None:
    request = mapped(tools=[{"type": "web_search"}, WEATHER])
    assert tool_names(request) == ["weather"]
    assert request.fields["tool_choice"] == "auto"


def test_a_chosen_tool_is_not_strict_unless_it_says_so() -> None:
    request = mapped(tools=[{"type": "web_search"}, WEATHER, CLOCK])
    assert [tool["strict"] for tool in request.fields["tools"]] == [False, True]
    assert request.fields["tools"][1]["parameters"] == {"type": "object", "properties": {}}
    assert list(request.schemas) == ["tools[2].parameters"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_a_forced_call_follows_its_schema(choice: Any) -> None:
    request = mapped(tools=[WEATHER], tool_choice=choice)
    assert request.fields["tool_choice"] == choice
    assert request.fields["tools"][0]["strict"] is True
    assert request.schemas == {"tools[0].parameters": WEATHER["parameters"]}


def test_none_shows_the_model_no_tools() -> None:
    assert "tools" not in mapped(tools=[WEATHER], tool_choice="none").fields


@pytest.mark.parametrize(("mode", "choice"), [({}, "auto"), ({"mode": "required"}, "required")])
def test_allowed_tools_are_all_the_model_is_shown(mode: dict[str, str], choice: str) -> None:
    allowed = {"type": "allowed_tools", "tools": [{"type": "function", "name": "clock"}], **mode}
    request = mapped(tools=[WEATHER, CLOCK], tool_choice=allowed)
    assert tool_names(request) == ["clock"]
    assert request.fields["tool_choice"] == choice
    assert list(request.schemas) == ["tools[1].parameters"]


def test_parallel_calls_can_be_refused() -> None:
    assert mapped(tools=[WEATHER]).parallel_tool_calls
    request = mapped(tools=[WEATHER], parallel_tool_calls=False)
    assert not request.parallel_tool_calls
    assert request.fields["parallel_tool_calls"] is False


def test_tools_need_a_tool_parser() -> None:
    serving = Serving(tool_calls=False)
    assert rejection_of(serving, tools=[WEATHER]) == "tools"
    assert mapped(serving, tools=[WEATHER], tool_choice="none").fields.get("tools") is None
    assert mapped(serving, tools=[{"type": "web_search"}]).fields.get("tools") is None


# --- sampling, format, reasoning, scheduling ---


def test_sampling_fields_pass_through() -> None:
    sampling: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "presence_penalty": 1.0, "frequency_penalty": -1.0}
    sampling |= {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "seed": 7, "stop": ["x"]}
    sampling |= {"ignore_eos": True, "cache_salt": "s"}
    assert mapped(**sampling).fields.items() >= sampling.items()


def test_lengths_stand_beside_the_fields() -> None:
    request = mapped(max_output_tokens=100, min_tokens=5, truncation="auto")
    assert (request.max_output_tokens, request.min_tokens, request.drop_oldest) == (100, 5, True)
    assert request.fields["truncation"] == "disabled"  # vLLM would cut tokens off, in the middle of the template
    assert "max_output_tokens" not in request.fields


def test_logprobs_come_only_when_included() -> None:
    assert mapped(top_logprobs=3).top_logprobs is None
    request = mapped(top_logprobs=3, include=["message.output_text.logprobs"])
    assert request.top_logprobs == request.fields["top_logprobs"] == 3
    assert mapped(include=["message.output_text.logprobs"]).top_logprobs == 0


def test_text_formats() -> None:
    schema = {"type": "json_schema", "name": "person", "schema": SCHEMA}
    request = mapped(text={"format": schema})
    assert request.fields["text"] == {"format": schema}
    assert request.schemas == {"text.format.schema": SCHEMA}
    assert mapped(text={"format": {"type": "json_object"}}).fields["text"] == {"format": {"type": "json_object"}}
    assert "text" not in mapped(text={"format": {"type": "text"}}).fields
    assert "text" not in mapped(text={}).fields


def test_verbosity_is_a_variable_of_the_template() -> None:
    request = mapped(text={"verbosity": "low"})
    assert request.fields["chat_template_kwargs"]["verbosity"] == "low"


def test_effort_switches_thinking() -> None:
    off = mapped(reasoning={"effort": "none"}).fields
    assert off["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    assert "reasoning" not in off
    on = mapped(reasoning={"effort": "high"}).fields
    assert on["chat_template_kwargs"] == {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}
    assert on["reasoning"] == {"effort": "high"}


def test_absent_effort_is_the_default_one() -> None:
    assert mapped().fields["chat_template_kwargs"]["enable_thinking"] is False
    low = mapped(Serving(reasoning_effort="low"), reasoning={"summary": "auto"})
    assert low.fields["chat_template_kwargs"]["reasoning_effort"] == "low"
    assert mapped(Serving(reasoning_effort=None)).fields["chat_template_kwargs"] == {}


def test_a_model_that_always_reasons_refuses_not_to() -> None:
    serving = Serving(reasoning_effort=None, can_skip_reasoning=False)
    assert rejection_of(serving, reasoning={"effort": "none"}) == "reasoning.effort"


def test_variables_of_the_template_win_and_the_template_stays() -> None:
    request = mapped(chat_template_kwargs={"enable_thinking": True, "x": 1})
    assert request.fields["chat_template_kwargs"] == {"enable_thinking": True, "thinking": False, "x": 1}
    assert rejection_of(chat_template_kwargs={"chat_template": "x"}) == "chat_template_kwargs.chat_template"


def test_little_text_is_short_and_an_image_never_is() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "https://example.com/a.png"}]
    shown = {"type": "message", "role": "user", "content": parts}
    returned = {"type": "function_call_output", "call_id": "c", "output": parts}
    assert is_short(mapped(), SHORT_BYTES_MAX)
    assert not is_short(mapped(), SHORT_BYTES_MAX + 1)
    assert is_short(mapped(input=[{**shown, "content": parts[:1]}]), 100)
    assert not is_short(mapped(input=[shown]), 100)
    assert not is_short(mapped(input=[returned]), 100)


def test_priority_needs_a_priority_policy() -> None:
    assert rejection_of(priority=1) == "priority"
    assert mapped(priority=0, service_tier="priority").priority == 0


@pytest.mark.parametrize(
    ("body", "priority"),
    [({"priority": 5, "service_tier": "flex"}, 5), ({"service_tier": "flex"}, 1), ({"service_tier": "priority"}, -1)],
)
def test_priority_or_else_the_tier_orders_the_queue(body: dict[str, Any], priority: int) -> None:
    assert mapped(Serving(priorities=True), **body).priority == priority
    assert mapped(Serving(priorities=True), service_tier="auto").priority == 0
