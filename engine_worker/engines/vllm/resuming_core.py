"""Resuming a turn, as far as it touches private parts of vLLM in vLLM's own processes (see `resuming.py`).

vLLM looks these classes up by name, in whichever process and however that was started. A request that is not resumed
pays for a look into its sampling parameters when it leaves the queue.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, Final

import torch
from vllm.sampling_params import SamplingParams
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

RESUMED_OUTPUT: Final = "resumed_output"
"""The extra sampling argument that holds the token ids which a resumed request has generated already."""


def _resumed_output(sampling: SamplingParams | None) -> Sequence[int]:
    extra = sampling.extra_args if sampling is not None else None
    return extra.get(RESUMED_OUTPUT, ()) if extra else ()


# --- in EngineCore ---


class _Resuming(Scheduler):
    """Gives a resumed request its output once it may be scheduled."""

    def _handle_blocked_waiting_request(self, request: Request) -> bool:
        ready: bool = super()._handle_blocked_waiting_request(request)
        if ready and not request.num_output_tokens:
            output = _resumed_output(request.sampling_params)
            if output:
                return self._take_output(request, output)
        return ready

    def _take_output(self, request: Request, output: Sequence[int]) -> bool:
        # The statistics of a first prefill allow for no more than the prompt to be found in the cache.
        request.prefill_stats = None
        if not request.use_structured_output:
            request.append_output_token_ids(list(output))
            return True
        for token_id in output:  # one by one, as they were sampled: a grammar may apply from a certain token on
            request.append_output_token_ids(token_id)
            if not self.structured_output_manager.accept_tokens(request, [token_id]):
                # Ends this request as one whose grammar could not be compiled, and no other.
                request.structured_output_request.grammar = ValueError("the grammar does not take the resumed output")
                request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
                ready: bool = super()._handle_blocked_waiting_request(request)
                return ready
        return True


class ResumingScheduler(_Resuming, Scheduler):
    """vLLM's scheduler, for resumed requests too."""


class ResumingAsyncScheduler(_Resuming, AsyncScheduler):
    """vLLM's scheduler that runs a step ahead, for resumed requests too."""


# --- in each worker ---


class ResumingWorker:
    """Mixed into vLLM's class of workers (`--worker-extension-cls`), whichever the device needs."""

    model_runner: Any

    def take_resumed_requests(self) -> None:
        """Let this process's model runner know the output of resumed requests. Raises `RuntimeError`."""
        # Not at the top: only a worker's process needs it, and it takes long to import.
        from vllm.v1.worker import gpu_model_runner

        state = gpu_model_runner.CachedRequestState
        if not {"output_token_ids", "sampling_params", "generator"} <= {field.name for field in fields(state)}:
            raise RuntimeError("this vLLM's model runner keeps a request's state in another way")
        gpu_model_runner.CachedRequestState = _with_output(state, self.model_runner)


def _with_output(new_state: Callable[..., Any], runner: Any) -> Callable[..., Any]:
    @wraps(new_state)
    def make(**arguments: Any) -> Any:
        state = new_state(**arguments)
        output = _resumed_output(state.sampling_params)
        if output:
            state.output_token_ids.extend(output)
            if state.generator is not None:
                _draw(state.generator, len(output), runner.sampler.topk_topp_sampler, runner.input_batch.vocab_size)
        return state

    return make


def _draw(generator: torch.Generator, times: int, sampler: Any, vocabulary: int) -> None:
    """Draw from a seeded generator what `times` tokens took from it (`TopKTopPSampler`)."""
    if sampler.forward == sampler.forward_cpu and not sampler.use_fp64_gumbel:
        for _ in range(times):
            torch.randint(0, 2**31, (1,), generator=generator, dtype=torch.long)
        return
    kind = torch.float64 if sampler.use_fp64_gumbel else torch.float32
    noise = torch.empty(vocabulary, dtype=kind, device=generator.device)
    for _ in range(times):
        noise.exponential_(generator=generator)
