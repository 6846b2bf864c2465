"""Many streams that all say something: how old their events are at the client's socket, the more there are.

    python -m benchmarks.active_streams [--streams 250 500 1000 1500 2000] [--frontends 4] [--rate 20] [--seconds 8]

One worker's scripted engine steps every 10 ms; each stream says so many events a second, and each event the time at
which it was made. Some readers read nothing until the end: they must cost the others nothing, be let go
once their buffer is full, and then find every event. Prints the delays by number of streams, and who used the cores.
"""

import argparse
import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop

from benchmarks.crowd import SHARES, Client, Delays, allow_connections, connect, create, open_all, percentile
from benchmarks.deployment import Deployment, journal_in_memory, ready
from benchmarks.figures import actor_process, cpu_s, keep, serving_process

P99_S_MAX: Final = 0.05
STEP_S: Final = 0.01
TEXT_CHARS: Final = 20
SLOW_TEXT_CHARS: Final = 10_000
"""What a slow reader's events say, so that they fill its buffers within the run."""
SLOW_RECEIVE_BYTES: Final = 4096
STREAM_BUFFER_BYTES_MAX: Final = 2**18
SHARE_MIN: Final = 0.8
"""A stream that gets less of what the median stream gets is starved."""
_SETTLE_S: Final = 2.0
_CAUGHT_UP_S: Final = 1.0
_CATCH_UP_DEADLINE_S: Final = 30.0
_STEPS: Final = 10**6
_SEQUENCE: Final = re.compile(rb'"sequence_number":(\d+)}\n')
_STAMP: Final = re.compile(rb'"delta":"@(\d+)')


class SlowReader:
    """A client that reads nothing for a long time, and then checks that it gets everything."""

    def __init__(self) -> None:
        self.bytes = 0
        self.next_number: int | None = None
        self.gaps = 0
        self.newest_s = 0.0
        """When the last event was made."""
        self._rest = b""

    def take(self, _: Client, data: bytes, __: float) -> None:
        """Follow the sequence numbers of the deltas."""
        self.bytes += len(data)
        whole, end, self._rest = (self._rest + data).rpartition(b"\n\n")
        for number in map(int, _SEQUENCE.findall(whole + end)):
            self.gaps += self.next_number is not None and number != self.next_number
            self.next_number = number + 1
        if stamps := _STAMP.findall(whole):
            self.newest_s = int(stamps[-1]) / 1e6


async def open_slow(urls: Sequence[str], count: int, request: bytes) -> list[tuple[Client, SlowReader]]:
    """Streams whose clients stop reading once they have begun."""
    opened = []
    for number in range(count):
        reader = SlowReader()
        [client] = await connect([urls[number % len(urls)]], 1, reader.take, SLOW_RECEIVE_BYTES)
        await open_all([client], request)
        client.transport.pause_reading()
        opened.append((client, reader))
    return opened


async def catch_up(slow: Sequence[tuple[Client, SlowReader]]) -> dict[str, Any]:
    """Let the slow readers read all they have missed."""
    begun = time.monotonic()
    for client, _ in slow:
        client.transport.resume_reading()
    while any(reader.newest_s < time.monotonic() - _CAUGHT_UP_S for _, reader in slow):
        if time.monotonic() - begun > _CATCH_UP_DEADLINE_S:
            break
        await asyncio.sleep(0.05)
    behind = [reader for _, reader in slow if reader.newest_s < time.monotonic() - 2 * _CAUGHT_UP_S]
    return {
        "readers": len(slow),
        "bytes_each": round(statistics.mean(reader.bytes for _, reader in slow)) if slow else 0,
        "took_s": round(time.monotonic() - begun, 1),
        "gaps": sum(reader.gaps for _, reader in slow),
        "never_caught_up": len(behind),
    }


