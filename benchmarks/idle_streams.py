"""Streams that say nothing: what each costs in memory, and whether its keepalives come on time.

    python -m benchmarks.idle_streams [--streams 10000] [--intervals 3] [--keepalive-s 15]
    python -m benchmarks.idle_streams --kill-worker [--streams 10000]

One frontend process, one worker whose scripted engine says a word and then nothing for hours, and clients that note
when keepalives arrive.
Memory is the growth of a process's resident set between some streams that have come and gone and all of them open.

With `--kill-worker` the worker's process is killed once they are open, and its successor recovers them: until when they
are attached to it, and for how long the frontend's event loop stood still, as seen at `/health/live`. A stream shows
that it is attached by the sign of life (`Progress`) that comes an interval after.
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop

from benchmarks.crowd import SHARES, Client, allow_connections, connect, create, open_all, percentile
from benchmarks.deployment import Deployment, ready, status_of
from benchmarks.figures import actor_process, cpu_s, keep, serving_process

BYTES_MAX: Final = 20_000
LATE_S_MAX: Final = 1.0
STALL_S_MAX: Final = 1.0
PROGRESS_S: Final = 20
_PROBE_S: Final = 0.05
_WARM_UP: Final = 200
_HOURS_S: Final = 36_000.0


class Arrivals:
    """When each client heard something last, and how much later than an interval after that it heard the next."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._heard_at: dict[Client, float] = {}
        self.late_s: list[float] = []

    def take(self, client: Client, data: bytes, now: float) -> None:
        """Note a keepalive; what else arrives begins an interval."""
        if data.find(b"\r\n: ") >= 0:
            self.late_s.append(now - self._heard_at[client] - self._interval_s)
        self._heard_at[client] = now


async def measure(url: str, processes: dict[str, psutil.Process], options: argparse.Namespace) -> dict[str, Any]:
    """Open the streams, listen for some intervals."""
    arrivals = Arrivals(options.keepalive_s)
    request = create(steps=2, silence_at=1, silence_s=_HOURS_S)
    early = await connect([url], _WARM_UP, arrivals.take)
    await open_all(early, request)
    for client in early:
        client.transport.close()
    await asyncio.sleep(2)
    before = {name: process.memory_info().rss for name, process in processes.items()}
    begun = time.monotonic()
    clients = await connect([url], options.streams, arrivals.take)
    await open_all(clients, request)
    opened_s = time.monotonic() - begun
    cpu_before = {name: cpu_s(process) for name, process in processes.items()}
    listened_s = options.intervals * options.keepalive_s + 1
    await asyncio.sleep(listened_s)
    cpu_each = {name: (cpu_s(process) - cpu_before[name]) / listened_s for name, process in processes.items()}
    grown = {name: process.memory_info().rss - before[name] for name, process in processes.items()}
    return {
        "streams": options.streams,
        "opened_s": round(opened_s, 1),
        "bytes_per_stream": {name: round(size / options.streams) for name, size in grown.items()},
        "cores_while_idle": {name: round(share, 3) for name, share in cpu_each.items()},
        "keepalives": len(arrivals.late_s),
        "keepalives_expected": options.streams * options.intervals,
        "late_s": {name: round(percentile(arrivals.late_s, share), 3) for name, share in SHARES.items()},
        "gone": sum(client.ended.is_set() for client in clients),
    }


def verdict(figures: dict[str, Any]) -> list[str]:
    """What falls short."""
    wrongs = []
    if figures["bytes_per_stream"]["frontend"] >= BYTES_MAX:
        wrongs.append(f"a stream takes the frontend {BYTES_MAX} bytes or more")
    if figures["late_s"]["p99"] >= LATE_S_MAX:
        wrongs.append("keepalives are late")
    if figures["keepalives"] < figures["keepalives_expected"] or figures["gone"]:
        wrongs.append("keepalives are missing")
    return wrongs


