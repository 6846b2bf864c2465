"""How much of their prompts requests find in a prefix cache, with affinity, without, and by chance, over real workers.

    python -m benchmarks.routing [--workers 2] [--talks 12] [--turns 5] [--rounds 5] [--result NAME]

Two frontends share the workers: one routes by affinity, the other by load alone. Of others each sees one worker, and
each turn goes to one of these by chance, as behind a balancer that knows nothing. A round is `--talks` conversations at
once, each of `--turns` turns: a third of them chains of `previous_response_id`, a third
`conversation`s, and a third sends its whole history under a `prompt_cache_key`. No conversation begins as another one
did, so there is nothing to be found but its own earlier turns. Rounds take turns between the routings. Printed is what
vLLM says was cached (`usage.input_tokens_details.cached_tokens`) of all input tokens but those of first turns, the time
to the first delta of those turns, and how the turns spread over the workers.
"""

import argparse
import asyncio
import json
import random
import secrets
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from benchmarks.deployment import START_DEADLINE_S, Deployment, Process, ready, wait_until
from benchmarks.figures import keep
from protocol.run_dir import worker_socket, workers_in

KINDS: Final = ("chain", "conversation", "cache key")
ROUTINGS: Final = {"affinity": "1.25", "load alone": "0"}
CHANCE: Final = "chance"
ANSWER: Final = {"max_output_tokens": 24, "ignore_eos": True, "temperature": 1, "stream": True}
HOST_DIGITS: Final = slice(5, 9)
"""Where a response id tells its host."""


class Turn(NamedTuple):
    """A turn: its number in its conversation, its tokens and those of them cached, its first delta (ms), its host."""

    number: int
    input_tokens: int
    cached_tokens: int
    first_ms: float
    host: str


def question(number: int) -> str:
    """What a user says: 100 words at first, then little; no two conversations alike."""
    if number:
        return f"And what came after that, number {number}?"
    return "Remember these words: " + " ".join(secrets.token_hex(3) for _ in range(100))


async def take_turn(
    client: aiohttp.ClientSession, url: str, number: int, body: dict[str, Any]
) -> tuple[Turn, dict[str, Any]]:
    """One request to its end: its figures, and the response."""
    begun, first_ms = time.perf_counter(), 0.0
    async with client.post(url + "/v1/responses", json={"model": "holdfast-demo", **ANSWER, **body}) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not first_ms and b"output_text.delta" in line:
                first_ms = (time.perf_counter() - begun) * 1e3
            if line.startswith(b"data: {") and b"response.incomplete" in line[:100]:
                last = json.loads(line.removeprefix(b"data: "))["response"]
    usage = last["usage"]
    cached = usage["input_tokens_details"]["cached_tokens"]
    return Turn(number, usage["input_tokens"], cached, round(first_ms, 1), last["id"][HOST_DIGITS]), last


async def talk(client: aiohttp.ClientSession, urls: Sequence[str], kind: str, turns: int) -> list[Turn]:
    """One conversation; each of its turns goes to one of these frontends."""
    taken: list[Turn] = []
    said: list[Any] = []
    fields: dict[str, Any] = {}
    if kind == "conversation":
        async with client.post(urls[0] + "/v1/conversations", json={}) as made:
            fields = {"conversation": (await made.json())["id"]}
    if kind == "cache key":
        fields = {"prompt_cache_key": secrets.token_hex(8), "store": False}
    for number in range(turns):
        said.append({"role": "user", "content": question(number)})
        body = {**fields, "input": said if kind == "cache key" else said[-1:]}
        turn, response = await take_turn(client, random.choice(urls), number, body)
        taken.append(turn)
        text = "".join(part["text"] for item in response["output"] for part in item["content"])
        said.append({"role": "assistant", "content": text})
        if kind == "chain":
            fields = {"previous_response_id": response["id"]}
    return taken


