"""What a message between a frontend and a worker costs: a Unix socket, TCP, TCP with CURVE.

Processor time of both ends together, ZeroMQ's threads included, per message and its answer; one at a time, as the steps
of an engine come, so that nothing is batched. Medians of alternating runs.

    python -m benchmarks.transport_cost
"""

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.deployment import free_port
from protocol.channel import ChannelLimits, FrontendChannel, WorkerChannel
from protocol.curve import new_secret, public_of
from protocol.curve_files import FrontendKeys, WorkerKeys

RUNS = 5
MESSAGES = 3_000
SIZES = (200, 4_000, 60_000)
"""Bytes: a step of one stream, of some dozens, a slice of a backlog."""


async def measure(endpoint: str, size: int, keys: tuple[WorkerKeys, FrontendKeys] | None) -> float:
    """Microseconds of processor time for a message of this size and an answer of as much."""
    arrived, answered = asyncio.Event(), asyncio.Event()
    frame = bytes(size)
    worker_keys, frontend_keys = keys or (None, None)
    worker = WorkerChannel(endpoint, ChannelLimits(), lambda *_: arrived.set(), worker_keys)
    frontend = FrontendChannel(endpoint, "f", ChannelLimits(), lambda _: answered.set(), frontend_keys)
    while not frontend.send(frame):  # noqa: ASYNC110 - ZeroMQ tells nobody when it has connected
        await asyncio.sleep(0.01)
    await arrived.wait()
    before = time.process_time()
    for _ in range(MESSAGES):
        worker.send(b"f", frame)
        await answered.wait()
        answered.clear()
        arrived.clear()
        frontend.send(frame)
        await arrived.wait()
    spent = time.process_time() - before
    frontend.close()
    worker.close()
    return spent / MESSAGES / 2 * 1e6


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as path:
        worker, frontend = new_secret(), new_secret()
        authorized = Path(path, "authorized")
        authorized.write_text(f"here {public_of(frontend).hex()}\n")
        keys = WorkerKeys(worker, authorized), FrontendKeys(frontend, public_of(worker))
        print(f"{'bytes':>8} {'ipc':>10} {'tcp':>10} {'tcp+CURVE':>10}   us of processor time a message")
        for size in SIZES:
            figures: dict[str, list[float]] = {"ipc": [], "tcp": [], "curve": []}
            for run in range(RUNS):
                figures["ipc"].append(asyncio.run(measure(f"ipc://{path}/{size}-{run}", size, None)))
                figures["tcp"].append(asyncio.run(measure(f"tcp://127.0.0.1:{free_port()}", size, None)))
                figures["curve"].append(asyncio.run(measure(f"tcp://127.0.0.1:{free_port()}", size, keys)))
            print(f"{size:>8} " + " ".join(f"{statistics.median(each):10.0f}" for each in figures.values()))


if __name__ == "__main__":
    main()
