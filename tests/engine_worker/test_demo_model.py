"""The demo model's folder and the dialogues it was trained on; neither torch nor the weights are loaded."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine_worker.demo_model import heldout, words
from engine_worker.demo_model.dialogues import dialogue
from engine_worker.demo_model.messages import Dialogue, render
from engine_worker.demo_model.stories import PARTS_MAX, long_story
from engine_worker.demo_model.structured import under_grammar

TRAINING = Path(words.__file__).parent
MODEL = TRAINING / "model"
SAMPLE = 400


def read_json(name: str) -> Any:
    return json.loads((MODEL / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sample() -> list[Dialogue]:
    rng = Random(20)
    return [dialogue(rng) for _ in range(SAMPLE)]


@pytest.fixture(scope="module")
def render_with_jinja() -> Callable[[Dialogue], str]:
    """The chat template, compiled as transformers compiles it."""
    jinja2 = pytest.importorskip("jinja2")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string((TRAINING / "chat_template.jinja").read_text(encoding="utf-8"))

    def rendered(example: Dialogue) -> str:
        return str(
            template.render(
                messages=[message.as_json() for message in example.messages],
                tools=[tool.as_json() for tool in example.tools] or None,
            )
        )

    return rendered


def test_the_model_folder_holds_the_template_it_was_trained_with() -> None:
    assert (MODEL / "chat_template.jinja").read_bytes() == (TRAINING / "chat_template.jinja").read_bytes()


def test_every_file_agrees_on_the_end_of_a_turn() -> None:
    ids = {token["content"]: token["id"] for token in read_json("tokenizer.json")["added_tokens"]}
    assert read_json("tokenizer_config.json")["eos_token"] == "<|im_end|>"
    assert read_json("config.json")["eos_token_id"] == ids["<|im_end|>"]
    assert set(read_json("generation_config.json")["eos_token_id"]) == {ids["<|im_end|>"], ids["<|endoftext|>"]}


def test_what_the_parsers_look_for_is_one_token_each_and_stays_in_the_text() -> None:
    special = {token["content"]: token["special"] for token in read_json("tokenizer.json")["added_tokens"]}
    marks = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
    assert [special.get(mark) for mark in marks] == [False] * len(marks)


def test_the_embedding_has_a_row_for_every_token() -> None:
    tokenizer = read_json("tokenizer.json")
    tokens = set(tokenizer["model"]["vocab"].values()) | {token["id"] for token in tokenizer["added_tokens"]}
    assert tokens == set(range(read_json("config.json")["vocab_size"]))


def test_the_same_seed_gives_the_same_dialogues() -> None:
    assert [dialogue(Random(4)) for _ in range(2)] == [dialogue(Random(4))] * 2
    assert dialogue(Random(4)) != dialogue(Random(5))


def test_the_training_text_is_what_the_template_writes(
    sample: list[Dialogue], render_with_jinja: Callable[[Dialogue], str]
) -> None:
    for example in sample:
        assert "".join(span.text for span in render(example)) == render_with_jinja(example)


def test_only_what_the_assistant_says_is_learned(sample: list[Dialogue]) -> None:
    for example in sample:
        learned = [span.text for span in render(example) if span.learned]
        assert learned
        assert not any("<|im_start|>" in text for text in learned)


def test_every_call_is_of_an_offered_tool_with_all_its_arguments(sample: list[Dialogue]) -> None:
    called = 0
    for example in sample:
        offered = {tool.name: [*tool.arguments] for tool in example.tools}
        for call in (call for message in example.messages for call in message.calls):
            assert [*call.arguments] == offered[call.name]
            called += 1
    assert called > SAMPLE / 10


def test_under_a_grammar_only_the_values_are_learned() -> None:
    spans = under_grammar({"name": "science fair", "age": 30, "people": ["Alice", "Bob"], "ok": True})
    assert [span.text for span in spans if span.learned] == [
        'science fair"',
        "30,",  # that a number is over is the model's choice, and so are a list's next item and its end
        'Alice",',
        'Bob"]',
        "true",
    ]
    assert [span.text for span in spans if not span.learned] == [
        '{"name":"',
        ',"age":',
        '"people":["',
        '"',
        ',"ok":',
        "}",
    ]


@pytest.mark.parametrize("parts", [2, PARTS_MAX])
def test_a_long_story_has_the_parts_it_promises_and_an_end(parts: int) -> None:
    story = long_story("the sea", parts)
    assert f"Part {parts}: " in story
    assert f"Part {parts + 1}: " not in story
    assert story.endswith("\n\nThe end.")


def test_what_is_measured_was_not_trained_on() -> None:
    assert not set(heldout.CITIES) & set(words.CITIES)
    assert not set(heldout.NAMES) & set(words.NAMES)
    assert not set(heldout.WORDS) & set(words.COMMON)
