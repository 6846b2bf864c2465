"""From a request to what the engine takes, by vLLM's own code: template, tokens, grammar, sampling, parser."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from openai.types.responses import ResponseFunctionToolCall, ResponseReasoningItem
from openai.types.responses.response_reasoning_item import Content as ReasoningText
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.inputs.engine import tokens_input
from vllm.parser import Parser
from vllm.parser.abstract_parser import DelegatingParser
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams
from vllm.v1.engine.async_llm import AsyncLLM

from engine_worker.engines.vllm.inline import inline
from engine_worker.engines.vllm.prepared import PreparedTurn
from engine_worker.engines.vllm.rejection import is_too_long, too_long
from engine_worker.engines.vllm.request import EngineRequest, Json, is_short, refused
from engine_worker.engines.vllm.truncation import Shortening

_NOT_PARSED: Final = frozenset({"input", "instructions", "structured_outputs"})
"""Fields of vLLM's request that are done with once it is rendered: output is parsed without them."""


class RenderedTurn(msgspec.Struct, frozen=True):
    """A turn ready for the engine.

    `request` is vLLM's, as rendering changed it: parsers read the tools and the choice from it. `parser` is None where
    the model has neither a reasoning nor a tool parser; `parser_options` are the template's variables, by which parsers
    know whether the model thinks. `priority` is the scheduler's: lower runs earlier.
    """

    request: ResponsesRequest
    engine_input: Any
    prompt_token_ids: list[int]
    sampling: SamplingParams
    parser: Parser | None
    parser_options: Json
    priority: int

    @property
    def top_logprobs(self) -> int | None:
        """How many alternatives to give for each token of text; None when no logprobs are asked for."""
        wanted: int | None = self.sampling.logprobs
        return wanted

    @property
    def reasoning_parser_kwargs(self) -> Json | None:
        """By which EngineCore's reasoning parser knows whether the model thinks; None where there is none."""
        reasons = self.parser is not None and self.parser.reasoning_parser is not None
        return {"chat_template_kwargs": self.parser_options} if reasons else None

    def prepared(self, fingerprint: str) -> PreparedTurn:
        """What to keep of it for a resume by an engine of the same `fingerprint`."""
        return PreparedTurn(
            fingerprint=fingerprint,
            sampling=self.sampling,
            request=self.request.model_dump_json(by_alias=True, exclude_unset=True, exclude=_NOT_PARSED).encode(),
            parser_options=self.parser_options,
            cache_salt=self.engine_input.get("cache_salt"),
            priority=self.priority,
            text_only=self.engine_input["type"] == "token",
        )


