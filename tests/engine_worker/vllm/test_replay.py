"""Recorded steps must come again, in order and unchanged; what follows is passed on."""

import pytest

from engine_worker.engines.interface import TurnRecord, TurnRejected
from engine_worker.engines.vllm.replay import Replay
from protocol.records import Step, TextDelta, TokenLogprob, TopLogprob, TurnFinished, Usage

HELLO, THERE = Step((1,), (TextDelta("Hello"),)), Step((2, 3), (TextDelta(" there"),))
END = TurnFinished("stop", Usage())


def replayed(recorded: list[Step], came: list[TurnRecord]) -> tuple[bool, list[TurnRecord]]:
    passed_on: list[TurnRecord] = []
    replay = Replay(recorded, lambda _, record: passed_on.append(record))
    for record in came:
        replay("resp_1", record)
    return replay.done, passed_on


def test_only_what_follows_the_recorded_steps_is_passed_on() -> None:
    assert replayed([HELLO, THERE], [HELLO]) == (False, [])
    assert replayed([HELLO, THERE], [HELLO, THERE]) == (True, [])
    assert replayed([HELLO], [HELLO, THERE, END]) == (True, [THERE, END])
    assert replayed([], [HELLO]) == (True, [HELLO])


@pytest.mark.parametrize("other", [THERE, Step((1,)), Step((9,), HELLO.deltas), Step((1,), THERE.deltas), END])
def test_another_record_than_the_recorded_one_is_refused(other: TurnRecord) -> None:
    with pytest.raises(TurnRejected) as rejected:
        replayed([HELLO], [other])
    assert (rejected.value.error.type, rejected.value.error.code) == ("server_error", "engine_lost")


def test_log_probabilities_are_compared_by_their_tokens() -> None:
    recorded = Step((1,), (TextDelta("Hello", (TokenLogprob("Hello", -0.5, (TopLogprob("Hi", -1.0),)),)),))
    blank = Step((1,), (TextDelta("Hello", (TokenLogprob("Hello", 0.0),)),))
    assert replayed([recorded], [blank]) == (True, [])
    with pytest.raises(TurnRejected):
        replayed([recorded], [Step((1,), (TextDelta("Hello", (TokenLogprob("Hell", 0.0),)),))])
    with pytest.raises(TurnRejected):
        replayed([recorded], [HELLO])