class Load:
    """The streams, and what they cost whom."""

    def __init__(
        self, urls: Sequence[str], groups: dict[str, list[psutil.Process]], options: argparse.Namespace
    ) -> None:
        self._urls = urls
        self._groups = groups
        self._options = options
        # Each step of a stream is taken at the end of an engine step, so half of one later than it is due.
        self._interval_s = 1 / options.rate - STEP_S / 2
        self._delays = Delays()
        self._clients: list[Client] = []

    async def run(self) -> dict[str, Any]:
        """All levels, one after the other, then the slow readers."""
        script = {"steps": _STEPS, "interval_s": self._interval_s}
        slow = await open_slow(self._urls, self._options.slow, create(**script, stamped=SLOW_TEXT_CHARS))
        memory = self._rss("frontends")
        levels = []
        for streams in self._options.streams:
            levels.append(await self._level(streams, create(**script, stamped=TEXT_CHARS)))
            _show(levels[-1])
        per_stream = (self._rss("frontends") - memory) / max(self._options.streams)
        return {
            "levels": levels,
            "bytes_per_stream": round(per_stream),
            "slow": await catch_up(slow),
        }

    async def _level(self, streams: int, request: bytes) -> dict[str, Any]:
        new = await connect(self._urls, streams - len(self._clients), self._delays.take)
        self._clients += new
        await open_all(new, request)
        await asyncio.sleep(_SETTLE_S)
        self._delays.reset()
        cpu, begun = self._cpu_s(), time.monotonic()
        await asyncio.sleep(self._options.seconds)
        took_s, delays_s = time.monotonic() - begun, [delay / 1e6 for delay in self._delays.delays_us]
        counts = [self._delays.events.get(client, 0) for client in self._clients]
        return {
            "streams": streams,
            "events_per_s": round(len(delays_s) / took_s),
            "delay_ms": {name: round(percentile(delays_s, share) * 1e3, 1) for name, share in SHARES.items()},
            "slowest_share": round(min(counts) / max(1, statistics.median(counts)), 2),
            "cores": {name: round((now - cpu[name]) / took_s, 2) for name, now in self._cpu_s().items()},
        }

    def _cpu_s(self) -> dict[str, float]:
        return {name: sum(map(cpu_s, processes)) for name, processes in self._groups.items()}

    def _rss(self, name: str) -> int:
        return sum(process.memory_info().rss for process in self._groups[name])


def _show(level: dict[str, Any]) -> None:
    delays = "  ".join(f"{name} {delay:6}" for name, delay in level["delay_ms"].items())
    cores = "  ".join(f"{name} {share:.2f}" for name, share in level["cores"].items())
    shown = f"{level['streams']:5} streams {level['events_per_s']:6} events/s   delay in ms: {delays}"
    print(f"{shown}   slowest stream {level['slowest_share']:4.0%}   cores: {cores}", flush=True)


def verdict(figures: dict[str, Any]) -> tuple[str, list[str]]:
    """The highest number of streams at which delays are short and nobody starves; and what is wrong at any."""
    held = [
        level["streams"]
        for level in figures["levels"]
        if level["delay_ms"]["p99"] < P99_S_MAX * 1e3 and level["slowest_share"] >= SHARE_MIN
    ]
    wrongs = [] if held else ["no load had short delays"]
    slow = figures["slow"]
    if slow["gaps"] or slow["never_caught_up"]:
        wrongs.append("slow readers missed events")
    return f"p99 below {P99_S_MAX * 1e3:.0f} ms up to {max(held, default=0)} streams", wrongs


def main() -> int:
    """Run it; returns 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="benchmarks.active_streams", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[250, 500, 1000, 1500, 2000])
    parser.add_argument("--frontends", type=int, default=4)
    parser.add_argument("--rate", type=float, default=20.0, help="events a second of each stream")
    parser.add_argument("--seconds", type=float, default=8.0, help="what each number of streams is measured for")
    parser.add_argument("--slow", type=int, default=10, help="readers, besides, that read nothing until the end")
    parser.add_argument("--result", default="active-streams", help="name of the kept figures; empty: none")
    options = parser.parse_args()
    allow_connections(max(options.streams) + options.slow)
    room = str(2 * max(options.streams))
    settings = {
        "responses_max": room,
        "journal_files_max": room,
        "stream_buffer_bytes_max": str(STREAM_BUFFER_BYTES_MAX),
    }
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as directory,
        journal_in_memory() as in_memory,
        Deployment(Path(directory), **settings, **in_memory) as deployment,
    ):
        worker = deployment.worker("--engine", "scripted", "--step-s", str(STEP_S), "--max-num-seqs", room)
        frontends = [deployment.frontend() for _ in range(options.frontends)]
        for _, url in frontends:
            ready(url, deployment)
        groups = {
            "frontends": [serving_process(process) for process, _ in frontends],
            "worker": [actor_process(worker)],
            "client": [psutil.Process(os.getpid())],
        }
        figures = uvloop.run(Load([url for _, url in frontends], groups, options).run())
    held, wrongs = verdict(figures)
    print(
        f"memory: {figures['bytes_per_stream']} bytes a stream, all frontends together; slow readers: {figures['slow']}"
    )
    print("verdict: " + "; ".join([held, *wrongs]))
    facts = {"frontends": options.frontends, "rate": options.rate, "seconds": options.seconds, "step_s": STEP_S}
    if options.result:
        keep(options.result, {"settings": facts | settings, **figures, "verdict": held, "wrongs": wrongs})
    return bool(wrongs)


if __name__ == "__main__":
    sys.exit(main())
