"""An engine that plays scripts: answers, timings and faults on demand, for tests and capacity planning only.

A request's `metadata.script` holds a `Script` (`engine_worker.engines.script`) as JSON; without one the answer is a
short fixed text. One timer serves all turns: each tick is an engine step, in which every turn that is due says its next
`Step`.

A resumed turn goes on with its script after the recorded steps, in words of its own salt: whoever runs a turn again
instead of resuming it, or says a recorded step again, is found out.
"""

import argparse
import asyncio
import functools
import heapq
import itertools
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from engine_worker.engines.interface import Emit, Engine, EngineLoad, OnDead, Resume, Turn, TurnPrepared, TurnRejected
from engine_worker.engines.script import Script, Voice, stamp
from protocol.records import ErrorDetail, FinishReason, ReasoningDelta, Step, TurnFinished, TurnStarted, Usage
from protocol.reports import ModelCard

logger = logging.getLogger(__name__)

EXIT_CODE = 13
"""What the process exits with on `exit_after`."""

_CATCH_UP_S = 1.0
"""A turn that is late by more than this does not make up for it."""


def build(arguments: Sequence[str], loop: asyncio.AbstractEventLoop, on_dead: OnDead) -> Engine:
    """Build the engine from its command-line arguments; blocks for `--load-s`. Exits as argparse does on a bad one."""
    parser = argparse.ArgumentParser(prog="--engine scripted", description="The scripted engine.", allow_abbrev=False)
    parser.add_argument("--model", default="scripted", help="name of the model it says it serves")
    parser.add_argument("--max-num-seqs", type=int, default=256, help="turns played at once; the others wait")
    parser.add_argument(
        "--step-s", type=float, default=0.0, help="seconds between two steps, which all turns take together"
    )
    parser.add_argument("--load-s", type=float, default=0.0, help="seconds that building takes")
    parser.add_argument("--salt", default=secrets.token_hex(8), help="what makes its words its own")
    parser.add_argument("--core", action="store_true", help="keep a child process, as vLLM does; dies when that dies")
    options = parser.parse_args(arguments)
    time.sleep(options.load_s)
    engine = ScriptedEngine(loop, on_dead, options.model, options.max_num_seqs, Voice(options.salt, options.step_s))
    if options.core:
        engine.start_core()
    return engine


class _Request(msgspec.Struct):
    """The part of a create body that matters here."""

    model: str | None = None
    metadata: dict[str, str] | None = None
    max_output_tokens: int | None = None


class _State(msgspec.Struct, frozen=True):
    """What a resume needs: `TurnPrepared.state`."""

    fingerprint: str
    script: Script
    tokens_max: int | None
    usage: Usage


@dataclass(eq=False, slots=True)
class _Playing:
    """A turn under way: what it has left to say, and when (loop time) it says the next of it."""

    response_id: str
    emit: Emit
    script: Script
    steps: Iterator[Step]
    silence_before: int
    tokens_max: float
    usage: Usage
    first_s: float
    taken: int = 0
    faulty: bool = True
    due: float = 0.0
    over: bool = False


