"""More processes, more throughput, until the cores are full: curves over frontends and over workers.

    python -m benchmarks.scaling [--counts 1 2 4] [--seconds 5]

Frontends: clients that read one finished stream after another; counted are events. It is what frontends do alone, from
the store to the bytes: while a worker's engine makes the events, worker and client need more of the cores than a
frontend does, and a machine is full before one frontend is.
Workers: engines that can do so much and no more (32 turns at once, a step each 10 ms), and twice as many clients as
all of them can serve at once; counted are events. Two frontends.
Each deployment is started anew. What every group of processes takes of the cores is printed beside its throughput, and
what the whole machine does, for that is what ends a curve.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil
import uvloop

from benchmarks.crowd import Client, connect, create, resume
from benchmarks.deployment import Deployment, ready
from benchmarks.figures import actor_process, cpu_s, keep, serving_process

GAIN_MIN: Final = 1.5
"""What a doubling must multiply the throughput by, where there are cores left for it."""
FULL: Final = 0.9
"""The share of the cores that leaves none."""
READING: Final = 16
"""Clients of the frontends' curve."""
READ_STEPS: Final = 500
"""The events of each stream that they read."""
TURNS: Final = 32
STEP_S: Final = 0.01
LONG_STEPS: Final = 100
_FRONTENDS_BEFORE_WORKERS: Final = 2
_SETTLE_S: Final = 1.5


class Work(NamedTuple):
    """What a deployment is given to do: the engines' flags, how many clients, what each asks for, for how long.

    Without a request they read what is stored.
    """

    engine: Sequence[str]
    clients: int
    request: bytes | None
    seconds: float


class Throughput:
    """What clients that ask again and again have got."""

    def __init__(self) -> None:
        self.events = 0
        self.answers = 0
        self.refused = 0

    def take(self, _: Client, data: bytes, __: float) -> None:
        """Count the events."""
        self.events += data.count(b"\ndata: {")

    async def keep_asking(self, client: Client, request: bytes) -> None:
        """One answer after the other, until cancelled or disconnected."""
        while not client.transport.is_closing():
            client.ask(request)
            await client.ended.wait()
            self.answers += client.status == 200
            self.refused += client.status != 200


def store_one(url: str) -> str:
    """Have a response stored; returns its id."""
    body = {"model": "scripted", "input": "x", "metadata": {"script": json.dumps({"steps": READ_STEPS})}}
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(url + "/v1/responses", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked) as answer:
        response_id: str = json.load(answer)["id"]
    return response_id


async def measure(
    urls: Sequence[str], request: bytes, work: Work, groups: dict[str, list[psutil.Process]]
) -> dict[str, Any]:
    """Have clients ask for some seconds; returns rates, and what took the cores."""
    throughput = Throughput()
    connected = await connect(urls, work.clients, throughput.take)
    async with asyncio.TaskGroup() as asking:
        tasks = [asking.create_task(throughput.keep_asking(client, request)) for client in connected]
        await asyncio.sleep(_SETTLE_S)
        before, begun = (throughput.events, throughput.answers), time.monotonic()
        cpu = _cpu_s(groups)
        psutil.cpu_percent()
        await asyncio.sleep(work.seconds)
        took_s = time.monotonic() - begun
        machine = psutil.cpu_percent() / 100
        found = {
            "events_per_s": round((throughput.events - before[0]) / took_s),
            "answers_per_s": round((throughput.answers - before[1]) / took_s, 1),
            "refused": throughput.refused,
            "cores": {name: round((now - cpu[name]) / took_s, 2) for name, now in _cpu_s(groups).items()},
            "machine": round(machine, 2),
        }
        for task in tasks:
            task.cancel()
    for client in connected:
        client.transport.abort()
    return found


def _cpu_s(groups: dict[str, list[psutil.Process]]) -> dict[str, float]:
    return {name: sum(map(cpu_s, processes)) for name, processes in groups.items()}


def deployed(frontends: int, workers: int, work: Work) -> dict[str, Any]:
    """Measure a deployment of so many processes."""
    with tempfile.TemporaryDirectory(prefix="holdfast-") as directory, Deployment(Path(directory)) as deployment:
        working = [deployment.worker("--engine", "scripted", *work.engine) for _ in range(workers)]
        serving = [deployment.frontend() for _ in range(frontends)]
        for _, url in serving:
            ready(url, deployment)
        time.sleep(_SETTLE_S)  # so that each frontend has met each worker
        groups = {
            "frontends": [serving_process(process) for process, _ in serving],
            "workers": [actor_process(process) for process in working],
            "client": [psutil.Process(os.getpid())],
        }
        urls = [url for _, url in serving]
        request = work.request or resume(store_one(urls[0]), after=0)
        return uvloop.run(measure(urls, request, work, groups))


def curve(unit: str, rows: dict[int, Any]) -> list[str]:
    """Print one; returns what is wrong with it."""
    wrongs = []
    previous = None
    for count, row in rows.items():
        gain = "" if previous is None else f"x{row[unit] / previous[unit]:.2f}"
        cores = "  ".join(f"{name} {share:.2f}" for name, share in row["cores"].items())
        print(f"{count:3}  {unit} {row[unit]:8}  {gain:6} cores: {cores}   the machine is {row['machine']:.0%} busy")
        if previous is not None and row[unit] < GAIN_MIN * previous[unit] and row["machine"] < FULL:
            wrongs.append(f"{count}: less than x{GAIN_MIN} with cores to spare")
        wrongs += [f"{count}: {row['refused']} refused"] if row["refused"] else []
        previous = row
    return wrongs


def main() -> int:
    """Run it; returns 1 when a doubling brings too little though cores are idle."""
    parser = argparse.ArgumentParser(prog="benchmarks.scaling", description=__doc__.partition("\n")[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4], help="processes of each kind")
    parser.add_argument("--seconds", type=float, default=5.0, help="what each deployment is measured for")
    parser.add_argument("--result", default="scaling", help="name of the kept figures; empty: none")
    options = parser.parse_args()
    long = create(steps=LONG_STEPS, stamped=20)
    limited = ("--step-s", str(STEP_S), "--max-num-seqs", str(TURNS))
    print("frontends, finished streams", flush=True)
    frontends = {count: deployed(count, 1, Work((), READING, None, options.seconds)) for count in options.counts}
    wrongs = curve("events_per_s", frontends)
    print("workers, engines of limited speed", flush=True)
    workers = {
        count: deployed(_FRONTENDS_BEFORE_WORKERS, count, Work(limited, 2 * TURNS * count, long, options.seconds))
        for count in options.counts
    }
    wrongs += curve("events_per_s", workers)
    print("verdict: " + ("; ".join(wrongs) or "throughput grows until the cores are full"))
    if options.result:
        keep(options.result, {"frontends": frontends, "workers": workers, "wrongs": wrongs})
    return bool(wrongs)


if __name__ == "__main__":
    sys.exit(main())
