"""What benchmarks share: the processor time of processes, and figures kept beside what was measured with them."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.deployment import Process

RESULTS: Final = Path(__file__).resolve().parent / "results"


def cpu_s(process: psutil.Process) -> float:
    """Processor time of all its threads so far, in seconds with nanosecond resolution."""
    total = 0
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        try:
            total += on_cpu_ns((task / "schedstat").read_text())
        except (FileNotFoundError, ProcessLookupError):  # the thread has ended
            continue
    return total / 1e9


def on_cpu_ns(schedstat: str) -> int:
    """What a thread has run, from its `schedstat`: nanoseconds running, nanoseconds waiting to run, time slices."""
    return int(schedstat.split(maxsplit=1)[0])


def serving_process(frontend: Process) -> psutil.Process:
    """The one process that serves below a frontend's arbiter."""
    [serving] = frontend.descendants("")
    return serving


def actor_process(worker: Process) -> psutil.Process:
    """The process of a worker that holds its logs and its engine."""
    [actor] = worker.descendants("actor_process")
    return actor


def keep(name: str, figures: Mapping[str, Any]) -> Path:
    """Write figures, with the machine and the command that brought them, to benchmarks/results/`name`.json."""
    facts = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "python": platform.python_version(),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({**facts, **figures}, indent=1) + "\n")
    return path


def _command() -> str:
    """The command line, without the places at which things are on this machine."""
    program = Path(sys.argv[0])
    module = program.parent.name if program.stem == "__main__" else program.stem
    rest = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", f"benchmarks.{module}", *rest])


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
