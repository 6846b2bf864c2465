"""The supervisor with real processes: the dead come back, the ended leave nothing behind, the hopeless say so."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.deployment import Deployment, Process, wait_until
from engine_worker.config import EXIT_BUILD_FAILED
from engine_worker.supervisor import EXIT_GAVE_UP
from protocol.commands import Open
from protocol.run_dir import workers_in
from tests.engine_worker.remote import Frontend
from tests.pace import DEADLINE_S

pytestmark = pytest.mark.slow

ACTOR, CORE = "actor_process", "signal.pause"


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(tmp_path, engine="scripted", restart_backoff_s="0.01") as deployment:
        yield deployment


def said(worker: Process, text: str, times: int = 1) -> None:
    """Wait until the worker's log has said it so often."""
    wait_until(lambda: worker.output.read_text().count(text) >= times, DEADLINE_S, f"{text!r} {times} times")


def found(worker: Process, matching: str) -> psutil.Process:
    """The one descendant whose command line has this in it."""
    wait_until(lambda: worker.descendants(matching), DEADLINE_S, matching)
    (process,) = worker.descendants(matching)
    return process


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def incarnation(run_dir: Path) -> str:
    """What the worker in slot 0 calls itself now."""
    frontend = Frontend(run_dir, "f1")
    try:
        await frontend.connect()
        return frontend.incarnation
    finally:
        frontend.channel.close()


async def test_a_killed_actor_is_back_by_itself_in_its_old_place(deployment: Deployment) -> None:
    worker = deployment.worker("--core")
    said(worker, "ready: model scripted")
    before, core = await incarnation(deployment.directory), found(worker, CORE)
    found(worker, ACTOR).kill()
    said(worker, "ready: model scripted", times=2)
    assert "the actor was killed by SIGKILL" in worker.output.read_text()
    assert gone(core), "a process of the old group holds on"
    assert await incarnation(deployment.directory) != before
    assert workers_in(deployment.directory) == {"worker-0"}
    assert len(worker.descendants(CORE)) == 1


def test_the_death_of_the_engines_process_starts_the_worker_anew(deployment: Deployment) -> None:
    worker = deployment.worker("--core")
    said(worker, "ready")
    found(worker, CORE).kill()
    said(worker, "ready", times=2)
    assert "the engine died: its core process ended" in worker.output.read_text()
    assert len(worker.descendants(CORE)) == len(worker.descendants(ACTOR)) == 1


def test_a_killed_supervisor_takes_everything_with_it(deployment: Deployment) -> None:
    worker = deployment.worker("--core")
    said(worker, "ready")
    actor, core = found(worker, ACTOR), found(worker, CORE)
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: gone(actor) and gone(core), DEADLINE_S, "actor and core gone")


async def test_a_killed_supervisor_takes_an_actor_that_hangs_with_it(deployment: Deployment) -> None:
    worker = deployment.worker("--core")
    said(worker, "ready")
    actor, core = found(worker, ACTOR), found(worker, CORE)
    frontend = Frontend(deployment.directory, "f1")
    try:
        await frontend.connect()
        body = {"metadata": {"script": json.dumps({"steps": 1, "block_after": 0})}}
        frontend.say(Open(1, "r", 0, json.dumps(body).encode()))
        said(worker, "the process stands still")
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: gone(actor) and gone(core), DEADLINE_S, "actor and core gone")
    finally:
        frontend.channel.close()


def test_what_is_left_when_supervisor_and_actor_are_killed_is_ended_by_the_next(deployment: Deployment) -> None:
    worker = deployment.worker("--core")
    said(worker, "ready")
    actor, core = found(worker, ACTOR), found(worker, CORE)
    actor.suspend()  # So that it can't see the end of its supervisor.
    os.kill(worker.pid, signal.SIGKILL)
    actor.kill()
    assert not gone(core)
    successor = deployment.worker()
    said(successor, "ready")
    assert gone(core)
    assert workers_in(deployment.directory) == {"worker-0"}


