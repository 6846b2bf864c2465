"""One turn's outputs become records also where the parser or the engine fails."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine_worker.engines.interface import TurnRecord
from protocol.records import ErrorDetail, ReasoningDelta, Step, TextDelta, TurnFinished

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


class Running:
    """A turn with a parser of the test's own, or none, and the records it emitted."""

    def __init__(self, parser: Any = None) -> None:
        from engine_worker.engines.vllm.turn import RunningTurn  # imports vLLM, which takes seconds

        self.records: list[TurnRecord] = []
        rendered: Any = SimpleNamespace(parser=parser, request=None, prompt_token_ids=[1, 2], top_logprobs=None)
        self.turn = RunningTurn("resp_1", "engine_1", rendered, lambda _, record: self.records.append(record))

    def take(self, text: str, token_ids: list[int], finish_reason: str | None = None) -> None:
        from engine_worker.engines.vllm.output import Output

        self.turn.take(Output(token_ids, text, None, finish_reason, cached_tokens=1))


class FailingParser:
    """Fails on each delta."""

    def parse_delta(self, *_: Any, **__: Any) -> None:
        raise KeyError("name")

    def count_reasoning_tokens(self, _: list[int]) -> int:
        return 0


class ThinkingParser:
    """Takes text for reasoning up to `</think>`, as vLLM's parsers do."""

    def __init__(self) -> None:
        self.thinks = True

    def parse_delta(self, text: str, *_: Any, **__: Any) -> SimpleNamespace | None:
        if text == "</think>":
            self.thinks = False
            return None
        return SimpleNamespace(
            reasoning=text if self.thinks else None, content=None if self.thinks else text, tool_calls=[]
        )


def end_of(running: Running) -> TurnFinished:
    end = running.records[-1]
    assert isinstance(end, TurnFinished)
    assert running.turn.finished
    return end


def test_without_a_parser_text_is_text() -> None:
    running = Running()
    running.take("Hel", [7])
    running.take("", [8])
    running.take("lo", [9], "stop")
    steps = [Step((7,), (TextDelta("Hel"),)), Step((8,)), Step((9,), (TextDelta("lo"),))]
    assert running.records[:-1] == steps
    usage = end_of(running).usage
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (2, 1, 3)


def test_the_end_of_a_thought_is_told_before_there_is_text_to_show() -> None:
    running = Running(ThinkingParser())
    for number, text in enumerate(["So.", "\n", "</think>", "\n", "\n", "Hello", "\n"]):
        running.take(text, [number])
    deltas = [record.deltas for record in running.records if isinstance(record, Step)]
    end = (ReasoningDelta("", ended=True),)
    thought = [(ReasoningDelta("So."),), (ReasoningDelta("\n"),), ()]
    assert deltas == [*thought, end, (), (TextDelta("Hello"),), (TextDelta("\n"),)]


def test_an_answer_of_text_alone_begins_with_its_first_newline_though_that_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from engine_worker.engines.vllm import turn

    monkeypatch.setattr(turn, "only_text_follows", lambda parser: not parser.thinks)
    running = Running(ThinkingParser())
    for number, text in enumerate(["So.", "</think>", "\n", "\n", "Hello", "\n"]):
        running.take(text, [number])
    deltas = [record.deltas for record in running.records if isinstance(record, Step)]
    begun = [(ReasoningDelta("", ended=True), TextDelta("")), (TextDelta(""),)]
    assert deltas == [(ReasoningDelta("So."),), (), *begun, (TextDelta("Hello"),), (TextDelta("\n"),)]


def test_a_failing_parser_ends_its_turn_and_keeps_the_tokens() -> None:
    running = Running(FailingParser())
    running.take("x", [7])
    assert running.records[0] == Step((7,))
    assert end_of(running).reason == "error"
    assert isinstance(end_of(running).error, ErrorDetail)


@pytest.mark.parametrize(
    ("vllm_reason", "reason"),
    [("stop", "stop"), ("length", "length"), ("repetition", "stop"), ("error", "error"), ("abort", "error")],
)
def test_reasons(vllm_reason: str, reason: str) -> None:
    running = Running()
    running.take("", [], vllm_reason)
    assert end_of(running).reason == reason
    assert (end_of(running).error is not None) == (reason == "error")


@pytest.mark.parametrize("vllm_reason", ["abort", "stop", "length"])
def test_once_its_end_is_asked_for_a_turn_is_aborted(vllm_reason: str) -> None:
    running = Running()
    running.turn.aborted = True
    running.take("x", [7], vllm_reason)
    assert end_of(running).reason == "aborted"