class Returns:
    """When each client first heard of its response after the worker was killed."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self.killed_at = float("inf")
        self.heard_s: dict[Client, float] = {}
        self.all = asyncio.Event()

    def take(self, client: Client, data: bytes, now: float) -> None:
        """Note the first event since."""
        if now > self.killed_at and client not in self.heard_s and b"response.in_progress" in data:
            self.heard_s[client] = now - self.killed_at
            if len(self.heard_s) == self._expected:
                self.all.set()


class Probe(threading.Thread):
    """Asks a frontend again and again whether its event loop turns; `longest_s` is the longest that it took to say."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url + "/health/live"
        self.over = threading.Event()
        self.longest_s = 0.0

    def run(self) -> None:
        """Until `over`."""
        while not self.over.wait(_PROBE_S):
            begun = time.monotonic()
            status_of(self._url)
            self.longest_s = max(self.longest_s, time.monotonic() - begun)


async def kill(url: str, worker: psutil.Process, streams: int, wait_s: float) -> dict[str, Any]:
    """Open the streams, kill the worker's process, and see them come back for at most `wait_s`."""
    returns = Returns(streams)
    clients = await connect([url], streams, returns.take)
    await open_all(clients, create(steps=2, silence_at=1, silence_s=_HOURS_S))
    await asyncio.sleep(3)
    probe = Probe(url)
    probe.start()
    returns.killed_at = time.monotonic()
    worker.kill()
    with suppress(TimeoutError):
        await asyncio.wait_for(returns.all.wait(), wait_s + PROGRESS_S)
    probe.over.set()
    await asyncio.to_thread(probe.join)
    attached_s = [heard_s - PROGRESS_S for heard_s in returns.heard_s.values()]
    return {
        "streams": streams,
        "attached": len(attached_s),
        "attached_s": {name: round(percentile(attached_s, share), 2) for name, share in SHARES.items()},
        "longest_stall_s": round(probe.longest_s, 3),
        "gone": sum(client.ended.is_set() for client in clients),
    }


def verdict_killed(figures: dict[str, Any]) -> list[str]:
    """What falls short when the worker is killed."""
    wrongs = []
    if figures["attached"] < figures["streams"] or figures["gone"]:
        wrongs.append("streams are missing")
    if figures["longest_stall_s"] >= STALL_S_MAX:
        wrongs.append("the event loop stood still")
    if figures["losses"] > 1:
        wrongs.append("the worker was thought lost again")
    return wrongs


def main() -> int:
    """Run it; returns 1 when something falls short."""
    parser = argparse.ArgumentParser(prog="benchmarks.idle_streams", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--intervals", type=int, default=3, help="keepalives that each stream is listened to for")
    parser.add_argument("--keepalive-s", type=float, default=15.0)
    parser.add_argument("--kill-worker", action="store_true", help="see them come back after its death instead")
    parser.add_argument("--wait-s", type=float, default=60.0, help="for how long to wait for that")
    parser.add_argument("--result", help="name of the kept figures; empty: none (default: by what is measured)")
    options = parser.parse_args()
    allow_connections(options.streams + _WARM_UP)
    room = str(options.streams + 2 * _WARM_UP)
    with tempfile.TemporaryDirectory(prefix="holdfast-") as directory:
        settings = {"responses_max": room, "streams_max": room, "keepalive_interval_s": str(options.keepalive_s)}
        if not options.kill_worker:
            settings["disconnect_grace_s"] = "1"  # for those of the warm-up
        with Deployment(Path(directory), **settings) as deployment:
            flags = ["--engine", "scripted", "--max-num-seqs", room, "--progress-interval-s"]
            worker = deployment.worker(*flags, str(PROGRESS_S if options.kill_worker else _HOURS_S))
            frontend, url = deployment.frontend()
            ready(url, deployment)
            processes = {"frontend": serving_process(frontend), "worker": actor_process(worker)}
            if options.kill_worker:
                figures = uvloop.run(kill(url, processes["worker"], options.streams, options.wait_s))
                figures["losses"] = frontend.output.read_text().count("is lost: silent")
                wrongs = verdict_killed(figures)
            else:
                figures = uvloop.run(measure(url, processes, options))
                wrongs = verdict(figures)
    for name, figure in figures.items():
        print(f"{name:20} {figure}")
    print("verdict: " + ("; ".join(wrongs) or "as it should be"))
    result = options.result
    if result is None:
        result = "idle-streams-killed" if options.kill_worker else "idle-streams"
    if result:
        keep(result, figures | {"wrongs": wrongs})
    return bool(wrongs)


if __name__ == "__main__":
    sys.exit(main())