class ScriptedEngine:
    """Plays up to `running_max` turns at once; the others wait in line. Lives on `loop`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_dead: OnDead,
        model: str,
        running_max: int,
        voice: Voice,
    ) -> None:
        self._loop = loop
        self._on_dead = on_dead
        self._card = ModelCard(model, aliases=("gpt-4o-mini",), context_tokens=2**17, created_at=int(time.time()))
        self._running_max = running_max
        self._voice = voice
        self._core: subprocess.Popen[bytes] | None = None
        self._running: dict[str, _Playing] = {}
        self._waiting: dict[str, _Playing] = {}
        self._agenda: list[tuple[float, int, _Playing]] = []  # A heap by time; the number orders equal times.
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._step = 0
        self._signs = 0
        self._still = False

    def __repr__(self) -> str:
        return f"<ScriptedEngine: step {self._step}, {len(self._running)} running, {len(self._waiting)} waiting>"

    @property
    def models(self) -> tuple[ModelCard, ...]:
        return (self._card,)

    @property
    def fingerprint(self) -> str:
        """The salt is no part of it: any scripted engine of this model goes on with another's script."""
        return f"scripted {self._card.name}"

    def load(self) -> EngineLoad:
        running = len(self._running)
        self._signs += not self._still  # It would answer if it were asked.
        return EngineLoad(self._step, running, len(self._waiting), running / self._running_max, self._signs)

    def start_core(self) -> None:
        """Keep a child that does nothing but live in our process group, and die when it does."""
        core = self._core = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])

        def watch() -> None:
            core.wait()
            if not self._still:
                self._on_dead("its core process ended")

        threading.Thread(target=watch, name="engine core", daemon=True).start()

    async def start_turn(self, turn: Turn, emit: Emit) -> None:
        if turn.resume is not None:
            self._waiting[turn.response_id] = self._resumed(turn.response_id, turn.resume, emit)
            self._admit()
            return
        request = msgspec.json.decode(turn.request, type=_Request)
        self._check_model(request.model)
        script = _script(request)
        await asyncio.sleep(script.render_s)
        if script.reject is not None:
            raise TurnRejected(ErrorDetail(**msgspec.structs.asdict(script.reject)))
        usage = Usage(input_tokens=len(turn.request) // 4 + 1)
        state = _State(self.fingerprint, script, request.max_output_tokens, usage)
        emit(turn.response_id, TurnPrepared(turn.turn, tuple(turn.request[::4]), msgspec.msgpack.encode(state)))
        self._waiting[turn.response_id] = self._playing(turn.response_id, state, emit)
        emit(turn.response_id, TurnStarted(turn.turn, usage.input_tokens))
        self._admit()

    def _resumed(self, response_id: str, resume: Resume, emit: Emit) -> _Playing:
        state = msgspec.msgpack.decode(resume.prepared.state, type=_State)
        if state.fingerprint != self.fingerprint:
            message = f"The turn was begun by the engine {state.fingerprint!r}; this is {self.fingerprint!r}."
            raise TurnRejected(ErrorDetail("server_error", "engine_lost", message))
        playing = self._playing(response_id, state, emit, resume.steps)
        playing.faulty = state.script.fault_again
        return playing

    def _playing(self, response_id: str, state: _State, emit: Emit, said: Sequence[Step] = ()) -> _Playing:
        script = state.script
        return _Playing(
            response_id,
            emit,
            script,
            self._voice.steps(script, response_id, said),
            script.silence_before,
            state.tokens_max or float("inf"),
            functools.reduce(_with_step, said, state.usage),
            0.0 if said else script.first_s,
            len(said),
        )

    def abort(self, response_id: str) -> None:
        playing = self._running.get(response_id) or self._waiting.get(response_id)
        if playing is not None:
            self._loop.call_soon(self._finish, playing, "aborted")

    async def close(self) -> None:
        self._still = True
        if self._core is not None:
            self._core.kill()

    def _check_model(self, model: str | None) -> None:
        if model not in (None, self._card.name, *self._card.aliases):
            message = f"The model {model!r} is not served here; {self._card.name!r} is."
            raise TurnRejected(ErrorDetail("invalid_request_error", "model_not_found", message, "model"))

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._running_max:
            response_id = next(iter(self._waiting))
            playing = self._running[response_id] = self._waiting.pop(response_id)
            playing.due = self._loop.time() + playing.first_s
            self._plan(playing)
            self._set_timer()

    def _plan(self, playing: _Playing) -> None:
        """Put the turn's next step on the agenda."""
        if playing.taken == playing.silence_before:
            playing.due += playing.script.silence_s
        playing.due = self._voice.step_at(playing.due)
        heapq.heappush(self._agenda, (playing.due, next(self._numbers), playing))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._still or not self._agenda else self._loop.call_at(self._agenda[0][0], self._tick)

    def _tick(self) -> None:
        """One engine step: each turn that is due takes one step of its own."""
        now = self._loop.time()
        due = []
        while self._agenda and self._agenda[0][0] <= now:
            due.append(heapq.heappop(self._agenda)[2])
        self._step += bool(due)
        for playing in due:
            if not playing.over and not self._still:
                self._take_step(playing, now)
        self._set_timer()

    def _take_step(self, playing: _Playing, now: float) -> None:
        script, taken = playing.script, playing.taken
        if playing.faulty and taken in (script.die_after, script.exit_after, script.hang_after, script.block_after):
            self._fail(script, taken)
            return
        if playing.usage.output_tokens >= playing.tokens_max:  # It was resumed after its last step.
            self._finish(playing, "length")
            return
        step = next(playing.steps, None)
        if step is None:
            self._finish(playing, script.finish)
            return
        playing.taken = taken + 1
        if script.stamped:
            step = stamp(step, script.stamped, time.monotonic_ns())
        playing.emit(playing.response_id, step)
        playing.usage = _with_step(playing.usage, step)
        if playing.usage.output_tokens >= playing.tokens_max:
            self._finish(playing, "length")
            return
        playing.due = max(playing.due, now - _CATCH_UP_S) + self._voice.interval_s(script, playing.taken)
        self._plan(playing)

    def _fail(self, script: Script, taken: int) -> None:
        self._still = True
        if taken == script.exit_after:
            os._exit(EXIT_CODE)
        if taken == script.block_after:
            logger.warning("the script says so: the process stands still")
            threading.Event().wait()
        if taken == script.die_after:
            self._on_dead(f"the script says so, after {taken} steps")

    def _finish(self, playing: _Playing, reason: FinishReason) -> None:
        if playing.over or self._still:
            return
        playing.over = True
        self._running.pop(playing.response_id, None)
        self._waiting.pop(playing.response_id, None)
        error = ErrorDetail("server_error", "scripted", "The script says that it fails.") if reason == "error" else None
        playing.emit(playing.response_id, TurnFinished(reason, playing.usage, error))
        self._admit()


def _script(request: _Request) -> Script:
    text = (request.metadata or {}).get("script", "{}")
    try:
        return msgspec.json.decode(text, type=Script)
    except msgspec.MsgspecError as error:
        message = f"The script can't be read: {error}."
        raise TurnRejected(ErrorDetail("invalid_request_error", "invalid_value", message, "metadata.script")) from error


def _with_step(usage: Usage, step: Step) -> Usage:
    tokens = len(step.token_ids)
    reasoning = tokens if step.deltas and isinstance(step.deltas[0], ReasoningDelta) else 0
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens + tokens,
        reasoning_tokens=usage.reasoning_tokens + reasoning,
    )
