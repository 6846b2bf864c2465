"""One turn from its first output to its last: what vLLM's outputs and parsers bring becomes records."""

import logging
from collections.abc import Iterator
from typing import Final

from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.logprobs import Logprob

from engine_worker.engines.interface import Emit
from engine_worker.engines.vllm.internals import is_thought_over, only_text_follows
from engine_worker.engines.vllm.logprobs import LogprobsOfText
from engine_worker.engines.vllm.output import Output
from engine_worker.engines.vllm.rendering import RenderedTurn
from engine_worker.engines.vllm.trimming import NewlineTrimmer
from protocol.records import (
    Delta,
    ErrorDetail,
    FinishReason,
    ReasoningDelta,
    Step,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    TurnFinished,
    Usage,
)

logger = logging.getLogger(__name__)

_LOGPROB_MIN: Final = -9999.0
"""Stands for a probability of zero, whose logarithm JSON can't write."""
_REASONS: Final[dict[str, FinishReason]] = {"stop": "stop", "length": "length", "repetition": "stop"}
"""vLLM's reasons that are an end in order; it stops a model that repeats itself only when told to."""
_PARSER_FAILED: Final = ErrorDetail("server_error", "output_unreadable", "The model's output could not be read.")
_ENGINE_FAILED: Final = ErrorDetail("server_error", "engine_error", "The engine could not finish this request.")


class RunningTurn:
    """A queued turn. Each output given to `take` becomes a `Step`, and the last one a `TurnFinished` too.

    `engine_id` is what vLLM calls it; `aborted` is set when its end is asked for.
    """

    def __init__(self, response_id: str, engine_id: str, rendered: RenderedTurn, emit: Emit) -> None:
        self.response_id = response_id
        self.engine_id = engine_id
        self.finished = False
        self.aborted = False
        self._rendered = rendered
        self._emit = emit
        self._token_ids: list[int] = []
        self._cached_tokens = 0
        self._reasoned = False
        self._is_text = False
        """Whether all that comes is text, with nothing in it for the parser to look for."""
        self._trimmer = NewlineTrimmer()
        self._logprobs = LogprobsOfText()

    @property
    def holds_logprobs(self) -> bool:
        """Whether there are tokens whose text, and so whose log-probabilities, may come with a later output."""
        return bool(self._logprobs)

    def take(self, output: Output) -> None:
        """Emit what this output brought."""
        token_ids = tuple(output.token_ids)
        self._token_ids += token_ids
        self._cached_tokens = output.cached_tokens
        try:
            deltas = self._deltas(output)
        except Exception:  # Parsers are many, and this runs where the outputs of every request are read.
            logger.exception("the output parser failed on %s", self.response_id)
            self._emit(self.response_id, Step(token_ids))
            self._finish("error", _PARSER_FAILED)
            return
        if token_ids or deltas:
            self._emit(self.response_id, Step(token_ids, deltas))
        if output.finish_reason is not None:
            self._end(output.finish_reason)

    def _end(self, vllm_reason: str) -> None:
        if self.aborted:
            self._finish("aborted")
        elif vllm_reason in _REASONS:
            self._finish(_REASONS[vllm_reason])
        else:
            self._finish("error", _ENGINE_FAILED)

    def _finish(self, reason: FinishReason, error: ErrorDetail | None = None) -> None:
        self.finished = True
        self._emit(self.response_id, TurnFinished(reason, self._usage(), error))

    def _usage(self) -> Usage:
        parser = self._rendered.parser
        # Counting may parse the whole output once more, which is no use where no reasoning came out of it.
        reasoning_tokens = parser.count_reasoning_tokens(self._token_ids) if parser and self._reasoned else 0
        return Usage(
            input_tokens=len(self._rendered.prompt_token_ids),
            cached_tokens=self._cached_tokens,
            output_tokens=len(self._token_ids),
            reasoning_tokens=reasoning_tokens,
        )

    def _deltas(self, output: Output) -> tuple[Delta, ...]:
        rendered = self._rendered
        if rendered.top_logprobs is not None:
            self._logprobs.add(_token_logprobs(output, rendered.top_logprobs))
        parser = rendered.parser
        if self._is_text or parser is None:
            return self._text(output.text)
        message = parser.parse_delta(
            output.text,
            list(output.token_ids),
            rendered.request,
            rendered.prompt_token_ids,
            finished=output.finish_reason is not None,
        )
        self._is_text = only_text_follows(parser)
        if message is None:
            return self._end_of_thought() if self._trimmer.in_reasoning and is_thought_over(parser) else ()
        if message.reasoning or message.tool_calls:
            return tuple(self._parsed(message))
        return self._text(message.content)

    def _text(self, text: str | None) -> tuple[Delta, ...]:
        """Most outputs are this and no more."""
        if not text:
            return ()
        after_reasoning = self._trimmer.in_reasoning
        if shown := self._trimmer.text(text):
            return (TextDelta(shown, self._logprobs.take(shown)),)
        thought_end = self._end_of_thought() if after_reasoning else ()
        return (*thought_end, TextDelta("")) if self._is_text else thought_end

    def _end_of_thought(self) -> tuple[Delta, ...]:
        """Told as soon as it is known, for what comes next may take a while."""
        self._trimmer.end_reasoning()
        return (ReasoningDelta("", ended=True),)

    def _parsed(self, message: DeltaMessage) -> Iterator[Delta]:
        if message.reasoning:
            self._reasoned = self._trimmer.in_reasoning = True
            yield ReasoningDelta(message.reasoning)
        if message.content:
            yield from self._text(message.content)
        else:
            self._logprobs.clear()
        for call in message.tool_calls or ():
            if call.function is None or (call.index and self._rendered.request.parallel_tool_calls is False):
                continue
            if call.function.name or call.function.arguments:
                yield ToolCallDelta(call.index, call.function.name or None, call.function.arguments or "")


def _token_logprobs(output: Output, top: int) -> Iterator[TokenLogprob]:
    for token_id, position in zip(output.token_ids, output.logprobs or (), strict=False):
        best = sorted(position.values(), key=lambda candidate: candidate.logprob, reverse=True)[:top]
        chosen = position[token_id]
        alternatives = tuple(TopLogprob(*_text_and_logprob(candidate)) for candidate in best)
        yield TokenLogprob(*_text_and_logprob(chosen), alternatives)


def _text_and_logprob(candidate: Logprob) -> tuple[str, float]:
    return candidate.decoded_token or "", max(candidate.logprob, _LOGPROB_MIN)