async def one_round(urls: Sequence[str], talks: int, turns: int) -> dict[str, list[Turn]]:
    """All conversations at once, by kind."""
    async with aiohttp.ClientSession(read_bufsize=2**20) as client:
        kinds = [KINDS[number % len(KINDS)] for number in range(talks)]
        found = await asyncio.gather(*(talk(client, urls, kind, turns) for kind in kinds))
    by_kind: dict[str, list[Turn]] = {kind: [] for kind in KINDS}
    for kind, taken in zip(kinds, found, strict=True):
        by_kind[kind] += taken
    return by_kind


def hit_rate(turns: list[Turn]) -> float:
    """The share of input tokens that was cached, first turns aside."""
    later = [turn for turn in turns if turn.number]
    return sum(turn.cached_tokens for turn in later) / sum(turn.input_tokens for turn in later)


def show(routing: str, rounds: list[dict[str, list[Turn]]]) -> dict[str, float]:
    """A row of the table: medians over the rounds."""
    all_turns = [[turn for turns in each.values() for turn in turns] for each in rounds]
    figures = {"all": statistics.median(map(hit_rate, all_turns))}
    figures |= {kind: statistics.median(hit_rate(each[kind]) for each in rounds) for kind in KINDS}
    first_ms = statistics.median(turn.first_ms for turns in all_turns for turn in turns if turn.number)
    hosts = Counter(turn.host for turns in all_turns for turn in turns)
    busiest = max(hosts.values()) / sum(hosts.values())
    rates = "   ".join(f"{name} {rate:4.0%}" for name, rate in figures.items())
    print(f"{routing:11} cached: {rates}   first delta {first_ms:4.0f} ms   busiest worker {busiest:3.0%} of turns")
    return {**figures, "first_ms": first_ms, "busiest": busiest}


def as_lines(found: dict[str, list[Turn]]) -> dict[str, list[str]]:
    """A round to be kept: the fields of `Turn`, a line each."""
    return {kind: [" ".join(map(str, turn)) for turn in turns] for kind, turns in found.items()}


def is_ready(worker: Process) -> bool:
    """Whether it says that its model is loaded."""
    return "ready: model" in worker.output.read_text()


def sees_only(deployment: Deployment, socket: Path) -> str:
    """A frontend, of the same store, that knows of no worker but this one; its URL."""
    run_dir = deployment.directory / f"only-{socket.name.partition('.')[0]}"
    run_dir.mkdir(mode=0o700)
    (run_dir / socket.name).symlink_to(socket)
    return deployment.frontend(run_dir=str(run_dir))[1]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--talks", type=int, default=12)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--result", default="routing", help="name of the file to keep; empty: none")
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, list[Turn]]]] = {routing: [] for routing in (*ROUTINGS, CHANCE)}
    with tempfile.TemporaryDirectory(prefix="holdfast-") as directory, Deployment(Path(directory)) as deployment:
        workers = [deployment.worker() for _ in range(options.workers)]
        urls = {routing: [deployment.frontend(affinity_load_factor=factor)[1]] for routing, factor in ROUTINGS.items()}
        for worker in workers:
            wait_until(partial(is_ready, worker), START_DEADLINE_S, "a worker is ready")
        sockets = [worker_socket(deployment.directory, name) for name in sorted(workers_in(deployment.directory))]
        urls[CHANCE] = [sees_only(deployment, socket) for socket in sockets]
        for url in (url for each in urls.values() for url in each):
            ready(url, deployment)
            asyncio.run(one_round([url], len(KINDS), 2))  # what is compiled or loaded at first is not counted
        for _ in range(options.rounds):
            for routing, of_routing in urls.items():
                rounds[routing].append(asyncio.run(one_round(of_routing, options.talks, options.turns)))
    medians = {routing: show(routing, found) for routing, found in rounds.items()}
    if options.result:
        raw = {routing: [as_lines(each) for each in found] for routing, found in rounds.items()}
        keep(options.result, {"medians": medians, "rounds": raw})


if __name__ == "__main__":
    main()
