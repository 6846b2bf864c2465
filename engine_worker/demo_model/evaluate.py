"""Measures a demo model: python -m engine_worker.demo_model.evaluate MODEL [prompts per behaviour] [--temperature T]

Owns generation and the table. It runs with transformers and xgrammar alone, so that a figure here says something about
the weights and nothing about the server.
"""

import argparse
import json
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
import xgrammar
from transformers import AutoTokenizer, LlamaForCausalLM
from xgrammar.contrib.hf import LogitsProcessor

from engine_worker.demo_model.heldout import BEHAVIOURS, SLOW, Case
from engine_worker.demo_model.tokenizer import END_OF_TURN

SEED = 99
BATCH_PROMPTS = 50
SLOW_SHARE = 10
FAILURES_SHOWN = 3


@dataclass(frozen=True)
class Answer:
    """What the model said; `ended` is False where it ran into the limit."""

    text: str
    tokens: int
    ended: bool


class DemoModel:
    """A model folder, loaded, that answers cases in batches."""

    def __init__(self, folder: Path, temperature: float) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self._model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._end = self._tokenizer.convert_tokens_to_ids(END_OF_TURN)
        self._sampling: dict[str, Any] = {"do_sample": False, "temperature": None}
        if temperature:
            self._sampling = {"do_sample": True, "temperature": temperature, "top_k": 0}
        described = xgrammar.TokenizerInfo.from_huggingface(
            self._tokenizer, vocab_size=self._model.config.vocab_size, stop_token_ids=[self._end]
        )
        self._grammars = xgrammar.GrammarCompiler(described)

    @torch.no_grad()
    def answers(self, cases: list[Case]) -> list[Answer]:
        """The answers to cases of one behaviour."""
        prompts = [
            self._tokenizer.apply_chat_template(
                case.messages,
                tools=case.tools,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=case.thinking,
            )
            for case in cases
        ]
        inputs = self._tokenizer(
            prompts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False
        )
        rows = self._model.generate(
            **inputs,
            **self._sampling,
            max_new_tokens=max(case.tokens_max for case in cases),
            eos_token_id=self._end,
            pad_token_id=0,
            logits_processor=self._constraints(cases),
        )
        return [self._answer(row) for row in rows[:, inputs.input_ids.shape[1] :].tolist()]

    def _constraints(self, cases: list[Case]) -> list[LogitsProcessor]:
        """What a server's JSON schema does: compact JSON and nothing but."""
        if cases[0].schema is None:
            return []
        compiled = [
            self._grammars.compile_json_schema(json.dumps(case.schema), any_whitespace=False, separators=(",", ":"))
            for case in cases
        ]
        return [LogitsProcessor(compiled)]

    def _answer(self, row: list[int]) -> Answer:
        ended = self._end in row
        said = row[: row.index(self._end)] if ended else row
        return Answer(self._tokenizer.decode(said), len(said), ended)


def measure(model: DemoModel, name: str, count: int) -> None:
    """Print one behaviour's line and a few of its failures."""
    rng, started = Random(SEED), time.monotonic()
    count = max(10, count // SLOW_SHARE) if name in SLOW else count
    cases = [BEHAVIOURS[name](rng) for _ in range(count)]
    pending = iter(cases)
    answers: list[Answer] = []
    while batch := list(islice(pending, BATCH_PROMPTS)):
        answers += model.answers(batch)
    failures = [pair for pair in zip(cases, answers, strict=True) if not _is_right(*pair)]
    share = 1 - len(failures) / count
    print(f"| {name} | {share:.1%} of {count} | {time.monotonic() - started:.0f} s", flush=True)
    for case, answer in failures[:FAILURES_SHOWN]:
        print("      ", (case.messages[-1]["content"][:100], answer.text[:150], answer.tokens), flush=True)


def _is_right(case: Case, answer: Answer) -> bool:
    try:
        return answer.ended and case.is_right(answer.text, answer.tokens)
    except (ValueError, TypeError, KeyError):  # JSON that is none, or not of the shape asked for
        return False


def main() -> None:
    """Measure every behaviour, or those whose name contains `--only`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=100, help="prompts per behaviour")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    model = DemoModel(arguments.model, arguments.temperature)
    for name in BEHAVIOURS:
        if arguments.only in name:
            measure(model, name, arguments.count)


if __name__ == "__main__":
    main()
