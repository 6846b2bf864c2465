"""The frontends and workers that suffer: started, hit by faults, and started again when they end, as a service manager
would.
"""

import asyncio
import contextlib
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import psutil

from benchmarks.chaos.faults import Action, Fault, Target, is_allowed
from benchmarks.chaos.tally import Sample, Struck
from benchmarks.deployment import Deployment, Process, free_port

RESTART_S: Final = 0.5
"""A service that ended is started again after so long."""
_LOOK_S: Final = 0.2
_PROBE_S: Final = 1.0
_ACTOR: Final = "engine_worker.actor_process"
_MARK: Final = "HOLDFAST_RUN_DIR"
_SIGNALS: Final = {
    Action.KILL: signal.SIGKILL,
    Action.PAUSE: signal.SIGSTOP,
    Action.TERMINATE: signal.SIGTERM,
    Action.HANG_UP: signal.SIGHUP,
}


class Service:
    """A frontend or a worker, which is started again when it ends. `answers` says whether a process of it serves."""

    def __init__(self, start: Callable[[], Process], answers: Callable[[Process], bool], url: str = "") -> None:
        self.url = url
        self.process = start()
        self._start = start
        self._answers = answers
        self._pauses = 0
        self._ended_at: float | None = None

    def keep_alive(self, now: float) -> None:
        """Start it again if it ended `RESTART_S` ago; `now` in seconds."""
        if not self.process.has_ended:
            self._ended_at = None
        elif self._ended_at is None:
            self._ended_at = now
        elif now - self._ended_at >= RESTART_S:
            self._ended_at = None
            self.process = self._start()

    def is_healthy(self) -> bool:
        """Whether it could serve a client by itself now; may block for a second."""
        return not self._pauses and not self.process.has_ended and self._answers(self.process)

    def victims(self, target: Target) -> list[psutil.Process]:
        """The target's processes that live now, parents first."""
        if self.process.has_ended:
            return []
        try:
            top = psutil.Process(self.process.pid)
            match target:
                case Target.ARBITER | Target.SUPERVISOR:
                    return [top]
                case Target.SERVING | Target.FRONTEND:
                    below = self.process.descendants("frontend")
                case Target.ACTOR | Target.WORKER:
                    below = self.process.descendants(_ACTOR)
        except psutil.NoSuchProcess:
            return []
        return [top, *below] if target in (Target.FRONTEND, Target.WORKER) else below

    def strike(self, fault: Fault) -> list[psutil.Process]:
        """Send the fault's signal; returns those it was sent to. What is paused is to be let go on by `resume`."""
        victims = self.victims(fault.target)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(_SIGNALS[fault.action])
        self._pauses += fault.action is Action.PAUSE
        return victims

    def resume(self, paused: Sequence[psutil.Process]) -> None:
        """End a pause."""
        self._pauses -= 1
        for process in paused:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def start_frontend(deployment: Deployment, **settings: str) -> Service:
    """A frontend on a port that stays its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def answers(_: Process) -> bool:
        try:
            with urllib.request.urlopen(url + "/health/live", timeout=_PROBE_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return Service(lambda: deployment.frontend(port, **settings)[0], answers, url)


def start_worker(deployment: Deployment, *flags: str, **settings: str) -> Service:
    """A worker; its log says when it is ready."""

    def answers(process: Process) -> bool:
        log = process.output.read_text(errors="replace")
        is_ready = log.rfind(" ready: model ") > max(log.rfind(" actor started, "), log.rfind(" draining"))
        return is_ready and bool(process.descendants(_ACTOR))

    return Service(lambda: deployment.worker(*flags, **settings), answers)


@dataclass(frozen=True)
class Services:
    """All of them."""

    frontends: Sequence[Service]
    workers: Sequence[Service]

    async def keep_alive(self) -> None:
        """Start again what ends; until cancelled."""
        while True:
            for service in (*self.frontends, *self.workers):
                await asyncio.to_thread(service.keep_alive, time.monotonic())
            await asyncio.sleep(_LOOK_S)

    async def suffer(self, faults: Iterable[Fault], every_s: float, until: float, struck: Struck) -> None:
        """Carry a fault out every so many seconds until `until` (monotonic), and count it in `struck`.

        One that would leave nobody healthy waits until somebody is, and those after it wait with it.
        """
        async with asyncio.TaskGroup() as pauses:
            for fault in faults:
                await asyncio.sleep(every_s)
                services = self.frontends if fault.target.of_frontend else self.workers
                await asyncio.to_thread(_wait_for_others, fault, services, until)
                if time.monotonic() >= until:
                    return
                service = services[fault.number]
                victims = await asyncio.to_thread(service.strike, fault)
                struck[fault.target, fault.action] += bool(victims)
                if fault.action is Action.PAUSE:
                    pauses.create_task(_end_pause(service, victims, fault.pause_s))


async def _end_pause(service: Service, victims: Sequence[psutil.Process], pause_s: float) -> None:
    try:
        await asyncio.sleep(pause_s)
    finally:
        service.resume(victims)


def _wait_for_others(fault: Fault, services: Sequence[Service], until: float) -> None:
    """Wait until the fault would leave somebody healthy, at most until then (monotonic)."""
    while time.monotonic() < until and not is_allowed(fault.number, [each.is_healthy() for each in services]):
        time.sleep(_LOOK_S)


def sample(deployment: Deployment) -> Sample:
    """Count what a deployment holds now.

    Its processes are found by their session or their environment (gunicorn writes over it, and an actor leads a
    session of its own), so that an orphan is found too.
    """
    sessions = {process.pid for process in deployment.processes}
    processes = rss = files = 0
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if os.getsid(process.pid) not in sessions and environment.get(_MARK) != deployment.environment[_MARK]:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                memory, files_open = process.memory_info().rss, process.num_fds()
                processes, rss, files = processes + 1, rss + memory, files + files_open
        except (psutil.Error, ProcessLookupError):
            continue  # it ended, or it is another user's
    # Not `rglob`: it fails on a directory that goes meanwhile.
    journals = sum(name.endswith(".journal") for _, _, names in os.walk(deployment.directory) for name in names)
    return Sample(time.monotonic(), processes, rss, files, journals)
