"""A short run of the chaos benchmark: frontends and workers are hit by every kind of fault, and no byte differs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.deployment import REPOSITORY

pytestmark = pytest.mark.slow

SCALE = "--streams 40 --frontends 2 --workers 2 --minutes 0.35 --fault-every-s 1.5 --length-s 5 10".split()
DEADLINE_S = 400.0


@pytest.mark.timeout(DEADLINE_S + 60)
def test_no_stream_loses_changes_or_repeats_an_event_whatever_dies(tmp_path: Path) -> None:
    result = tmp_path / "chaos.json"
    command = [sys.executable, "-m", "benchmarks.chaos", *SCALE, "--result", str(result)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(result.read_text())
    assert found["endings"] == {"completed": found["streams"]}
    assert found["streams"] >= 40
    assert found["reconnects"], "nobody noticed any fault"
