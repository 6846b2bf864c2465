"""How many responses a minute the store takes from several frontends at once, and what they wait for it.

    python -m benchmarks.store_rate [--processes 4] [--seconds 15] [--store postgresql://user@host/name]

Each process closes 8 responses at a time, reads each back with its history, and deletes every tenth, as fast as it can:
500 records of a log, two items in and one of 2 KB out, in chains of ten. Without `--store` it is a SQLite file in a
temporary directory. The last line counts what was refused (`StoreUnavailable`: "database is locked" and its like).
"""

import argparse
import asyncio
import multiprocessing
import random
import statistics
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

from frontend.config import Settings
from frontend.store.errors import StoreUnavailable
from frontend.store.finishing import Finished
from frontend.store.items import HistoryBounds
from frontend.store.pages import StoredItem
from frontend.store.schema import prepare
from frontend.store.store import Store
from protocol.codec import encode_record
from protocol.records import Closed, Step, TextDelta

AT_ONCE = 8
CHAIN = 10
BOUNDS = HistoryBounds(1000, 10_000, 2**25)


def response(response_id: str, previous: str | None, chance: random.Random) -> Finished:
    """One of the usual size; its words differ, so that it does not compress better than most."""
    words = [" " + "".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(500)]
    closed = encode_record(Closed("completed", 1))
    return Finished(
        response_id=response_id,
        tenant="t",
        created_at=int(time.time()),
        model="m",
        status="completed",
        epoch=1,
        closed_at=int(time.time()),
        closed=closed,
        response="".join(words).encode(),
        input_items=[StoredItem(f"{response_id}_{index}", b"x" * 300) for index in range(2)],
        output_items=[StoredItem(f"{response_id}_out", "".join(words[:300]).encode())],
        records=[encode_record(Step((index,), (TextDelta(word),))) for index, word in enumerate(words)] + [closed],
        previous_response_id=previous,
    )


async def use(settings: Settings, name: str, seconds: float) -> tuple[list[float], int]:
    """Use a store for so long; returns what each close took, in seconds, and how many calls were refused."""
    store = Store(settings)
    took: list[float] = []
    refused = 0

    async def one_after_another(line: int) -> None:
        nonlocal refused
        chance, number, previous = random.Random(line), 0, None
        while time.monotonic() < until:
            new = response(f"{name}_{line}_{number}", previous, chance)
            begun = time.monotonic()
            try:
                await store.responses.finish(new)
                took.append(time.monotonic() - begun)
                await store.items.history("t", new.response_id, BOUNDS)
                if number % CHAIN == CHAIN - 1:
                    await store.responses.delete("t", new.response_id, int(time.time()))
            except StoreUnavailable as error:
                print(error)
                refused += 1
            number += 1
            previous = new.response_id if number % CHAIN else None

    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        for line in range(AT_ONCE):
            group.create_task(one_after_another(line))
    await store.close()
    return took, refused


def process(settings: Settings, name: str, seconds: float, results: "Queue[tuple[list[float], int]]") -> None:
    """What each process does."""
    results.put(asyncio.run(use(settings, name, seconds)))


def main() -> None:
    """Print the rate, what closing takes, and how often the store was not available."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--store", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(data_dir=Path(directory), store=options.store)
        prepare(settings)
        context = multiprocessing.get_context("spawn")
        results: Queue[tuple[list[float], int]] = context.Queue()
        names = [f"resp_{time.time_ns()}_{index}" for index in range(options.processes)]
        processes = [context.Process(target=process, args=(settings, name, options.seconds, results)) for name in names]
        for each in processes:
            each.start()
        found = [results.get() for _ in processes]
        for each in processes:
            each.join()
        size = sum(path.stat().st_size for path in Path(directory).iterdir())
    took = sorted(second for each, _ in found for second in each)
    quantiles = statistics.quantiles(took, n=100)
    print(f"{len(took) / options.seconds * 60:8.0f} responses stored a minute, by {options.processes} processes")
    median, high, most = (1000 * seconds for seconds in (quantiles[49], quantiles[98], took[-1]))
    print(f"{median:8.1f} ms to store one (median), {high:.1f} ms (99 %), {most:.0f} ms at most")
    print(f"{size / max(1, len(took)):8.0f} bytes on disk a response")
    print(f"{sum(refused for _, refused in found):8d} calls refused")


if __name__ == "__main__":
    main()
