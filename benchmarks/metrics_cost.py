"""What /metrics costs: `python -m benchmarks.metrics_cost`.

Processor time that counting takes a batch of records (one token of one stream), a request, and a heartbeat; and what a
scrape takes beside many processes, and how long it keeps the event loop from running at most: medians of some scrapes.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from frontend.metrics.counting import Metrics
from frontend.metrics.exposition import exposed
from frontend.metrics.files import SheetFiles
from frontend.metrics.watch import Watch
from frontend.projection import Projection
from protocol.records import Opened, Step, TextDelta

TIMES = 100_000
SHEETS = (1, 16, 64)
MODELS = 4
ENDPOINTS = 20
CODES = ("200", "400", "401", "404", "429", "503")
SCRAPES = 20
_NAP_S = 0.0005


def main() -> None:
    """Print the figures."""
    metrics, projection = Metrics(), Projection()
    projection.apply(Opened("resp_" + "0" * 32, 1, b'{"model":"demo","input":"hi"}'))
    projection.apply(Step((1,), (TextDelta("a"),)))
    pace = metrics.pace("demo", 0.0)

    def batch(number: int) -> None:
        projection.next_sequence = number + 2
        pace.heard(projection, number * 0.01)

    watch = Watch(metrics.sheet, lambda _charge: None)
    print(f"a batch of records  {_cost_us(batch):6.2f} us")
    print(f"a request's answer  {_cost_us(lambda _: metrics.answered('POST', '/v1/responses', 200, 0.1)):6.2f} us")
    print(f"a heartbeat         {_cost_us(lambda number: watch.beat((), {}, number, number), TIMES // 20):6.2f} us")
    for sheets in SHEETS:
        asyncio.run(_scrape(sheets))


def _cost_us(call: Callable[[int], None], times: int = TIMES) -> float:
    """Processor time of a call, the loop around it not counted; the best of five."""
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for number in range(times):
            call(number)
        called = time.process_time()
        for _number in range(times):
            pass
        best = min(best, called - begun - (time.process_time() - called))
    return best / times * 1e6


async def _scrape(sheets: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        files = [_busy(Path(directory)) for _ in range(sheets)]
        done = asyncio.Event()
        stalls: list[float] = []

        async def look() -> None:
            while not done.is_set():
                slept_at = time.monotonic()
                await asyncio.sleep(_NAP_S)
                stalls.append(time.monotonic() - slept_at - _NAP_S)

        looking = asyncio.create_task(look())
        took, cpu, worst = [], [], []
        for _ in range(SCRAPES):
            stalls.clear()
            begun, cpu_begun = time.monotonic(), time.process_time()
            size = len((await asyncio.to_thread(lambda: exposed(files[0].collect(), [], "")))[0])
            took.append((time.monotonic() - begun) * 1e3)
            cpu.append((time.process_time() - cpu_begun) * 1e3)
            await asyncio.sleep(2 * _NAP_S)
            worst.append(max(stalls) * 1e3)
        done.set()
        await looking
        print(
            f"a scrape of {sheets:2d} processes, {size:,} bytes: {median(took):5.1f} ms,"
            f" {median(cpu):5.1f} ms of processor time; the event loop waits {median(worst):4.1f} ms"
        )
        for each in files:
            each.close()


def _busy(directory: Path) -> SheetFiles:
    """A process that has counted on all endpoints and models."""
    files = SheetFiles(directory)
    metrics = Metrics(files.sheet)
    for endpoint in range(ENDPOINTS):
        for code in CODES:
            metrics.answered("GET", f"/v1/endpoint/{endpoint}", int(code), 0.01)
    for model in range(MODELS):
        projection, pace = Projection(), metrics.pace(f"model-{model}", 0.0)
        projection.apply(Opened("resp_" + "0" * 32, 1, b'{"model":"demo","input":"hi"}'))
        projection.apply(Step((1,), (TextDelta("a"),)))
        pace.heard(projection, 1.0)
    return files


if __name__ == "__main__":
    main()
