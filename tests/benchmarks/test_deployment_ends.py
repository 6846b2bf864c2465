"""What a benchmark has started when it is told to end."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil

from benchmarks.deployment import REPOSITORY

STARTED = """
import sys, time
from pathlib import Path
from benchmarks.deployment import Deployment

with Deployment(Path(sys.argv[1])) as deployment:
    print(deployment.start(sys.executable, "-c", "import time; time.sleep(60)").pid, flush=True)
    time.sleep(60)
"""


def test_a_benchmark_that_is_told_to_end_leaves_nothing_that_it_started(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTED, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as benchmark:
        assert benchmark.stdout
        started = psutil.Process(int(benchmark.stdout.readline()))
        benchmark.send_signal(signal.SIGTERM)
        benchmark.communicate(timeout=60)
    assert benchmark.returncode
    assert not started.is_running()
