"""Runs each benchmark at a modest size and prints one table of what they say: `make bench`.

python -m benchmarks [NAME ...]
"""

import subprocess
import sys
import time
from typing import Final

from benchmarks.deployment import REPOSITORY

BENCHMARKS: Final[dict[str, tuple[str, ...]]] = {
    "active_streams": (*"--streams 250 500 1000 --seconds 4".split(), "--result", ""),
    "frontend_ceiling": (*"--rounds 3 --seconds 2".split(), "--result", ""),
    "hop_floor": (*"--rounds 3 --tokens 100".split(), "--result", ""),
    "idle_streams": (*"--streams 2000 --keepalive-s 5".split(), "--result", ""),
    "journal_cost": (),
    "limits_cost": (),
    "transport_cost": (),
    "overload": (*"--seconds 15".split(), "--result", ""),
    "routing": (*"--rounds 2".split(), "--result", ""),
    "scaling": (*"--seconds 3".split(), "--result", ""),
    "store_cost": tuple("--runs 3 --requests 10 --seconds 10".split()),
    "store_rate": ("--seconds", "5"),
    "vs_vllm": (*"--kinds parsers --streams 1 32 --rounds 3 --tokens 100".split(), "--result", ""),
}
"""Modules of this folder, with arguments that keep each below some two minutes and overwrite no kept figures."""


def main() -> int:
    """Run those named, or all; returns the process's exit code, 1 when one of them failed."""
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"There is no {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}.")
        return 2
    rows, failed = [], []
    for name in names:
        print(f"{name} ...", end="", flush=True)
        begun = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{name}", *BENCHMARKS[name]]
        done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        print(f" {time.monotonic() - begun:.0f} s", flush=True)
        rows += [(name, line) for line in done.stdout.splitlines() if line.strip()]
        failed += [name] if done.returncode else []
    width = max(map(len, names))
    print("\n".join(f"{name:{width}} | {line}" for name, line in rows))
    if failed:
        print("failed:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
