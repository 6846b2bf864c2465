"""A frontend against the ceiling: how many events a second of its processor time takes to the clients.

    python -m benchmarks.frontend_ceiling [--streams 32 256] [--rounds 5] [--seconds 4]

The ceiling is a bare server on the same libraries (aiohttp, uvloop), which has nothing to read, decode or keep: at each
step it writes ready-made bytes, of our events' size, to each stream. Both have the same streams, one event a stream
and step, one write an event, and the same client; rounds alternate. Of each the serving process alone is measured,
while all streams run. Ours gets its events from a worker with the scripted engine, one message a step.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil
import uvloop
from aiohttp import web

from benchmarks.crowd import Client, allow_connections, connect, create, open_all
from benchmarks.deployment import Deployment, free_port, ready, status_of, wait_until
from benchmarks.figures import cpu_s, keep, serving_process

SHARE_MIN: Final = 0.6
STEP_S: Final = 0.02
TEXT_CHARS: Final = 20
"""Characters of a delta, of which the time takes 13."""
_SETTLE_S: Final = 0.5
_STEPS: Final = 10**6


class Round(NamedTuple):
    """What one round brought: events and bytes that arrived, and processor time of the serving process."""

    events: int
    bytes: int
    cpu_s: float


class Counts:
    """What clients got."""

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.an_event = b""

    def take(self, _: Client, data: bytes, __: float) -> None:
        """Count."""
        self.events += data.count(b"\ndata: ")
        self.bytes += len(data)
        self.an_event = data


async def measure(url: str, serving: psutil.Process, streams: int, seconds: float, counts: Counts) -> Round:
    """One round: open all streams, let them settle, count for some seconds, leave."""
    clients = await connect([url], streams, counts.take)
    await open_all(clients, create(steps=_STEPS, stamped=TEXT_CHARS))
    await asyncio.sleep(_SETTLE_S)
    events, size, cpu = counts.events, counts.bytes, cpu_s(serving)
    await asyncio.sleep(seconds)
    found = Round(counts.events - events, counts.bytes - size, cpu_s(serving) - cpu)
    for client in clients:
        client.transport.abort()
    await asyncio.sleep(2 * _SETTLE_S)  # the worker cancels what has no client
    return found


# ---- the ceiling -----------------------------------------------------------------------------------------------------


def serve_ready_made(port: int, event: bytes) -> None:
    """The bare server: every request becomes a stream, and each stream gets `event` at each step."""
    uvloop.run(_serve_ready_made(port, event))


async def _serve_ready_made(port: int, event: bytes) -> None:
    transports: set[asyncio.Transport] = set()

    async def stream(request: web.Request) -> web.StreamResponse:
        await request.read()
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(event)
        transport = request.transport
        assert transport is not None
        transports.add(transport)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            transports.discard(transport)
        return answer

    app = web.Application()
    app.router.add_post("/v1/responses", stream)
    app.router.add_get("/health/live", _live)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=2048).start()
    chunk = b"%x\r\n%b\r\n" % (len(event), event)
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        for transport in transports:
            if not transport.is_closing():
                transport.write(chunk)
        due = max(due + STEP_S, loop.time())
        await asyncio.sleep(due - loop.time())


async def _live(_: web.Request) -> web.Response:
    return web.Response()


# ---- the comparison --------------------------------------------------------------------------------------------------


def compare(urls: dict[str, str], serving: dict[str, psutil.Process], streams: int, options: argparse.Namespace) -> Any:
    """Alternating rounds of both; returns the figures of each, and the ratio of the medians."""
    rates: dict[str, list[float]] = {name: [] for name in urls}
    rounds: dict[str, list[Round]] = {name: [] for name in urls}
    for number in range(options.rounds + 1):
        for name, url in urls.items():
            found = uvloop.run(measure(url, serving[name], streams, options.seconds, Counts()))
            if number:  # the first warms up
                rounds[name].append(found)
                rates[name].append(found.events / found.cpu_s)
    medians = {name: statistics.median(each) for name, each in rates.items()}
    return {
        "streams": streams,
        "events_per_cpu_s": {name: round(each) for name, each in medians.items()},
        "events_per_s": {name: round(rounds[name][0].events / options.seconds) for name in urls},
        "bytes_per_event": {name: round(rounds[name][0].bytes / rounds[name][0].events) for name in urls},
        "share": round(medians["ours"] / medians["ceiling"], 3),
        "rounds": rounds,
    }


def an_event(url: str) -> bytes:
    """One event of ours, as the client gets it."""

    async def listen() -> bytes:
        counts = Counts()
        [client] = await connect([url], 1, counts.take)
        await open_all([client], create(steps=_STEPS, stamped=TEXT_CHARS))
        await asyncio.sleep(_SETTLE_S)
        client.transport.abort()
        return counts.an_event

    _, _, rest = uvloop.run(listen()).partition(b"event: ")
    event, _, _ = rest.partition(b"\n\n")
    return b"event: " + event + b"\n\n"


def main() -> int:
    """Run it; returns 1 when the share is too small."""
    parser = argparse.ArgumentParser(prog="benchmarks.frontend_ceiling", description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="what one round counts for")
    parser.add_argument("--ready-made", nargs=2, metavar=("PORT", "EVENT"), help=argparse.SUPPRESS)
    parser.add_argument("--result", default="frontend-ceiling", help="name of the kept figures; empty: none")
    options = parser.parse_args()
    if options.ready_made:
        port, event = options.ready_made
        serve_ready_made(int(port), event.encode())
        return 0
    allow_connections(max(options.streams))
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as directory,
        Deployment(Path(directory), disconnect_grace_s="0.2") as deployment,
    ):
        found = _compare_all(deployment, options)
    return _report(found, options)


def _compare_all(deployment: Deployment, options: argparse.Namespace) -> list[Any]:
    engine = ("--engine", "scripted", "--step-s", str(STEP_S), "--max-num-seqs", str(2 * max(options.streams)))
    deployment.worker(*engine)
    frontend, url = deployment.frontend()
    ready(url, deployment)
    port = free_port()
    ceiling_url = f"http://127.0.0.1:{port}"
    module = (sys.executable, "-m", "benchmarks.frontend_ceiling", "--ready-made", str(port))
    ceiling = deployment.start(*module, an_event(url).decode())
    wait_until(lambda: status_of(ceiling_url + "/health/live") == 200, 30.0, "the bare server listens")
    urls = {"ours": url, "ceiling": ceiling_url}
    serving = {"ours": serving_process(frontend), "ceiling": psutil.Process(ceiling.pid)}
    return [compare(urls, serving, streams, options) for streams in options.streams]


def _report(found: list[Any], options: argparse.Namespace) -> int:
    print("streams  events/s  bytes  events per CPU second: ours  ceiling  share")
    for each in found:
        rates, size = each["events_per_cpu_s"], each["bytes_per_event"]["ours"]
        shown = f"{each['streams']:7}  {each['events_per_s']['ours']:8}  {size:5}"
        print(f"{shown}  {rates['ours']:27}  {rates['ceiling']:7}  {each['share']:5.0%}")
    wrongs = [f"{each['streams']} streams: below {SHARE_MIN:.0%}" for each in found if each["share"] < SHARE_MIN]
    print("verdict: " + ("; ".join(wrongs) or f"at least {SHARE_MIN:.0%} of the ceiling"))
    settings = {"step_s": STEP_S, "rounds": options.rounds, "seconds": options.seconds}
    if options.result:
        keep(options.result, {"settings": settings, "loads": found, "wrongs": wrongs})
    return bool(wrongs)


if __name__ == "__main__":
    sys.exit(main())