class TurnRenderer:
    """Renders the turns of one model."""

    def __init__(self, llm: AsyncLLM, online: OnlineRenderer) -> None:
        self._llm = llm
        self._online = online
        self._inline = inline(online)
        self._parser_without_tools = _without_tools(online.parser)
        self._context_tokens: int = llm.model_config.max_model_len
        self._sampling_defaults: dict[str, Any] = llm.model_config.get_diff_sampling_param()

    async def render(self, request: EngineRequest, sent_bytes: int) -> RenderedTurn:
        """Render `request`, without its oldest items if it asks for that and does not fit otherwise.

        It came in so many bytes; a short one is rendered without giving up the loop.

        Raises `TurnRejected`, and exceptions of vLLM's (see `rejection.py`).
        """
        online = self._inline if is_short(request, sent_bytes) else self._online
        try:
            return await self._render(online, request, request.items, room=1)
        except Exception as error:
            if not request.drop_oldest or not is_too_long(error):
                raise
            shortened = await self._render_shortened(request)
            if shortened is None:
                raise
            return shortened

    async def _render_shortened(self, request: EngineRequest) -> RenderedTurn | None:
        """Drop as few of the oldest items as leave room for an answer: the one asked for, or an eighth of the context.

        Bisects, since counting tokens means rendering. None if even the newest items are too many.
        """
        room = min(request.max_output_tokens or self._context_tokens // 8, self._context_tokens // 2)
        shortening = Shortening(request.items)
        fitting: RenderedTurn | None = None
        fewest, most = 1, len(shortening)
        while fewest <= most:
            middle = (fewest + most) // 2
            try:
                fitting = await self._render(self._online, request, shortening.without_oldest(middle), room)
            except Exception as error:
                if not is_too_long(error):
                    raise
                fewest = middle + 1
            else:
                most = middle - 1
        return fitting

    async def _render(
        self, online: OnlineRenderer, request: EngineRequest, items: Sequence[Json], room: int
    ) -> RenderedTurn:
        responses = _responses_request(request, items)
        rendered = await online.render_responses(responses)
        if isinstance(rendered, ErrorResponse):
            raise refused(rendered.error.param, rendered.error.message)
        prompt_token_ids: list[int] = rendered.engine_input["prompt_token_ids"]
        if len(prompt_token_ids) + room > self._context_tokens:
            raise too_long(
                f"This model's context is {self._context_tokens} tokens, for input and output together; the input has "
                f"{len(prompt_token_ids)}, which leaves no room for an answer. Send a shorter input."
            )
        options: Json = self._online.effective_chat_template_kwargs(responses)
        return RenderedTurn(
            request=responses,
            engine_input=rendered.engine_input,
            prompt_token_ids=prompt_token_ids,
            sampling=self._sampling(request, responses, len(prompt_token_ids)),
            parser=self._parser(responses, options, prompt_token_ids),
            parser_options=options,
            priority=request.priority,
        )

    def restore(self, prepared: PreparedTurn, prompt_token_ids: Sequence[int]) -> RenderedTurn:
        """The turn that was `prepared`, without rendering it again."""
        responses = ResponsesRequest.model_validate({**msgspec.json.decode(prepared.request), "input": ""})
        prompt = list(prompt_token_ids)
        return RenderedTurn(
            request=responses,
            engine_input=tokens_input(prompt, cache_salt=prepared.cache_salt),
            prompt_token_ids=prompt,
            sampling=prepared.sampling,
            parser=self._parser(responses, prepared.parser_options, prompt),
            parser_options=prepared.parser_options,
            priority=prepared.priority,
        )

    def _sampling(self, request: EngineRequest, responses: ResponsesRequest, prompt_tokens: int) -> SamplingParams:
        max_tokens = get_max_tokens(
            self._context_tokens, request.max_output_tokens, prompt_tokens, self._sampling_defaults
        )
        if request.min_tokens > max_tokens:
            message = f"'min_tokens' is {request.min_tokens}, but there is room for {max_tokens} output tokens only."
            raise refused("min_tokens", message)
        sampling = responses.to_sampling_params(max_tokens, self._sampling_defaults)
        sampling.min_tokens = request.min_tokens
        sampling.output_kind = RequestOutputKind.DELTA
        return sampling

    def _parser(self, responses: ResponsesRequest, options: Json, prompt_token_ids: list[int]) -> Parser | None:
        parser_class = self._online.parser if responses.tools else self._parser_without_tools
        if parser_class is None:
            return None
        parser = parser_class(
            self._llm.get_tokenizer(),
            responses.tools,
            chat_template_kwargs=options,
            model_config=self._llm.model_config,
        )
        parser.set_prompt_token_ids(prompt_token_ids)
        return parser

    def refused_schema(self, request: EngineRequest) -> str | None:
        """The path of the first of the request's schemas that vLLM can't make a grammar of."""
        config = self._llm.vllm_config
        for path, schema in request.schemas.items():
            sampling = SamplingParams(structured_outputs=StructuredOutputsParams(json=schema))
            try:
                sampling.verify(config.model_config, None, config.structured_outputs_config, self._llm.get_tokenizer())
            except Exception:  # noqa: BLE001 - whatever it was, it was this schema
                return path
        return None


def _without_tools(parser: type[Parser] | None) -> type[Parser] | None:
    """The parser for requests that offer no tool: what looks like a call is text, and nobody need look for one.

    One that is made for a model as a whole, and not put together of two, stays as it is.
    """
    if parser is None or not issubclass(parser, DelegatingParser):
        return parser
    return type(parser.__name__, (parser,), {"tool_parser_cls": None})


def _responses_request(request: EngineRequest, items: Sequence[Json]) -> ResponsesRequest:
    """vLLM's request, anew each time, for rendering changes it.

    The input is put in afterwards: its validation is slow for long inputs and takes items of union types for others.
    """
    responses = ResponsesRequest.model_validate({**request.fields, "input": "", "instructions": request.instructions})
    responses.input = [_vllm_item(item) for item in items]
    return responses


def _vllm_item(item: Json) -> Any:
    """An item as an object of the type that vLLM looks for, where it looks for one."""
    match item["type"]:
        case "function_call":
            return ResponseFunctionToolCall(**item)
        case "reasoning":
            content = [ReasoningText(type="reasoning_text", text=item["text"])]
            return ResponseReasoningItem(id="", type="reasoning", summary=[], content=content)
        case _:
            return item
