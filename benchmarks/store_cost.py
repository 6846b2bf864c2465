"""What being stored costs a response: the time to its first event, and processor time; and a minute at a steady rate.

    python -m benchmarks.store_cost [--runs 7] [--requests 20] [--rate 1000] [--seconds 60] [--store postgresql://...]

One scripted worker, four frontends, SQLite unless said otherwise. Streams with `store: true` and `store: false` take
turns, one at a time, so that whatever else the machine does falls on both. Then responses are created at a steady rate
at all frontends; all of them must be answered and stored, and no log may say that the database was locked.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from benchmarks.deployment import Deployment, Process, ready

FRONTENDS: Final = 4
SCRIPT: Final = {"steps": 100, "interval_s": 0.0005}
SIGNS: Final = ("database is locked", "is not stored yet", "store does not answer", "store fails", "Traceback")
"""Of a store that did not keep up, in the logs."""


def body(*, store: bool, stream: bool) -> dict[str, Any]:
    """A create for an answer of a hundred words in a twentieth of a second."""
    return {
        "model": "scripted",
        "input": "What does it cost?",
        "store": store,
        "stream": stream,
        "metadata": {"script": json.dumps(SCRIPT)},
    }


async def first_event_s(http: aiohttp.ClientSession, url: str, *, store: bool) -> float:
    """Seconds from a create to the first bytes of its stream, which is read to its end."""
    begun = time.perf_counter()
    async with http.post(url + "/v1/responses", json=body(store=store, stream=True)) as answer:
        answer.raise_for_status()
        await answer.content.readany()
        took = time.perf_counter() - begun
        await answer.read()
    return took


def cpu_s(processes: Sequence[Process]) -> float:
    """Processor time of these and all below them, in seconds."""
    found = [each for process in processes for each in (psutil.Process(process.pid), *process.descendants(""))]
    return sum(sum(each.cpu_times()[:2]) for each in found)


async def compare(
    http: aiohttp.ClientSession, urls: Iterator[str], frontends: list[Process], runs: int, n: int
) -> None:
    """Print times to the first event side by side, and what being stored adds to the frontends' processor time."""
    first: dict[bool, list[float]] = {True: [], False: []}
    cpu: dict[bool, list[float]] = {True: [], False: []}
    for run in range(runs + 1):  # the first warms everything up
        times: dict[bool, list[float]] = {True: [], False: []}
        for number in range(2 * n):
            store = (number + number // 2) % 2 == 0  # on, off, off, on: whoever comes second does so as often
            times[store].append(await first_event_s(http, next(urls), store=store))
        for store in (True, False) if run % 2 else (False, True):
            before = cpu_s(frontends)
            for _ in range(n):
                await first_event_s(http, next(urls), store=store)
            if run:
                cpu[store].append((cpu_s(frontends) - before) / n)
                first[store].append(statistics.median(times[store]))
    on, off = (1000 * statistics.median(first[store]) for store in (True, False))
    print(f"{on:8.2f} ms to the first event with store: true, {off:.2f} ms with store: false: {on / off:.3f} times")
    for store, found in first.items():
        print(f"         {'true ' if store else 'false'}: " + ", ".join(f"{1000 * each:.2f}" for each in found))
    with_it, without = (1000 * statistics.median(cpu[store]) for store in (True, False))
    print(f"{with_it - without:8.2f} ms of processor time to store one ({with_it:.2f} instead of {without:.2f})")


async def create_s(http: aiohttp.ClientSession, url: str) -> float:
    """Seconds for a stored response from its request to its whole answer."""
    begun = time.perf_counter()
    async with http.post(url + "/v1/responses", json=body(store=True, stream=False)) as answer:
        answer.raise_for_status()
        await answer.read()
    return time.perf_counter() - begun


async def keep_up(
    http: aiohttp.ClientSession, urls: Iterator[str], deployment: Deployment, rate: int, seconds: float
) -> None:
    """Print how a steady rate of creates, so many a minute, was answered."""
    begun, tasks = time.perf_counter(), []
    async with asyncio.TaskGroup() as group:
        for number in range(round(rate * seconds / 60)):
            await asyncio.sleep(max(0.0, begun + number * 60 / rate - time.perf_counter()))
            tasks.append(group.create_task(create_s(http, next(urls))))
    took = sorted(task.result() for task in tasks)
    per_minute = 60 * len(took) / (time.perf_counter() - begun)
    print(f"{per_minute:8.0f} stored responses a minute over HTTP, {len(took)} by {FRONTENDS} frontends")
    print(f"{1000 * statistics.median(took):8.1f} ms for one of them (median), {1000 * took[-1]:.0f} ms at most")
    logs = "".join(process.output.read_text() for process in deployment.processes)
    found = {sign: logs.count(sign) for sign in SIGNS}
    print(f"{sum(found.values()):8d} complaints in the logs: {found}")


async def measure(options: argparse.Namespace, deployment: Deployment) -> None:
    """Start all there is to measure, and measure it."""
    frontends, addresses = zip(*(deployment.frontend() for _ in range(FRONTENDS)), strict=True)
    deployment.worker("--engine", "scripted")
    for url in addresses:
        await asyncio.to_thread(ready, url, deployment)
    urls = itertools.cycle(addresses)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await compare(http, urls, list(frontends), options.runs, options.requests)
        await keep_up(http, urls, deployment, options.rate, options.seconds)


def main() -> None:
    """Print what it costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--store", default="")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as directory,
        Deployment(Path(directory), store=options.store) as deployment,
    ):
        asyncio.run(measure(options, deployment))


if __name__ == "__main__":
    main()
