"""Trains the demo model from nothing: python -m engine_worker.demo_model.train OUT [--minutes 55]

Owns the optimisation. The dialogues are seeded, but the budget is wall-clock time, so weights differ between machines.
OUT is a complete model folder from the first checkpoint on; `--resume` goes on from one, with a new schedule.
"""

import argparse
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine_worker.demo_model.dialogues import dialogue
from engine_worker.demo_model.grow import grow
from engine_worker.demo_model.messages import render
from engine_worker.demo_model.tokenizer import END_OF_TURN, PAD, POSITIONS_MAX, build_tokenizer

_log = logging.getLogger(__name__)

VOCABULARY = 2048
WIDTH = 256
HEAD_DIM = 32
LAYERS = 5
FEED_FORWARD = 640
TEMPERATURE = 0.3  # the default of generation_config.json

BATCH_TOKENS = 3072
DIALOGUES_PER_DRAW = 1200
DIALOGUE_TOKENS_MAX = 2048
EASY_SHARE = 0.1  # of the time goes to short dialogues first: copying is learned there
WARM_UP_STEPS = 60
DECAY_SHARE = 0.6  # of the schedule: the rate is constant before it, and falls to almost nothing in it
LOG_EVERY_STEPS = 50
SAVE_EVERY_STEPS = 500


@dataclass(frozen=True)
class Settings:
    """One training run."""

    out: Path
    minutes: float
    peak_rate: float
    seed: int
    threads: int
    resume: Path | None
    grow: Path | None


@dataclass(frozen=True)
class Batch:
    """Token ids and, for each, whether it is learned; both (rows, tokens)."""

    tokens: torch.Tensor
    learned: torch.Tensor


class ThreadChoice:
    """How many threads to compute with: on a shared machine fewer can be faster, so each is timed now and then."""

    _PERIOD, _TRIALS = 40, 3

    def __init__(self, most: int) -> None:
        self._speeds: dict[int, list[float]] = {count: [] for count in range(1, most + 1)}

    def at(self, step: int) -> int:
        """The number of threads for that step."""
        place = step % self._PERIOD
        if place < self._TRIALS * len(self._speeds):
            return 1 + place % len(self._speeds)
        return max(self._speeds, key=lambda count: sum(self._speeds[count]))

    def took(self, threads: int, tokens: int, seconds: float) -> None:
        """Note how fast a step was."""
        self._speeds[threads] = [*self._speeds[threads], tokens / seconds][-self._TRIALS :]


def train(settings: Settings) -> None:
    """Train until the time is up, saving as it goes."""
    torch.manual_seed(settings.seed)
    rng = Random(settings.seed)
    tokenizer, model = _start(settings)
    optimizers = _optimizers(model)
    threads = ThreadChoice(settings.threads)
    started, seen, mean_loss, done = time.monotonic(), 0, float("nan"), 0.0
    _log.info("%d parameters, %d tokens", sum(p.numel() for p in model.parameters()), len(tokenizer))
    queue: list[Batch] = []
    step = 0
    while done < 1:
        easy = done < EASY_SHARE and not settings.resume and not settings.grow
        if not queue:
            queue = list(_batches(tokenizer, rng, easy))
        batch = queue.pop()
        step_threads, began = threads.at(step), time.monotonic()
        torch.set_num_threads(step_threads)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = settings.peak_rate * _schedule(step, done)
        loss = _step(model, optimizers, batch)
        threads.took(step_threads, batch.tokens.numel(), time.monotonic() - began)
        mean_loss = loss if step == 0 else 0.98 * mean_loss + 0.02 * loss
        step, seen = step + 1, seen + batch.tokens.numel()
        done = (time.monotonic() - started) / (60 * settings.minutes)
        if step % LOG_EVERY_STEPS == 0:
            speed = seen / (time.monotonic() - started)
            _log.info("step %d, loss %.4f, %.0f tokens/s, %.0f%% done", step, mean_loss, speed, 100 * done)
        if step % SAVE_EVERY_STEPS == 0:
            save(model, tokenizer, settings.out)
    save(model, tokenizer, settings.out)
    _log.info("%d steps, %d tokens, %.1f minutes, loss %.4f", step, seen, (time.monotonic() - started) / 60, mean_loss)


def _start(settings: Settings) -> tuple[PreTrainedTokenizerFast, LlamaForCausalLM]:
    """A new model, a saved one, or a saved smaller one grown to size."""
    folder = settings.resume or settings.grow
    if folder is None:
        tokenizer = build_tokenizer(settings.seed, VOCABULARY)
        return tokenizer, new_model(tokenizer)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    saved = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if settings.resume:
        return tokenizer, saved
    model = new_model(tokenizer)
    grow(saved, model)
    return tokenizer, model


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of the demo model's shape with random weights."""
    heads = WIDTH // HEAD_DIM
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=POSITIONS_MAX,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END_OF_TURN),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    return LlamaForCausalLM(config)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a model folder in bfloat16; the model itself stays as it is."""
    generation = model.generation_config
    generation.bos_token_id = None
    generation.eos_token_id = [model.config.eos_token_id, model.config.pad_token_id]
    generation.pad_token_id = model.config.pad_token_id
    generation.do_sample, generation.temperature = True, TEMPERATURE
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = generation
    copy.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def _optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside, AdamW for the embeddings and norms (Jordan et al. 2024, "Muon")."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=1, weight_decay=0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=1, betas=(0.9, 0.97), weight_decay=0),
    ]


def _schedule(step: int, done: float) -> float:
    """The share of the peak rate: a short rise, a plateau, and a straight line down over the decay's share."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * min(1.0, (1.02 - done) / DECAY_SHARE)


def _step(model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], batch: Batch) -> float:
    """One step; the mean loss over learned tokens, in nats. Logits are computed for those alone."""
    targets = batch.learned[:, 1:]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=batch.tokens[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[targets])
    loss = torch.nn.functional.cross_entropy(logits.float(), batch.tokens[:, 1:][targets])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.item())


def _batches(tokenizer: PreTrainedTokenizerFast, rng: Random, easy: bool) -> Iterator[Batch]:
    """Batches of about BATCH_TOKENS tokens, in random order; dialogues of like length share one, so few pads."""
    rendered = [render(dialogue(rng, easy)) for _ in range(DIALOGUES_PER_DRAW)]
    encoded = iter(
        tokenizer.backend_tokenizer.encode_batch(
            [span.text for spans in rendered for span in spans], add_special_tokens=False
        )
    )
    rows: list[tuple[list[int], list[bool]]] = []
    for spans in rendered:
        tokens: list[int] = []
        learned: list[bool] = []
        for span in spans:
            ids = next(encoded).ids
            tokens += ids
            learned += [span.learned] * len(ids)
        if len(tokens) <= DIALOGUE_TOKENS_MAX:
            rows.append((tokens, learned))
    rows.sort(key=lambda row: len(row[0]))
    batches = []
    while rows:
        width = len(rows[-1][0])
        count = max(1, BATCH_TOKENS // width)
        rows, chosen = rows[:-count], rows[-count:]
        batches.append(
            Batch(
                torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in chosen]),
                torch.tensor([learned + [False] * (width - len(learned)) for _, learned in chosen]),
            )
        )
    rng.shuffle(batches)
    yield from batches


def _parse() -> Settings:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=55)
    parser.add_argument("--peak-rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--resume", type=Path, help="go on from a saved model")
    parser.add_argument("--grow", type=Path, help="go on from a saved smaller model")
    return Settings(**vars(parser.parse_args()))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(_parse())
