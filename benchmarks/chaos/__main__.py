"""Everything is killed, paused, told to end and told to reload under load, and every byte is compared.

    python -m benchmarks.chaos [--streams 500] [--frontends 4] [--workers 3] [--minutes 5]
                               [--fault-every-s 2] [--seed N]

Clients stream, and when their connection breaks go on by cursor at any frontend; an observer reads each response from
its start at another frontend; later it is replayed. All three must be the same bytes. The scripted engine salts its
words by incarnation, so that an answer run again instead of recovered would differ. Prints the table, writes the
figures to benchmarks/results/, and exits with 1 when an event was lost, changed or repeated, a response failed or never
ended, or something was left behind.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from benchmarks.chaos.clients import CONNECT_S, KEEPALIVE_S, SILENCE_S, Crowd, keep_streaming
from benchmarks.chaos.faults import Action, Target, plan
from benchmarks.chaos.report import Report, build, table, wrongs_of
from benchmarks.chaos.services import Services, sample, start_frontend, start_worker
from benchmarks.chaos.tally import Tally
from benchmarks.deployment import Deployment, ready
from protocol.open_files import allow_open_files

RESULTS: Final = Path(__file__).resolve().parents[1] / "results"
INTERVAL_S: Final = 0.5
"""Seconds between two tokens of a stream."""
LENGTH_S: Final = (20.0, 60.0)
RAMP_SHARE: Final = 0.1
"""In which share of the run, at most `RAMP_S`, the streams are begun one after the other."""
RAMP_S: Final = 20.0
RESUME_WINDOW_S: Final = 30.0
"""Short, so that journals come and go within a run; replays are well within it."""
SAMPLE_S: Final = 5.0
LEFT_SLACK_S: Final = 30.0
PROCESSES_PER_FRONTEND: Final = 2
PROCESSES_PER_WORKER: Final = 3
"""Supervisor, actor, and the stand-in for vLLM's engine core."""
SETTINGS: Final = {
    "keepalive_interval_s": str(KEEPALIVE_S),
    "resume_window_s": str(RESUME_WINDOW_S),
    "restart_max": "1000000",  # so many deaths are not the worker's fault
    "restart_backoff_max_s": "1",
}
_LAG_S: Final = 0.1


def main() -> int:
    """Run it; returns the process's exit code."""
    options = _options()
    print(f"seed {options.seed}", flush=True)
    allow_open_files(2 * options.streams + 1024)
    with contextlib.ExitStack() as stack:
        directory = options.directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-")))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        deployment = stack.enter_context(Deployment(directory, **SETTINGS))
        engine = ("--engine", "scripted", "--core", "--max-num-seqs", str(4 * options.streams))
        services = Services(
            frontends=[start_frontend(deployment) for _ in range(options.frontends)],
            workers=[start_worker(deployment, *engine) for _ in range(options.workers)],
        )
        for frontend in services.frontends:
            ready(frontend.url, deployment)
        report = uvloop.run(_run(options, services, deployment))
    wrongs = wrongs_of(report)
    print(table(report))
    for wrong in wrongs:
        print("WRONG:", wrong)
    if options.result:
        options.result.parent.mkdir(parents=True, exist_ok=True)
        options.result.write_text(json.dumps(report | {"wrongs": wrongs}, indent=1) + "\n")
        print(f"written to {options.result}")
    return 1 if wrongs else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=500, help="streams at a time, each with an observer")
    parser.add_argument("--frontends", type=int, default=4)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults strike; streams then finish")
    parser.add_argument("--fault-every-s", type=float, default=2.0, help="seconds between two faults; 0: none")
    parser.add_argument("--targets", nargs="+", choices=Target.__members__, default=list(Target.__members__))
    parser.add_argument("--actions", nargs="+", choices=Action.__members__, default=list(Action.__members__))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--length-s", type=float, nargs=2, default=LENGTH_S, help="shortest and longest stream")
    parser.add_argument("--result", type=Path, default=RESULTS / "chaos.json", help="file for the figures")
    parser.add_argument(
        "--directory", type=Path, help="run directory with all logs, which is kept; else a temporary one"
    )
    return parser.parse_args()


async def _run(options: argparse.Namespace, services: Services, deployment: Deployment) -> Report:
    """The load with its faults, then the streams' ends, then what is left."""
    tally = Tally()
    begun = time.monotonic()
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        urls = [frontend.url for frontend in services.frontends]
        crowd = Crowd(http, urls, random.Random(options.seed), tally, INTERVAL_S, options.length_s)
        watches = asyncio.gather(services.keep_alive(), _sample(deployment, tally), _measure_lag(tally))
        await _load(options, services, crowd)
        took_s = time.monotonic() - begun
        tally.left = await _left(options, deployment)
        watches.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watches
    settings = {name: value for name, value in vars(options).items() if name not in ("result", "directory")}
    settings |= {"cpus": os.cpu_count(), "python": platform.python_version(), "took_s": round(took_s)}
    steady = begun + _ramp_s(options) + options.length_s[1] + RESUME_WINDOW_S
    return build(settings, tally, steady, begun + options.minutes * 60)


def _ramp_s(options: argparse.Namespace) -> float:
    return min(RAMP_S, RAMP_SHARE * float(options.minutes) * 60)


async def _load(options: argparse.Namespace, services: Services, crowd: Crowd) -> None:
    """All streams, and the faults while they run; returns when the last stream is over and compared."""
    run_s = options.minutes * 60
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for number in range(options.streams):
            tasks.create_task(keep_streaming(crowd, stop, _ramp_s(options) * number / options.streams))
        if options.fault_every_s:
            kinds = [(Target[target], Action[action]) for target in options.targets for action in options.actions]
            faults = plan(options.seed, options.frontends, options.workers, kinds)
            until, struck = time.monotonic() + run_s, crowd.tally.faults
            tasks.create_task(services.suffer(faults, options.fault_every_s, until, struck))
        await asyncio.sleep(run_s)
        stop.set()
        print(f"{sum(crowd.tally.faults.values())} faults; the streams may finish now", flush=True)


async def _sample(deployment: Deployment, tally: Tally) -> None:
    while True:
        tally.samples.append(await asyncio.to_thread(sample, deployment))
        await asyncio.sleep(SAMPLE_S)


async def _measure_lag(tally: Tally) -> None:
    """How late this process itself is, which is in all that it measures."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(_LAG_S)
        tally.lags_s.append(time.monotonic() - before - _LAG_S)


async def _left(options: argparse.Namespace, deployment: Deployment) -> dict[str, int]:
    """Wait until everybody is back and the last journal has expired; what is too much, or too little, by then."""
    expected = options.frontends * PROCESSES_PER_FRONTEND + options.workers * PROCESSES_PER_WORKER
    deadline = time.monotonic() + 2 * RESUME_WINDOW_S + LEFT_SLACK_S
    while True:
        now = await asyncio.to_thread(sample, deployment)
        left = {"processes": now.processes - expected, "journals": now.journals}
        if not any(left.values()) or now.at_s > deadline:
            return left
        await asyncio.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
