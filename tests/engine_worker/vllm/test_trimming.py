"""Newlines between reasoning and the answer go, however the text is cut into pieces; all others stay."""

from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis import given

from engine_worker.engines.vllm.trimming import NewlineTrimmer

PIECES = st.lists(st.text(alphabet="a \n", min_size=1, max_size=4), max_size=8)


def trimmed(text: Iterable[str], *, after_reasoning: bool = True) -> list[str]:
    trimmer = NewlineTrimmer()
    trimmer.in_reasoning = after_reasoning
    return [trimmer.text(piece) for piece in text]


def test_newlines_before_the_text_go() -> None:
    assert trimmed(["\n", "\n", "Hello\n", "there\n"]) == ["", "", "Hello\n", "there\n"]


def test_text_without_reasoning_is_not_touched() -> None:
    assert trimmed(["\n\nHello", "\n"], after_reasoning=False) == ["\n\nHello", "\n"]


def test_text_after_each_stretch_of_reasoning_is_trimmed() -> None:
    trimmer = NewlineTrimmer()
    trimmer.in_reasoning = True
    assert trimmer.text("\n\nb\n") == "b\n"
    trimmer.in_reasoning = True
    trimmer.end_reasoning()
    assert not trimmer.in_reasoning
    assert trimmer.text("\nd") == "d"


@given(PIECES, st.booleans())
def test_pieces_make_no_difference(text: list[str], after_reasoning: bool) -> None:
    shown = "".join(trimmed(text, after_reasoning=after_reasoning))
    assert shown == ("".join(text).lstrip("\n") if after_reasoning else "".join(text))
