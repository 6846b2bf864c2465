"""What the actor asks of an engine, whichever it is.

An engine turns an accepted request into the records of one turn. It renders, samples and parses; it knows nothing of
logs, offsets, frontends or ZeroMQ. All calls come from the actor's event loop, and `emit` is called on it.

A turn that another process began is resumed by handing over what that one emitted: the engine goes on after the last
step, sampling from the state it would have had, or refuses. It never says anything twice and never guesses.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from protocol.records import ErrorDetail, Step, TurnFinished, TurnStarted
from protocol.reports import ModelCard


class TurnPrepared(msgspec.Struct, frozen=True, array_like=True, tag="prepared", gc=False):
    """What a resume of the turn needs, so that nothing is rendered twice; for the journal alone, never in a log.

    `state` is the engine's own affair: encoded by it, with its fingerprint, and read by nobody else. `priority` orders
    the engine's queue: lower comes earlier, and equals in the order in which they were queued.
    """

    turn: int
    prompt_token_ids: tuple[int, ...]
    state: bytes
    priority: int = 0


TurnRecord = TurnPrepared | TurnStarted | Step | TurnFinished

Emit = Callable[[str, TurnRecord], None]
"""`emit(response_id, record)`: hand over the next record of that response's turn, in order."""


class Resume(msgspec.Struct, frozen=True):
    """How far a turn had come in a process that is dead: what was prepared, and all steps that were recorded."""

    prepared: TurnPrepared
    steps: tuple[Step, ...]


class Turn(msgspec.Struct, frozen=True):
    """One engine run of a response: `request` is the accepted create body as JSON (see `protocol.records.Opened`).

    With `resume` it is not begun but continued.
    """

    response_id: str
    turn: int
    request: bytes
    resume: Resume | None = None


class EngineLoad(msgspec.Struct, frozen=True):
    """What the engine is doing: steps taken, requests running and waiting, and key-value cache use (0 to 1).

    Since the engine's start `prefix_queries` prompt tokens were looked up in the prefix cache, and `prefix_hits` found.

    `signs` counts signs of life. While there is work it goes on growing, also when no step is taken; where it stands
    still, the engine neither steps nor answers.
    """

    step: int = 0
    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    signs: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0


class TurnRejected(Exception):
    """The turn was not started; `error` says whose fault it was and names the parameter."""

    def __init__(self, error: ErrorDetail) -> None:
        super().__init__(error.message)
        self.error = error


class Engine(Protocol):
    """One loaded model (with its aliases), able to run many turns at once."""

    @property
    def models(self) -> tuple[ModelCard, ...]:
        """What this engine serves."""

    @property
    def fingerprint(self) -> str:
        """Names all that a continuation depends on (weights, template, parsers, version): equal where it is exact."""

    async def start_turn(self, turn: Turn, emit: Emit) -> None:
        """Render the request and queue it; return once it is queued.

        Emits `TurnPrepared` and `TurnStarted` before returning, then `Step`s, then exactly one `TurnFinished`. With
        `turn.resume` it renders nothing and emits neither those two nor the recorded steps again: the first record is
        the next `Step`, or `TurnFinished`. A turn that can't be continued exactly (another fingerprint, recorded deltas
        that are not reproduced) is rejected with the code `engine_lost`.

        Cancelling this call before it returned leaves nothing behind and emits nothing more. Raises `TurnRejected`.
        """

    def abort(self, response_id: str) -> None:
        """End the turn early: its `TurnFinished` then says `aborted`. An unknown or finished turn is ignored."""

    def load(self) -> EngineLoad:
        """What the engine is doing now; cheap. Asked with every heartbeat, which is when it looks for signs of life."""

    async def close(self) -> None:
        """End the engine and its child processes."""


OnDead = Callable[[str], None]
"""`on_dead(reason)`: the engine can't go on; called once, on the actor's event loop or any other thread."""
