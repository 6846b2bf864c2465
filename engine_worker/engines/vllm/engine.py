"""The engine the actor talks to: queues turns in vLLM, ends them, and says what it is doing."""

import asyncio
import logging
from collections.abc import Collection
from functools import partial
from multiprocessing.process import BaseProcess

import msgspec
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import RequestOutputCollector

from engine_worker.engines.interface import Emit, EngineLoad, OnDead, Resume, Turn, TurnPrepared
from engine_worker.engines.vllm.children import ChildWatch
from engine_worker.engines.vllm.internals import (
    divert,
    engine_count,
    only_scheduler_stats,
    read_outputs,
    shut_down,
    start_output_handler,
)
from engine_worker.engines.vllm.load import LoadReading
from engine_worker.engines.vllm.output import Output
from engine_worker.engines.vllm.plain_outputs import PlainOutputs
from engine_worker.engines.vllm.prefills import Prefills
from engine_worker.engines.vllm.prepared import decode_prepared, encode_prepared
from engine_worker.engines.vllm.probe import Probe
from engine_worker.engines.vllm.rejection import engine_stopped, rejection, resume_rejection
from engine_worker.engines.vllm.rendering import RenderedTurn, TurnRenderer
from engine_worker.engines.vllm.replay import Replay, not_resumable
from engine_worker.engines.vllm.request import Serving, to_engine_request
from engine_worker.engines.vllm.resuming import ResumedRequest, check_resumable
from engine_worker.engines.vllm.turn import RunningTurn
from protocol.records import TurnStarted
from protocol.reports import ModelCard

logger = logging.getLogger(__name__)


class StartedVllm(msgspec.Struct, frozen=True):
    """A running vLLM: its client, its renderer, the processes that were started for it, and its fingerprint."""

    llm: AsyncLLM
    online: OnlineRenderer
    children: Collection[BaseProcess]
    fingerprint: str


