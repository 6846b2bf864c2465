"""Resuming a turn, as far as it touches private parts of vLLM in the actor's process.

Theory of operation
    vLLM can put off a running request ("preempt" it): it drops the request's cache and keeps its prompt and output
    tokens; later all of these are computed in one prefill, and sampling goes on. A resumed turn is made to look like
    that: a new request which has output already. Its tokens travel with the sampling parameters, and each part of vLLM
    that keeps state of its own is given them:

    the actor     detokenizer, stop strings, log-probabilities   `ResumedRequest.replay`, here
    EngineCore    the scheduler's request, and its grammar       `ResumingScheduler`, in resuming_core.py
    its workers   the row in the batch, and a seed's generator   `ResumingWorker`, in resuming_core.py
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
import vllm
from vllm.config import VllmConfig
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.core.sched.utils import check_stop
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import RequestOutputCollector
from vllm.v1.outputs import LogprobsLists
from vllm.v1.request import Request

from engine_worker.engines.vllm.internals import Sink, UnsupportedVllm, put_whole
from engine_worker.engines.vllm.rendering import RenderedTurn
from engine_worker.engines.vllm.replay import not_resumable
from engine_worker.engines.vllm.resuming_core import (
    RESUMED_OUTPUT,
    ResumingAsyncScheduler,
    ResumingScheduler,
    ResumingWorker,
)
from protocol.records import Step
from protocol.settings import BadSetting

_STEPS_PER_PASS: Final = 256
"""How many steps are replayed before the event loop gets its turn: some ten milliseconds."""


def configure(config: VllmConfig) -> None:
    """Let vLLM be started so that it can resume.

    Raises `BadSetting` where the user chose what this needs, and `UnsupportedVllm` where its model runner is not known.
    """
    scheduler, parallel = config.scheduler_config, config.parallel_config
    if config.use_v2_model_runner:
        raise UnsupportedVllm("Turns can be resumed with vLLM's first model runner only: VLLM_USE_V2_MODEL_RUNNER=0.")
    for flag, chosen in (
        ("--scheduler-cls", scheduler.scheduler_cls),
        ("--worker-extension-cls", parallel.worker_extension_cls),
    ):
        if chosen:
            raise BadSetting(f"vLLM's engine arguments: leave out {flag}, this engine has its own to resume turns")
    own = ResumingAsyncScheduler if scheduler.async_scheduling else ResumingScheduler
    scheduler.scheduler_cls = _name(own)
    parallel.worker_extension_cls = _name(ResumingWorker)


def _name(class_: type) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"


def check_resuming_parts(llm: AsyncLLM) -> None:
    """Raise `UnsupportedVllm` when a part that this module or `resuming_core` touches is gone."""
    parts = [
        (llm, "engine_core input_processor output_processor"),
        (llm.engine_core, "add_request_async"),
        (llm.input_processor, "process_inputs assign_request_id"),
        (llm.output_processor, "add_request process_outputs"),
        (Scheduler, "_handle_blocked_waiting_request"),
        (Request, "append_output_token_ids from_engine_core_request get_finished_reason num_output_tokens"),
    ]
    missing = [f"{part}.{name}" for part, names in parts for name in names.split() if not hasattr(part, name)]
    if missing:
        raise UnsupportedVllm(f"vLLM {vllm.__version__} has no {', '.join(missing)}.")


async def prepare_workers(llm: AsyncLLM) -> None:
    """Let the workers know resumed requests. Raises what they raise; to be called once, before any request."""
    await llm.collective_rpc(ResumingWorker.take_resumed_requests.__name__)


def check_resumable(llm: AsyncLLM) -> None:
    """Raise `TurnRejected` when vLLM was started to do what no resume is proven with."""
    if llm.vllm_config.speculative_config is not None:
        raise not_resumable("tokens are drawn in another way with speculative decoding")


class ResumedRequest:
    """A request that was begun elsewhere and is to go on here: opened, replayed, then queued if it goes on.

    Does what `AsyncLLM.add_request` does, with the replay in between.
    """

    def __init__(self, llm: AsyncLLM, name: str, rendered: RenderedTurn, steps: Sequence[Step]) -> None:
        """Take up the turn `rendered`, which had come as far as `steps`, under `name`. Raises as vLLM does."""
        self._llm = llm
        self._steps = steps
        self._token_ids = [token_id for step in steps for token_id in step.token_ids]
        self._request = self._core_request(name, rendered)

    def _core_request(self, name: str, rendered: RenderedTurn) -> EngineCoreRequest:
        sampling = rendered.sampling.clone()
        sampling.extra_args = (sampling.extra_args or {}) | {RESUMED_OUTPUT: self._token_ids}
        inputs = self._llm.input_processor
        request = inputs.process_inputs(
            name, rendered.engine_input, sampling, supported_tasks=("generate",), priority=rendered.priority
        )
        request.reasoning_parser_kwargs = rendered.reasoning_parser_kwargs
        inputs.assign_request_id(request)
        return request

    @property
    def engine_id(self) -> str:
        """What vLLM calls it."""
        name: str = self._request.request_id
        return name

    def open(self, sink: Sink) -> None:
        """Make it known to the output processor alone; `sink` takes its outputs from now on."""
        collector = RequestOutputCollector(self._request.sampling_params.output_kind, self.engine_id)
        collector.put = partial(put_whole, sink)
        self._llm.output_processor.add_request(self._request, None, None, 0, collector)

    async def replay(self) -> None:
        """Pass the recorded tokens through the output processor, step by step; the sink takes what comes out.

        With the last of them the request ends if it had ended there. Log-probabilities come out as zeros.
        """
        for number, step in enumerate(self._steps, 1):
            last = number == len(self._steps)
            output = EngineCoreOutput(
                request_id=self.engine_id,
                new_token_ids=list(step.token_ids),
                new_logprobs=self._blank_logprobs(step.token_ids),
                finish_reason=self._finish_reason() if last else None,
            )
            self._llm.output_processor.process_outputs([output])
            if number % _STEPS_PER_PASS == 0:
                await asyncio.sleep(0)

    def _blank_logprobs(self, token_ids: Sequence[int]) -> LogprobsLists | None:
        if self._request.sampling_params.num_logprobs is None:
            return None
        column = np.array(token_ids, dtype=np.int64).reshape(-1, 1)
        return LogprobsLists(column, np.zeros(column.shape), np.ones(len(column), dtype=np.int64))

    def _finish_reason(self) -> FinishReason | None:
        """The end that the scheduler saw in the last of the tokens, if it saw one."""
        if not self._token_ids:
            return None
        request = Request.from_engine_core_request(self._request, None)
        request.append_output_token_ids(self._token_ids)
        stopped = check_stop(request, self._llm.model_config.max_model_len)
        return request.get_finished_reason() if stopped else None

    async def queue(self) -> None:
        """Let the engine go on with it."""
        await self._llm.engine_core.add_request_async(self._request)
