"""Ten times more requests than a deployment can take: what those that are let in get, and how the others are refused.

    python -m benchmarks.overload [--seconds 60] [--times 10] [--queue 6] [--engine scripted|vllm] [--result NAME]

Requests arrive at even intervals, whatever becomes of the ones before: for a while at a quarter of what the engine can
take, then `--times` as many as it can, then at a quarter again. Printed are the times to the first delta in each phase,
how long a refusal takes, the memory of the serving processes through the overload, and a verdict:

    kept        who is let in waits no longer for the first delta than before plus what the queue's bound allows: its
                length divided by the engine's rate (p50 and p99)
    refused     all others are answered 429 with a Retry-After, 99 of 100 within 50 ms
    flat        in its last third no process has more than a tenth (or 5 MB) above what it had in the first
    recovered   from one second after the load on, first deltas come as before (p50 and p90)

The scripted engine runs 8 requests at once, each for about a second, half of it before its first word. The figures,
with those of every request, are kept in benchmarks/results/`--result`.json.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil

from benchmarks.deployment import Deployment, ready
from benchmarks.figures import actor_process, keep, serving_process

SLOTS = 8
STEPS = 10
SCRIPT = {"first_s": 0.5, "interval_s": 0.05, "steps": STEPS}
SCRIPTED = {"model": "scripted", "input": "hello", "stream": True, "metadata": {"script": json.dumps(SCRIPT)}}
REAL = {"model": "holdfast-demo", "input": "Write a long story.", "stream": True, "max_output_tokens": 60}
REAL |= {"ignore_eos": True, "temperature": 1}
CALM_S = 12.0
CALM_SHARE = 0.25
REFUSED_WITHIN_S = 0.05
SLACK_S = 0.1
"""What two runs of one phase may differ by on a busy machine."""
GROWTH_MAX = 0.1
GROWTH_BYTES_MAX = 5e6


class Outcome(NamedTuple):
    """One request: when it was sent (s of the phase), its HTTP status (0: broken), how long until that was there and
    until the first delta (s; None without one), the `Retry-After` it got, and how long the server says it took (ms)."""

    at_s: float
    status: int
    answered_s: float
    first_s: float | None = None
    retry_after: str | None = None
    processing_ms: str | None = None


async def ask(client: aiohttp.ClientSession, url: str, body: dict[str, Any], at_s: float) -> Outcome:
    """Send one request and read its answer to the end."""
    begun, first_s = time.perf_counter(), None
    try:
        async with client.post(url + "/v1/responses", json=body) as answer:
            answered_s = time.perf_counter() - begun
            async for chunk in answer.content.iter_any():
                if first_s is None and b"output_text.delta" in chunk:
                    first_s = time.perf_counter() - begun
            said = (answer.headers.get(name) for name in ("Retry-After", "openai-processing-ms"))
            return Outcome(at_s, answer.status, answered_s, first_s, *said)
    except aiohttp.ClientError:
        return Outcome(at_s, 0, time.perf_counter() - begun)


async def arrive(url: str, body: dict[str, Any], rate: float, seconds: float) -> list[Outcome]:
    """Send `rate` requests a second for so long; returns when all are answered."""
    asked = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        begun = time.perf_counter()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(number / rate - (time.perf_counter() - begun))
            asked.append(asyncio.create_task(ask(client, url, body, time.perf_counter() - begun)))
        return await asyncio.gather(*asked)


async def watch(processes: dict[str, psutil.Process], curves: dict[str, list[int]]) -> None:
    """Note the memory of each process, every second."""
    while True:
        for name, process in processes.items():
            curves[name].append(process.memory_info().rss)
        await asyncio.sleep(1)


async def rate_of(url: str, body: dict[str, Any]) -> float:
    """Requests a second that the engine can take: what it finishes when it always has more to do than it can."""
    lots = 2 * SLOTS
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def one_after_another() -> int:
            return sum([(await ask(client, url, body, 0)).status == 200 for _ in range(4)])

        begun = time.perf_counter()
        done = await asyncio.gather(*(one_after_another() for _ in range(SLOTS if body is REAL else lots)))
        return sum(done) / (time.perf_counter() - begun)


async def run(
    url: str, body: dict[str, Any], processes: dict[str, psutil.Process], seconds: float, times: float
) -> dict[str, Any]:
    """All three phases; returns the raw run."""
    rate = SLOTS / 1.0 if body is SCRIPTED else await rate_of(url, body)
    calm = CALM_SHARE * rate
    before = await arrive(url, body, calm, CALM_S)
    curves: dict[str, list[int]] = {name: [] for name in processes}
    watching = asyncio.create_task(watch(processes, curves))
    overload = await arrive(url, body, times * rate, seconds)
    watching.cancel()
    after = await arrive(url, body, calm, CALM_S)
    return {"rate": rate, "times": times, "before": before, "overload": overload, "after": after, "rss": curves}


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def first_deltas(outcomes: list[Outcome], since_s: float = 0.0) -> list[float]:
    """Times to the first delta of those that were sent from then on."""
    return [each.first_s for each in outcomes if each.first_s is not None and each.at_s >= since_s]


def judge(found: dict[str, Any], queue: int) -> dict[str, bool]:
    """Print the figures of a run; returns the verdicts."""
    before, overload, after = (found[phase] for phase in ("before", "overload", "after"))
    for name, outcomes in (("before", before), ("overload", overload), ("after", after)):
        firsts, statuses = first_deltas(outcomes), dict(Counter(each.status for each in outcomes))
        times = f"p50 {quantile(firsts, 0.5) * 1e3:6.0f} ms   p99 {quantile(firsts, 0.99) * 1e3:6.0f} ms"
        print(f"{name:9} {len(outcomes):6} requests {statuses!s:22} first delta {times}")
    refused = [each for each in overload if each.status == 429]
    took = [each.answered_s for each in refused]
    print(f"refusals: p50 {quantile(took, 0.5) * 1e3:.1f} ms, p99 {quantile(took, 0.99) * 1e3:.1f} ms", end="; ")
    inside = [float(each.processing_ms) for each in refused if each.processing_ms is not None]
    print(f"in the server p50 {quantile(inside, 0.5):.0f} ms, p99 {quantile(inside, 0.99):.0f} ms", end="; ")
    print(f"Retry-After {dict(Counter(each.retry_after for each in refused).most_common(4))}")
    flat = True
    for name, curve in found["rss"].items():
        third = max(1, len(curve) // 3)
        early, late = max(curve[:third]), max(curve[-third:])
        flat &= late <= max(early * (1 + GROWTH_MAX), early + GROWTH_BYTES_MAX)
        print(f"memory of {name}: {early / 1e6:.1f} MB in the first third, {late / 1e6:.1f} MB in the last")
    allowed_s = queue / found["rate"] + SLACK_S

    def within(share: float, outcomes: list[float], more_s: float) -> bool:
        return quantile(outcomes, share) <= quantile(first_deltas(before), share) + more_s

    return {
        "kept": all(within(share, first_deltas(overload), allowed_s) for share in (0.5, 0.99)),
        "refused": quantile(took, 0.99) <= REFUSED_WITHIN_S
        and all(each.retry_after for each in refused)
        and {each.status for each in overload} <= {200, 429},
        "flat": flat,
        "recovered": all(within(share, first_deltas(after, 1.0), SLACK_S) for share in (0.5, 0.9))
        and all(each.status == 200 for each in after if each.at_s >= 1),
    }


def serve(deployment: Deployment, engine: str, queue: int) -> tuple[str, dict[str, psutil.Process]]:
    """Start a worker and a frontend; returns the frontend's URL and the serving processes."""
    flags = ["--engine", engine, "--max-num-seqs", str(SLOTS)]
    worker = deployment.worker(*flags, queue_requests_max=str(queue))
    frontend, url = deployment.frontend()
    ready(url, deployment)
    return url, {"frontend": serving_process(frontend), "actor": actor_process(worker)}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--queue", type=int, default=6)
    parser.add_argument("--engine", choices=["scripted", "vllm"], default="scripted")
    parser.add_argument("--result", default="overload", help="name of the file to keep; empty: none")
    options = parser.parse_args()
    body = SCRIPTED if options.engine == "scripted" else REAL
    with tempfile.TemporaryDirectory(prefix="holdfast-") as directory, Deployment(Path(directory)) as deployment:
        url, processes = serve(deployment, options.engine, options.queue)
        found = asyncio.run(run(url, body, processes, options.seconds, options.times))
    verdicts = judge(found, options.queue)
    print("   ".join(f"{name}: {'yes' if holds else 'NO'}" for name, holds in verdicts.items()))
    if options.result:
        phases = {name: told(found[name]) for name in ("before", "overload", "after")}
        facts = {"engine": options.engine, "queue": options.queue, "verdicts": verdicts}
        keep(options.result, {**facts, **found, **phases})


def told(outcomes: list[Outcome]) -> list[str]:
    """Requests as short lines: sent at (s), status, answered in (ms), first delta in (ms), Retry-After (s)."""
    return [
        f"{each.at_s:.3f} {each.status} {each.answered_s * 1e3:.1f} "
        f"{'-' if each.first_s is None else round(each.first_s * 1e3, 1)} {each.retry_after or '-'}"
        for each in outcomes
    ]


if __name__ == "__main__":
    main()