class VllmEngine:
    """An `Engine` on vLLM's AsyncLLM. Made and used on one event loop."""

    def __init__(self, started: StartedVllm, serving: Serving, model: ModelCard, on_dead: OnDead) -> None:
        self._llm = started.llm
        self._renderer = TurnRenderer(started.llm, started.online)
        self._serving = serving
        self._model = model
        self._fingerprint = started.fingerprint
        self._on_dead = on_dead
        chunks = started.llm.vllm_config.scheduler_config.enable_chunked_prefill
        self._prefills = None if chunks else Prefills()
        on_step = None if self._prefills is None else self._prefills.stepped
        self._reading = LoadReading(engine_count(started.llm), on_step)
        self._probe = Probe(started.llm, self._reading)
        self._turns: dict[str, RunningTurn] = {}
        self._aborts: set[asyncio.Task[None]] = set()
        self._over = False  # dead or closed: nothing is emitted any more
        only_scheduler_stats(started.llm, self._reading)
        self._plain = PlainOutputs(started.llm, self._reading)
        self._socket = read_outputs(started.llm, self._plain)
        self._outputs = start_output_handler(started.llm)
        self._outputs.add_done_callback(lambda _: self._died("vLLM's output handler has ended"))
        self._watch = ChildWatch(started.children, lambda name: self._died(f"vLLM's process {name} has ended"))

    def __repr__(self) -> str:
        return f"<VllmEngine {self._model.name}: {len(self._turns)} turns, {len(self._aborts)} aborts>"

    @property
    def models(self) -> tuple[ModelCard, ...]:
        """What this engine serves: one model, with its aliases."""
        return (self._model,)

    @property
    def fingerprint(self) -> str:
        """See `Engine.fingerprint`."""
        return self._fingerprint

    async def start_turn(self, turn: Turn, emit: Emit) -> None:
        """See `Engine.start_turn`."""
        if self._over:
            raise engine_stopped()
        if turn.resume is None:
            await self._begin(turn, emit)
        else:
            await self._resume(turn, turn.resume, emit)

    async def _begin(self, turn: Turn, emit: Emit) -> None:
        request = to_engine_request(msgspec.json.decode(turn.request), self._serving)
        try:
            rendered = await self._renderer.render(request, len(turn.request))
            state = encode_prepared(rendered.prepared(self._fingerprint))
            if self._prefills is not None:
                await self._prefills.admit(len(rendered.prompt_token_ids), len(self._turns))
            collector = await self._queue(_name(turn), rendered)
        except Exception as error:
            raise rejection(error, lambda: self._renderer.refused_schema(request)) from error
        if self._over:  # it died meanwhile
            raise engine_stopped()
        prompt = tuple(rendered.prompt_token_ids)
        emit(turn.response_id, TurnPrepared(turn.turn, prompt, state, rendered.priority))
        emit(turn.response_id, TurnStarted(turn.turn, len(prompt)))
        running = RunningTurn(turn.response_id, collector.request_id, rendered, emit)
        self._turns[turn.response_id] = running
        divert(self._llm, collector, partial(self._take, running), self._plain)

    async def _queue(self, name: str, rendered: RenderedTurn) -> RequestOutputCollector:
        try:
            return await self._llm.add_request(
                name,
                rendered.engine_input,
                rendered.sampling,
                priority=rendered.priority,
                reasoning_parser_kwargs=rendered.reasoning_parser_kwargs,
            )
        except BaseException:
            # It may be half in: known to vLLM, and with nobody waiting for its outputs.
            self._end_in_vllm(name, internal=False)
            raise

    async def _resume(self, turn: Turn, resume: Resume, emit: Emit) -> None:
        try:
            check_resumable(self._llm)
            prepared = decode_prepared(resume.prepared.state, self._fingerprint)
            rendered = self._renderer.restore(prepared, resume.prepared.prompt_token_ids)
            request = ResumedRequest(self._llm, _name(turn), rendered, resume.steps)
            replay = Replay(resume.steps, emit)
            running = RunningTurn(turn.response_id, request.engine_id, rendered, replay)
            await self._continue(request, replay, running)
        except Exception as error:
            raise resume_rejection(error) from error

    async def _continue(self, request: ResumedRequest, replay: Replay, running: RunningTurn) -> None:
        request.open(partial(self._take, running))
        try:
            await request.replay()
            if not replay.done:
                raise not_resumable("its steps do not come apart as they did")
            if running.finished:  # only the record of its end was missing
                return
            if running.holds_logprobs:
                raise not_resumable("log-probabilities of text that was still held back are gone")
            self._turns[running.response_id] = running
            await request.queue()
            if self._over:
                raise engine_stopped()
        except BaseException:
            running.finished = True
            self._turns.pop(running.response_id, None)
            self._end_in_vllm(running.engine_id)
            raise

    def _take(self, running: RunningTurn, output: Output | Exception) -> None:
        """Sink of one turn's outputs; an exception means that vLLM is dead, of which `_died` tells."""
        if self._over or running.finished or isinstance(output, Exception):
            return
        running.take(output)
        if running.finished:
            self._turns.pop(running.response_id, None)  # it is not there while it is replayed
            if output.finish_reason is None:
                self._end_in_vllm(running.engine_id)

    def abort(self, response_id: str) -> None:
        """See `Engine.abort`. vLLM answers with a last output, which ends the turn as any other last output does."""
        running = self._turns.get(response_id)
        if running is not None and not running.aborted:
            running.aborted = True
            self._end_in_vllm(running.engine_id)

    def _end_in_vllm(self, engine_id: str, internal: bool = True) -> None:
        task = asyncio.create_task(self._llm.abort(engine_id, internal=internal))
        self._aborts.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._aborts.discard(task)
        if not task.cancelled() and task.exception() and not self._over:
            logger.error("vLLM could not abort a request", exc_info=task.exception())

    def load(self) -> EngineLoad:
        """See `Engine.load`."""
        load = self._reading.load(len(self._turns))
        self._probe.look(load)
        return load

    async def close(self) -> None:
        """See `Engine.close`. Turns still running end without a `TurnFinished`."""
        self._over = True
        self._watch.close()
        self._outputs.cancel()
        await self._probe.close()
        await asyncio.gather(*self._aborts, return_exceptions=True)
        self._socket.close()
        self._plain.close()
        await asyncio.to_thread(shut_down, self._llm)

    def _died(self, reason: str) -> None:
        if not self._over:
            self._over = True
            self._on_dead(reason)


def _name(turn: Turn) -> str:
    """What vLLM is told to call the turn; it makes its own name of it."""
    return f"{turn.response_id}.{turn.turn}"
