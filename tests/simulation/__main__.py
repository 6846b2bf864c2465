"""`python -m tests.simulation --seeds 10000`: so many lives of a deployment, on all cores. `--seed N`: one, traced."""

import argparse
import json
import os
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.simulation.simulation import Simulation

BATCH = 25
"""Seeds that a process is given at a time."""


def run_some(seeds: range) -> tuple[Counter[str], dict[int, str]]:
    """What happened in them, and how those failed that did."""
    counts: Counter[str] = Counter()
    failures: dict[int, str] = {}
    for seed in seeds:
        simulation = Simulation(seed)
        try:
            simulation.run()
        except Exception:  # noqa: BLE001 - whatever it is, its seed is to be named
            failures[seed] = traceback.format_exc(limit=-3)
        counts += simulation.witness.counts
        counts.update({f"wire: {what}": count for what, count in simulation.wire.counts.items()})
    return counts, failures


def run_one(seed: int) -> None:
    Simulation(seed, trace=print).run()
    print(f"seed {seed}: everything held")


def take_what_is_idle() -> None:
    """Run only while nobody else wants the processor (sched(7))."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def run_all(first: int, count: int, processes: int, result: Path | None = None) -> int:
    begun = time.perf_counter()
    counts: Counter[str] = Counter()
    failures: dict[int, str] = {}
    batches = [range(start, min(start + BATCH, first + count)) for start in range(first, first + count, BATCH)]
    with ProcessPoolExecutor(processes) as pool:
        for some_counts, some_failures in pool.map(run_some, batches):
            counts += some_counts
            failures |= some_failures
    took = time.perf_counter() - begun
    for what, number in sorted(counts.items()):
        print(f"  {number:9,}  {what}")
    for reason, times in Counter(failure.strip().rsplit("\n", 1)[-1][:150] for failure in failures.values()).items():
        print(f"  {times} failed: {reason}")
    for seed, failure in list(failures.items())[:5]:
        print(f"\nseed {seed} failed (python -m tests.simulation --seed {seed}):\n{failure}")
    if result is not None:
        result.write_text(json.dumps({"counts": counts, "failures": failures}))
    print(
        f"{count} seeds in {took:.1f} s on {processes} processes: {count / took:.0f} a second, {len(failures)} failed"
    )
    return 1 if failures else 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--idle", action="store_true", help="on what others leave of the processors")
    parser.add_argument("--result", type=Path, help="file to write what happened to, as JSON")
    parser.add_argument("--seed", type=int, help="only this one, with a trace")
    given = parser.parse_args()
    if given.idle:
        take_what_is_idle()
    if given.seed is not None:
        run_one(given.seed)
    else:
        sys.exit(run_all(given.first, given.seeds, given.processes, given.result))


if __name__ == "__main__":
    main()
