"""What benchmarks share."""

import os
import time

import psutil

from benchmarks.figures import cpu_s, on_cpu_ns


def test_schedstat_begins_with_the_time_on_the_cpu() -> None:
    assert on_cpu_ns("1234567890 55 42\n") == 1_234_567_890


def test_processor_time_is_that_of_all_threads() -> None:
    before, mine = cpu_s(psutil.Process(os.getpid())), time.process_time()
    while time.process_time() - mine < 0.02:
        pass
    assert cpu_s(psutil.Process(os.getpid())) - before >= 0.01
