"""What a token costs at least at one stream, on the way that Holdfast's tokens take, beside vLLM's own server.

A bare worker and a bare frontend: real vLLM through our engine, our ZeroMQ channel, a TCP connection; no log, journal,
session, projection or HTTP. `taken in`: the engine makes a step of each token, which is dropped there. `sent on`: each
goes through both processes, as a ready-made event, to a client. What Holdfast adds is between that and its own figure.

    python -m benchmarks.hop_floor [--rounds 8] [--tokens 200]

Medians over runs that alternate. Processor time is all that the processes take outside EngineCore, as in `vs_vllm`.
"""

import argparse
import asyncio
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import psutil
import uvloop

from benchmarks.deployment import START_DEADLINE_S, Deployment, free_port, journal_in_memory, wait_until
from benchmarks.figures import cpu_s, keep
from benchmarks.vs_vllm.load import SETTLE_S, play
from benchmarks.vs_vllm.servers import Server, engine_flags, started
from benchmarks.vs_vllm.work import Kind, bodies
from engine_worker.engines.interface import Turn, TurnRecord
from protocol.channel import ChannelLimits, FrontendChannel, WorkerChannel
from protocol.records import Step, TurnFinished

HEAD = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":100,"item_id":'
    b'"msg_0123456789abcdef0123456789abcdef0123456789abcdef","output_index":0,"content_index":0,"logprobs":[],"delta":'
)
"""Of an event as Holdfast sends it, up to its text."""
END = b"data: [DONE]\n\n"
FRONTEND = "f"
SEND, DROP = b"+", b"-"
"""What a request begins with; a create body follows, and a newline."""


async def bare_worker(endpoint: str, flags: list[str]) -> None:
    """Take requests from the channel, and answer with events."""
    from engine_worker.engines.vllm import build

    engine = await asyncio.to_thread(build, flags, asyncio.get_running_loop(), sys.exit)
    encode = msgspec.json.encode
    turns: set[asyncio.Task[None]] = set()

    def on_frame(peer: bytes, frame: bytes) -> None:
        def emit(_: str, record: TurnRecord) -> None:
            if isinstance(record, TurnFinished):
                channel.send(peer, END)
            elif isinstance(record, Step) and record.deltas and frame.startswith(SEND):
                channel.send(peer, b"%b%b}\n\n" % (HEAD, encode(record.deltas[0].text)))  # type: ignore[union-attr]

        if not frame:
            return
        turn = Turn(f"resp_{time.monotonic_ns()}", 0, frame[1:])
        task = asyncio.create_task(engine.start_turn(turn, emit))
        turns.add(task)
        task.add_done_callback(turns.discard)

    channel = WorkerChannel(endpoint, ChannelLimits(), on_frame)
    await _terminated()
    channel.close()
    await engine.close()


async def bare_frontend(endpoint: str, port: int) -> None:
    """Pass a client's request on, and what comes back; there is one client."""
    clients: list[asyncio.Transport] = []
    channel = FrontendChannel(endpoint, FRONTEND, ChannelLimits(), lambda frame: clients[-1].write(frame))

    class Client(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            clients[:] = [cast("asyncio.Transport", transport)]

        def data_received(self, data: bytes) -> None:
            assert channel.send(data.rstrip(b"\n"))

    while not channel.send(b""):  # noqa: ASYNC110 - ZeroMQ tells nobody when it has connected
        await asyncio.sleep(0.01)
    async with await asyncio.get_running_loop().create_server(Client, "127.0.0.1", port):
        await _terminated()
    channel.close()


async def _terminated() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


async def ask(port: int, kind: bytes, wanted: list[bytes]) -> None:
    """Send each request when the one before it is answered."""
    for body in wanted:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(kind + body + b"\n")
        await reader.readuntil(END)
        writer.close()
        await writer.wait_closed()


def bare(deployment: Deployment, flags: list[str]) -> tuple[int, list[psutil.Process]]:
    """Start the pair; its port, and its processes without the engine's. Raises `RuntimeError` if one ends."""
    endpoint, port = f"ipc://{deployment.directory}/bare", free_port()
    module = (sys.executable, "-W", "ignore", "-m", "benchmarks.hop_floor")
    worker = deployment.start(*module, "--bare-worker", endpoint, *flags)
    frontend = deployment.start(*module, "--bare-frontend", endpoint, str(port))
    pair = worker, frontend
    wait_until(
        lambda: any(each.has_ended for each in pair) or _listens(port), START_DEADLINE_S, "the bare pair is ready"
    )
    if any(each.has_ended for each in pair):
        raise RuntimeError(f"the bare pair has ended\n{deployment.logs()}")
    return port, [psutil.Process(frontend.pid), psutil.Process(worker.pid)]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def us_per_token(processes: list[psutil.Process], run: Callable[[], object], tokens: int) -> float:
    """Microseconds of processor time of these processes."""
    before = sum(map(cpu_s, processes))
    run()
    time.sleep(SETTLE_S)
    return (sum(map(cpu_s, processes)) - before) / tokens * 1e6


def measure(rounds: int, tokens: int) -> dict[str, list[float]]:
    """Microseconds a token of each way, by round."""
    flags = engine_flags([], parsers=False)
    with tempfile.TemporaryDirectory(prefix="holdfast-") as path, journal_in_memory() as settings:
        deployment = Deployment(Path(path), **settings)
        with started(deployment, ("holdfast", "vllm"), flags, []) as servers:
            port, processes = bare(deployment, flags)
            asked = bodies(Kind.TEXT, 1, tokens, store=False, model="holdfast-demo", temperature=0.0)
            lines = [msgspec.json.encode(body) for body in asked]
            ways: dict[str, tuple[list[psutil.Process], Callable[[], object]]] = {
                name: (_all(server), partial(_play, server, asked)) for name, server in servers.items()
            }
            ways["taken in"] = processes, lambda: uvloop.run(ask(port, DROP, lines))
            ways["sent on"] = processes, lambda: uvloop.run(ask(port, SEND, lines))
            found: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(rounds + 1):
                for name, (measured, run) in ways.items():
                    figure = us_per_token(measured, run, tokens * len(asked))
                    if number:  # the first one warms up
                        found[name].append(round(figure, 1))
            return found


def _all(server: Server) -> list[psutil.Process]:
    return [process for processes in server.serving.values() for process in processes]


def _play(server: Server, asked: list[dict[str, object]]) -> object:
    return uvloop.run(play(server.port, asked, streams=1))


def main() -> None:
    """Print the table, and keep it."""
    if sys.argv[1:2] == ["--bare-worker"]:
        uvloop.run(bare_worker(sys.argv[2], sys.argv[3:]))
        return
    if sys.argv[1:2] == ["--bare-frontend"]:
        uvloop.run(bare_frontend(sys.argv[2], int(sys.argv[3])))
        return
    parser = argparse.ArgumentParser(prog="benchmarks.hop_floor", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--result", default="hop-floor", help="file below benchmarks/results; '' for none")
    options = parser.parse_args()
    found = measure(options.rounds, options.tokens)
    whole = statistics.median(found["vllm"])
    for name, figures in found.items():
        median = statistics.median(figures)
        print(f"{name:>10} {median:6.0f} us a token, {median / whole:.2f} of vLLM's server")
    if options.result:
        keep(options.result, {"us_per_token": found})


if __name__ == "__main__":
    main()
