"""Recorded steps, which a resumed turn must bring forth again before it may go on: pure.

What was published never changes. So the recorded tokens go through detokenizer and parser once more, which rebuilds the
state these are in, and what comes out is held against the record.
"""

from collections import deque
from collections.abc import Iterable

from msgspec.structs import replace

from engine_worker.engines.interface import Emit, TurnRecord, TurnRejected
from protocol.records import Delta, ErrorDetail, Step, TextDelta, TokenLogprob


def not_resumable(why: str) -> TurnRejected:
    """The turn can't be continued exactly by this engine, and is not continued in any other way."""
    message = f"The engine was lost, and this response can't be continued: {why}."
    return TurnRejected(ErrorDetail("server_error", "engine_lost", message))


class Replay:
    """The `Emit` of a resumed turn: swallows the recorded steps, which must come in order, and passes on what follows.

    Raises `TurnRejected` for a record that is not the one recorded. Log-probabilities are compared by their tokens
    alone, since the model does not run again.
    """

    def __init__(self, recorded: Iterable[Step], emit: Emit) -> None:
        self._recorded = deque(recorded)
        self._emit = emit

    def __call__(self, response_id: str, record: TurnRecord) -> None:
        """Take the turn's next record."""
        if not self._recorded:
            self._emit(response_id, record)
        elif not (isinstance(record, Step) and _comparable(record) == _comparable(self._recorded.popleft())):
            raise not_resumable("the parser does not read the recorded tokens as it did")

    @property
    def done(self) -> bool:
        """Whether all recorded steps have come."""
        return not self._recorded


def _comparable(step: Step) -> Step:
    return replace(step, deltas=tuple(_without_figures(delta) for delta in step.deltas))


def _without_figures(delta: Delta) -> Delta:
    if isinstance(delta, TextDelta) and delta.logprobs:
        return replace(delta, logprobs=tuple(TokenLogprob(token.token, 0.0) for token in delta.logprobs))
    return delta
