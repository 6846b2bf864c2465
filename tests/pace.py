"""Time in tests: the net under each wait, and the measure for the few figures of wall-clock time."""

import subprocess
import sys
import time
from typing import Final

from benchmarks.deployment import START_DEADLINE_S

DEADLINE_S: Final = 60.0
"""How long a test waits for what must come. A net under what hangs and no figure: a busy machine takes its time."""

UNHURRIED: Final = {"lookup_wait_s": "20", "store_wait_s": "30", "hang_after_s": "60"}
"""Settings under which nobody is refused, and no frontend replaced, because a busy machine holds somebody up."""
PATIENT: Final = {**UNHURRIED, "worker_lost_after_s": "20", "worker_wait_s": str(START_DEADLINE_S)}
"""The same, and a worker that is held up is not taken for a dead one either."""

_REFERENCE: Final = [sys.executable, "-I", "-c", "import asyncio, email, http.client, json, ssl"]
_REFERENCE_S: Final = 0.08
"""What the reference takes on the machine for which the figures hold: two cores, idle, CPython 3.11."""


def slowness() -> float:
    """How many times longer than there this machine takes now to start an interpreter; at least 1.

    Figures of wall-clock time are asserted as multiples of this, so that they hold as they are on a fast and idle
    machine, and a slow or busy one fails no test.
    """
    before = time.monotonic()
    subprocess.run(_REFERENCE, check=True)
    return max(1.0, (time.monotonic() - before) / _REFERENCE_S)
