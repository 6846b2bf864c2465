"""`honcho start` with the real engine: whatever dies comes back by itself, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from benchmarks.deployment import START_DEADLINE_S, Deployment, Process, free_port, ready, wait_until
from tests.pace import DEADLINE_S, UNHURRIED

pytestmark = pytest.mark.engine

FRONTENDS = 2
HONCHO = f"""
import honcho.command, honcho.manager
honcho.manager.KILL_WAIT = {DEADLINE_S}  # it kills what has not ended 5 s later, and a busy machine takes its time
honcho.command.main()
"""


class Running(NamedTuple):
    """`honcho start -c frontend=2` with the demo model, all frontends on one port."""

    deployment: Deployment
    honcho: Process
    url: str


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as directory,
        Deployment(Path(directory), **UNHURRIED, port=str(port)) as deployment,
    ):
        honcho = deployment.start(sys.executable, "-c", HONCHO, "start", "-c", f"frontend={FRONTENDS},engine_worker=1")
        ready(f"http://127.0.0.1:{port}", deployment)
        yield Running(deployment, honcho, f"http://127.0.0.1:{port}")


def processes(running: Running) -> dict[int, str]:
    """Every living process below honcho by pid, with its command line."""
    found = {}
    for process in running.honcho.descendants(""):
        try:
            found[process.pid] = process.name() + " " + " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
    return found


def leaf(running: Running, matching: str) -> psutil.Process:
    """The youngest process that matches: the one that serves, below those that supervise."""
    found = running.honcho.descendants(matching)
    assert found, f"no {matching} lives\n{running.deployment.logs()}"
    return max(found, key=lambda process: process.create_time())


def ask(running: Running) -> str:
    """The seed's request with the curl of the README; returns the raw stream."""
    body = '{"model": "gpt-4o-mini", "input": "Test streaming", "stream": true}'
    command = ["curl", "-sS", "-N", "--max-time", str(2 * DEADLINE_S), "-X", "POST", running.url + "/v1/responses"]
    command += ["-H", "Content-Type: application/json", "-d", body]
    curl = subprocess.run(command, capture_output=True, text=True, check=False)
    assert curl.returncode == 0, f"{curl.stderr}\n{running.deployment.logs()}"
    return curl.stdout


def assert_answers(running: Running) -> None:
    stream = ask(running)
    assert stream.startswith("event: response.created\n"), stream
    assert stream.endswith("data: [DONE]\n\n"), stream
    blocks = stream.split("\n\n")
    completed = json.loads(blocks[-3].split("\ndata: ")[1])
    assert completed["type"] == "response.completed"
    assert completed["response"]["output"][0]["content"][0]["text"][0].isupper()


def kill_and_await(running: Running, victim: psutil.Process, stay: set[int]) -> None:
    """SIGKILL `victim`; wait until it is gone and the deployment answers again; `stay` must have stayed."""
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: victim.pid not in processes(running), DEADLINE_S, f"{victim} gone")
    wait_until(lambda: answers(running), START_DEADLINE_S, "a whole answer")
    assert stay <= set(processes(running)), "a bystander died"


def answers(running: Running) -> bool:
    return "event: response.completed\n" in ask(running)


def test_seed_curl_prints_a_readable_answer(running: Running) -> None:
    assert_answers(running)


def test_killed_frontend_comes_back(running: Running) -> None:
    before = processes(running)
    victim = leaf(running, "frontend")
    kill_and_await(running, victim, set(before) - {victim.pid})
    wait_until(lambda: len(processes(running)) == len(before), DEADLINE_S, "as many processes as before")
    assert_answers(running)


def test_killed_engine_core_comes_back_and_leaves_no_orphan(running: Running) -> None:
    before = processes(running)
    victim = leaf(running, "EngineCore")
    group = os.getpgid(victim.pid)
    bystanders = {pid for pid in before if os.getpgid(pid) != group}
    kill_and_await(running, victim, bystanders)
    assert_group_ended(before, group, running)


def test_killed_actor_comes_back_and_leaves_no_orphan(running: Running) -> None:
    before = processes(running)
    group = os.getpgid(leaf(running, "EngineCore").pid)
    bystanders = {pid for pid in before if os.getpgid(pid) != group}
    kill_and_await(running, psutil.Process(group), bystanders)
    assert_group_ended(before, group, running)


def assert_group_ended(before: dict[int, str], group: int, running: Running) -> None:
    """Nothing of the old process group lives, and as much runs as did before."""
    assert not psutil.pid_exists(group) or psutil.Process(group).status() == psutil.STATUS_ZOMBIE
    after = processes(running)
    assert len(after) == len(before), (before, after)
    assert len(running.honcho.descendants("EngineCore")) == 1
    assert_answers(running)


def test_interrupt_ends_everything_in_order(running: Running) -> None:
    everything = [psutil.Process(pid) for pid in processes(running)]
    os.kill(running.honcho.pid, signal.SIGINT)
    _, alive = psutil.wait_procs(everything, timeout=DEADLINE_S)
    assert not alive
    assert not list(running.deployment.directory.glob("*.sock")), "sockets left in the run directory"
