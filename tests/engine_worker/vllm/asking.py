"""Asking an engine in this process, and reading its answers as a client would."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from engine_worker.engines.interface import Engine, Turn, TurnPrepared, TurnRecord
from protocol.records import (
    Delta,
    ReasoningDelta,
    Step,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    TurnFinished,
    TurnStarted,
)
from tests.pace import DEADLINE_S

_numbers = count()


@dataclass
class Answer:
    """The records of one turn, and what a client would make of them."""

    records: list[TurnRecord] = field(default_factory=list)

    @property
    def prepared(self) -> TurnPrepared:
        first = self.records[0]
        assert isinstance(first, TurnPrepared)
        return first

    @property
    def started(self) -> TurnStarted:
        second = self.records[1]
        assert isinstance(second, TurnStarted)
        return second

    @property
    def steps(self) -> list[Step]:
        return [record for record in self.records if isinstance(record, Step)]

    @property
    def finished(self) -> TurnFinished:
        (end,) = [record for record in self.records if isinstance(record, TurnFinished)]
        assert end is self.records[-1]
        return end

    @property
    def deltas(self) -> list[Delta]:
        return [delta for step in self.steps for delta in step.deltas]

    @property
    def token_ids(self) -> list[int]:
        return [token_id for step in self.steps for token_id in step.token_ids]

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, TextDelta))

    @property
    def reasoning(self) -> str:
        return "".join(delta.text for delta in self.deltas if isinstance(delta, ReasoningDelta))

    @property
    def logprobs(self) -> list[TokenLogprob]:
        return [token for delta in self.deltas if isinstance(delta, TextDelta) for token in delta.logprobs]

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """Name and parsed arguments of each call, whose deltas must come in order."""
        names: list[str] = []
        arguments: list[str] = []
        for delta in self.deltas:
            if isinstance(delta, ToolCallDelta):
                if delta.name is not None:
                    assert delta.index == len(names)
                    names.append(delta.name)
                    arguments.append("")
                arguments[delta.index] += delta.arguments
        return [(name, json.loads(text)) for name, text in zip(names, arguments, strict=True)]


class Asker:
    """Asks an engine; temperature 0 unless the body says otherwise."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def __call__(self, on_record: Callable[[str, TurnRecord], None] | None = None, **body: Any) -> Answer:
        """Run a new turn; `on_record(response_id, record)` sees each record first."""
        return await self.run(turn(**body), on_record)

    async def run(self, asked: Turn, on_record: Callable[[str, TurnRecord], None] | None = None) -> Answer:
        """Start a turn and wait for its end."""
        answer, ended = Answer(), asyncio.Event()

        def emit(response_id: str, record: TurnRecord) -> None:
            answer.records.append(record)
            if on_record is not None:
                on_record(response_id, record)
            if isinstance(record, TurnFinished):
                ended.set()

        await self.engine.start_turn(asked, emit)
        await asyncio.wait_for(ended.wait(), DEADLINE_S)
        return answer


def turn(**body: Any) -> Turn:
    """A turn of a new response."""
    request = {"model": "holdfast-demo", "temperature": 0, "input": "Hi there!", **body}
    return Turn(f"resp_{next(_numbers)}", 0, msgspec.json.encode(request))


@dataclass
class Built:
    """An engine, and the longest time that the event loop waited for a turn while it was built.

    In seconds of this process's processor time, so that a busy machine makes no difference.
    """

    engine: Engine
    longest_pause_s: float
