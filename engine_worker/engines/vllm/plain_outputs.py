"""The short way of plain outputs: those that bring a running request more tokens and nothing else, as nearly all do.

vLLM reads its outputs in two tasks with a queue in between, decodes whatever may come, and looks for it in some fifteen
functions. A step whose every output is plain passes all that by (`take_step`): it is decoded as what it is, detokenized
and handed over. Of any other step the plain outputs go short too (`process_outputs`); what else it brings is vLLM's, as
is a request's first output, and each that comes while vLLM has one in hand, lest anything be overtaken.
"""

from collections.abc import Callable
from operator import is_
from typing import Any, Final, Literal

import msgspec
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.detokenizer import BaseIncrementalDetokenizer
from vllm.v1.engine.output_processor import OutputProcessorOutput, RequestState

from engine_worker.engines.vllm.load import LoadReading
from engine_worker.engines.vllm.output import Output

TakeTokens = Callable[[list[int]], None]

OUTPUT: Final = ("request_id", "new_token_ids")
"""What a plain output says; its other fields are as they are by default."""
STEP: Final = ("engine_index", "outputs", "scheduler_stats", "timestamp")
"""What a step of such outputs says, and at the end of it the `weight_version`, for which nobody asks."""


class _PrefixCacheStats(msgspec.Struct, gc=False):
    queries: int
    hits: int


class _SchedulerStats(msgspec.Struct, gc=False):
    """What `LoadReading` needs of vLLM's own."""

    num_running_reqs: int
    kv_cache_usage: float
    prefix_cache_stats: _PrefixCacheStats | None


def _unsaid(whole: type[msgspec.Struct], said: tuple[str, ...]) -> list[tuple[str, Any]]:
    """The other fields of one of vLLM's messages, as types that take nothing but their defaults."""
    fields = msgspec.structs.fields(whole)[len(said) :]
    return [(field.name, str | None if field.name == "weight_version" else Literal[field.default]) for field in fields]


_NOTHING_ELSE: Final = msgspec.structs.astuple(EngineCoreOutput("", []))[len(OUTPUT) :]
_PLAIN: Final = msgspec.defstruct(
    "PlainOutput",
    [("request_id", str), ("new_token_ids", list[int]), *_unsaid(EngineCoreOutput, OUTPUT)],
    array_like=True,
    forbid_unknown_fields=True,
    gc=False,
)
_PLAIN_STEP: Final = msgspec.defstruct(
    "PlainStep",
    [
        ("engine_index", int),
        ("outputs", list[_PLAIN]),  # type: ignore[valid-type]
        ("scheduler_stats", _SchedulerStats | None),
        ("timestamp", float),
        *_unsaid(EngineCoreOutputs, STEP),
    ],
    array_like=True,
    forbid_unknown_fields=True,
    gc=False,
)


def missing_fields() -> list[str]:
    """What this module takes for granted of vLLM's messages and is not so."""
    return [
        f"{message.__name__}.{name}"
        for message, names in ((EngineCoreOutput, OUTPUT), (EngineCoreOutputs, STEP))
        for name, known in zip(names, message.__struct_fields__, strict=False)
        if name != known or not message.__struct_config__.array_like
    ]


class PlainOutputs:
    """The requests that run and whose plain outputs go the short way. Takes its places in `llm`, to be made before its
    output handler starts; `reading` is told of the steps that the handler does not see."""

    def __init__(self, llm: AsyncLLM, reading: LoadReading) -> None:
        self._reading = reading
        self._client, self._processor = llm.engine_core, llm.output_processor
        self._handed = self._client.outputs_queue
        self._get_handed = self._client.get_output_async
        self._client.get_output_async = self._get_output
        self._handler_waits = False
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(_PLAIN_STEP).decode
        self._takers: dict[str, TakeTokens] = {}
        self._process_others = self._processor.process_outputs
        self._processor.process_outputs = self._process_outputs

    def __repr__(self) -> str:
        return f"<PlainOutputs of {len(self._takers)} requests>"

    def close(self) -> None:
        """Leave vLLM as it was, lest it and this keep each other."""
        del self._client.get_output_async
        del self._processor.process_outputs

    def begin(self, state: RequestState, sink: Callable[[Output], None]) -> None:
        """Let the request go the short way from its next output on; not where its text may end at a stop string."""
        detokenizer = state.detokenizer
        if state.request_id in self._takers:
            return
        if isinstance(detokenizer, BaseIncrementalDetokenizer) and not detokenizer.stop:
            self._takers[state.request_id] = _taking(detokenizer, state.num_cached_tokens or 0, sink)

    def end(self, request_id: str) -> None:
        """The request is over."""
        self._takers.pop(request_id, None)

    def take_step(self, message: bytes) -> bool:
        """Take a message of vLLM's EngineCore, if it is a step whose outputs are plain, each of a request that goes the
        short way; whether it was. Raises what a sink raises.

        To be called while vLLM's reading task waits for a message, so that what it has read is in its queue.
        """
        if not self._handler_waits or not self._handed.empty():
            return False
        try:
            step = self._decode(message)
            takers = [self._takers[output.request_id] for output in step.outputs]
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            return False
        for take, output in zip(takers, step.outputs, strict=True):
            take(output.new_token_ids)
        self._reading.record(step.scheduler_stats, None, engine_idx=step.engine_index)
        return True

    async def _get_output(self) -> EngineCoreOutputs:
        """In the place of `AsyncMPClient.get_output_async`."""
        self._handler_waits = True
        try:
            return await self._get_handed()
        finally:
            self._handler_waits = False

    def _process_outputs(self, outputs: list[EngineCoreOutput], *rest: Any, **options: Any) -> OutputProcessorOutput:
        """In the place of `OutputProcessor.process_outputs`."""
        others = [output for output in outputs if not self._take(output)]
        return self._process_others(others, *rest, **options)

    def _take(self, output: EngineCoreOutput) -> bool:
        take = self._takers.get(output.request_id)
        if take is None or not all(map(is_, msgspec.structs.astuple(output)[len(OUTPUT) :], _NOTHING_ELSE)):
            return False
        take(output.new_token_ids)
        return True


def _taking(detokenizer: BaseIncrementalDetokenizer, cached_tokens: int, sink: Callable[[Output], None]) -> TakeTokens:
    """What `BaseIncrementalDetokenizer.update` and `get_next_output_text` do where there are no stop strings.

    They keep the text too, and copy all of it for each token. Nobody asks for what was handed over.
    """
    all_token_ids, decode = detokenizer.token_ids, detokenizer.decode_next

    def take(token_ids: list[int]) -> None:
        text = ""
        for token_id in token_ids:
            all_token_ids.append(token_id)
            text += decode(token_id)
        sink(Output(token_ids, text, None, None, cached_tokens))

    return take
