"""Newlines at the edges of reasoning go, however the text is cut into pieces; all others stay."""

from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis import given

from engine_worker.engines.vllm.trimming import NewlineTrimmer

PIECES = st.lists(st.text(alphabet="a \n", min_size=1, max_size=4), max_size=8)


def trimmed(reasoning: Iterable[str], text: Iterable[str]) -> tuple[list[str], list[str]]:
    trimmer = NewlineTrimmer()
    return [trimmer.reasoning(piece) for piece in reasoning], [trimmer.text(piece) for piece in text]


def test_newlines_around_reasoning_and_before_the_text_go() -> None:
    reasoning, text = trimmed(["\n", "I think", ".\n", "So\n\n", "\n"], ["\n", "\n", "Hello\n", "there\n"])
    assert reasoning == ["", "I think", ".", "\nSo", ""]
    assert text == ["", "", "Hello\n", "there\n"]


def test_text_without_reasoning_is_not_touched() -> None:
    assert trimmed([], ["\n\nHello", "\n"]) == ([], ["\n\nHello", "\n"])


def test_reasoning_of_newlines_alone_shows_nothing_and_still_counts() -> None:
    assert trimmed(["\n\n"], ["\n\nHello"]) == ([""], ["Hello"])


def test_each_stretch_of_reasoning_is_trimmed() -> None:
    trimmer = NewlineTrimmer()
    shown = [trimmer.reasoning("\na\n"), trimmer.text("\n\nb\n"), trimmer.reasoning("\nc\n"), trimmer.text("\nd")]
    assert shown == ["a", "b\n", "c", "d"]


@given(PIECES, PIECES)
def test_pieces_make_no_difference(reasoning: list[str], text: list[str]) -> None:
    shown_reasoning, shown_text = ("".join(pieces) for pieces in trimmed(reasoning, text))
    assert shown_reasoning == "".join(reasoning).strip("\n")
    assert shown_text == ("".join(text).lstrip("\n") if reasoning else "".join(text))