def test_restarts_have_a_limit_and_the_end_says_why(deployment: Deployment) -> None:
    worker = deployment.worker("--restart-max", "1")
    said(worker, "ready")
    found(worker, ACTOR).kill()
    said(worker, "ready", times=2)
    found(worker, ACTOR).kill()
    assert worker.wait(DEADLINE_S) == EXIT_GAVE_UP
    assert "giving up: the actor was killed by SIGKILL" in worker.output.read_text()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [(["--no-such-flag", "1"], "--no-such-flag"), (["--engine-args=--max-num-seqs many"], "invalid int value: 'many'")],
    ids=["unknown flag", "bad value"],
)
def test_an_engine_that_can_not_be_built_is_not_tried_again(
    deployment: Deployment, flags: list[str], reason: str
) -> None:
    worker = deployment.worker(*flags)
    assert worker.wait(DEADLINE_S) == EXIT_BUILD_FAILED
    log = worker.output.read_text()
    assert reason in log
    assert "giving up: the engine can't be built" in log
    assert log.count("actor started") == 1


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_end_leaves_nothing_behind(deployment: Deployment, told: signal.Signals) -> None:
    worker = deployment.worker("--core")
    said(worker, "ready")
    processes = [found(worker, ACTOR), found(worker, CORE)]
    os.kill(worker.pid, told)
    assert worker.wait(DEADLINE_S) == 0
    assert all(gone(process) for process in processes)
    assert workers_in(deployment.directory) == set()


def test_a_worker_can_be_ended_while_its_model_loads(deployment: Deployment) -> None:
    worker = deployment.worker("--load-s", "600")
    said(worker, "loading")
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(DEADLINE_S) == 0


def test_an_actor_that_does_not_end_is_killed(deployment: Deployment) -> None:
    worker = deployment.worker("--core", "--drain-s", "0", "--engine-close-s", "0")
    said(worker, "ready")
    actor, core = found(worker, ACTOR), found(worker, CORE)
    actor.suspend()
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(DEADLINE_S) == EXIT_GAVE_UP
    assert gone(actor)
    assert gone(core)
    assert "does not end; killing it" in worker.output.read_text()


def test_a_loaded_actor_that_stands_still_is_replaced(deployment: Deployment) -> None:
    worker = deployment.worker("--core", actor_hang_after_s="3")
    said(worker, "ready")
    actor, core = found(worker, ACTOR), found(worker, CORE)
    actor.suspend()
    wait_until(lambda: gone(actor) and gone(core), DEADLINE_S, "actor and core gone")
    said(worker, "ready", times=2)
    assert "the actor hangs: its event loop has stood still for" in worker.output.read_text()


def test_an_actor_that_loads_is_not_watched(deployment: Deployment) -> None:
    worker = deployment.worker("--load-s", "8", actor_hang_after_s="3")
    said(worker, "loading")
    actor = found(worker, ACTOR)
    actor.suspend()
    time.sleep(5)
    actor.resume()
    said(worker, "ready")
    assert worker.output.read_text().count("actor started") == 1


@pytest.mark.slow
@pytest.mark.parametrize("paused", ["supervisor", "everything"])
def test_a_pause_of_the_supervisor_is_not_held_against_the_actor(deployment: Deployment, paused: str) -> None:
    worker = deployment.worker("--core", actor_hang_after_s="5")
    said(worker, "ready")
    actor, core = found(worker, ACTOR), found(worker, CORE)
    processes = [psutil.Process(worker.pid), *([actor, core] if paused == "everything" else [])]
    for process in processes:
        process.suspend()
    time.sleep(8)
    for process in processes:
        process.resume()
    time.sleep(6)
    assert found(worker, ACTOR) == actor
    assert found(worker, CORE) == core
    assert "hangs" not in worker.output.read_text()


def test_a_supervisor_that_was_paused_while_it_waited_goes_on(deployment: Deployment) -> None:
    worker = deployment.worker(restart_backoff_s="1")
    said(worker, "ready")
    found(worker, ACTOR).kill()
    said(worker, "starting it again")
    supervisor = psutil.Process(worker.pid)
    supervisor.suspend()
    time.sleep(2)
    supervisor.resume()
    said(worker, "ready", times=2)


def test_two_workers_take_two_slots_and_a_third_is_refused(deployment: Deployment) -> None:
    workers = [deployment.worker(workers_max="2") for _ in range(2)]
    for worker in workers:
        said(worker, "ready")
    assert workers_in(deployment.directory) == {"worker-0", "worker-1"}
    surplus = deployment.worker(workers_max="2")
    assert surplus.wait(DEADLINE_S) == 2
    assert "all 2 workers" in surplus.output.read_text()


def test_a_bad_setting_is_named(deployment: Deployment) -> None:
    worker = deployment.worker("--drain-s", "soon")
    assert worker.wait(DEADLINE_S) == 2
    assert "--drain-s (HOLDFAST_DRAIN_S) can't be 'soon'" in worker.output.read_text()


def test_the_supervisor_loads_neither_engine_nor_zeromq() -> None:
    program = "import sys, engine_worker.__main__; print(*{'zmq', 'torch', 'vllm', 'asyncio'} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert loaded.strip() == ""
