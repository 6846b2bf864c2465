"""Workers as tests see them from outside: their processes, what they say of themselves, and their sudden ends."""

import os
import re
import signal

import psutil

from benchmarks.deployment import Process


def is_in_service(worker: Process, frontends: int) -> bool:
    """Whether it says that it is ready, and that it knows so many frontends."""
    log = worker.output.read_text()
    return "ready: model" in log and log.count(" is here") >= frontends


def taken_over(worker: Process) -> int:
    """How many interrupted streams it says it goes on with."""
    return sum(map(int, re.findall(r"; (\d+) are to go on", worker.output.read_text())))


def actors_of(worker: Process) -> list[psutil.Process]:
    """Its one actor, or none while it is being restarted."""
    return worker.descendants("engine_worker.actor_process")


def kill_everything(processes: list[Process]) -> None:
    """SIGKILL the processes and all below them, at once: stopped first, so that none starts again what is dead."""
    for each in processes:
        os.kill(each.pid, signal.SIGSTOP)
    doomed = [each for process in processes for each in [*process.descendants(""), psutil.Process(process.pid)]]
    for process in doomed:
        os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([each for each in doomed if each.pid not in {process.pid for process in processes}], timeout=60)
    for each in processes:
        each.wait(60)
