"""Random lives of a whole deployment keep every promise; and where a core is broken, some life soon shows it."""

import json
import subprocess
import sys
import traceback
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.deployment import REPOSITORY
from engine_worker.actor import Actor
from engine_worker.clock import ActiveClock
from engine_worker.logs import ResponseLog
from engine_worker.mailbox import Received
from engine_worker.ownership import Ownership
from engine_worker.state import Peer, Response
from frontend.closing import Closing
from frontend.messages import ClosingEffect, Keep, Kept
from protocol.commands import Addressed, Hello
from protocol.records import Record, Step
from tests.simulation.simulation import Simulation
from tests.simulation.worker import WorkerProcess

SEEDS = 10_000
DEADLINE_S = 1800.0
"""What a busy machine may take: they are lived on what others leave of the processors."""
HAPPENS = ("takeovers", "closed unstored", "stored late", "deleted", "hangs", "refused 429", "kept in the background")
HAPPENS_TO_WIRES = ("slow", "stale", "full", "lost")
"""What is rare, or lies deep, and must have happened in more than one life of a hundred."""
BROKEN_SEEDS = 300
"""How many lives it may take until a broken core shows; a working one lives through all of them."""


@pytest.mark.slow
@pytest.mark.timeout(DEADLINE_S)
def test_whatever_happens_every_promise_is_kept(tmp_path: Path) -> None:
    result = tmp_path / "lives.json"
    command = [sys.executable, "-m", "tests.simulation", "--seeds", str(SEEDS), "--idle", "--result", str(result)]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    print(run.stdout)  # noqa: T201 - the figures
    assert result.exists(), run.stdout + run.stderr
    lived = json.loads(result.read_text())
    counts, failures = Counter(lived["counts"]), lived["failures"]
    assert not failures, "\n".join(f"python -m tests.simulation --seed {seed}\n{why}" for seed, why in failures.items())
    assert run.returncode == 0, run.stdout + run.stderr
    for what in (*HAPPENS, *(f"wire: {what}" for what in HAPPENS_TO_WIRES)):
        assert counts[what] > SEEDS / 100, f"{what}: only {counts[what]}"


def live_until_it_shows() -> str:
    """What the first life says that does not hold; raises where all do."""
    for seed in range(BROKEN_SEEDS):
        try:
            Simulation(seed).run()
        except AssertionError as error:
            return f"{error} {traceback.format_exc(limit=-1)}"
    pytest.fail(f"{BROKEN_SEEDS} lives did not show it")


def test_an_offset_that_is_used_twice_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    append = ResponseLog.append

    def over_the_last(log: ResponseLog, record: Record, raw: bytes) -> None:
        if len(log) == 5 and isinstance(record, Step):
            del log._records[-1], log._ends[-1]
        append(log, record, raw)

    monkeypatch.setattr(ResponseLog, "append", over_the_last)
    assert "has changed" in live_until_it_shows()


def test_an_owner_of_an_old_epoch_that_is_obeyed_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    def holds(_ownership: Ownership, _response: Response, _peer: Peer, _epoch: int) -> bool:
        return True

    monkeypatch.setattr(Ownership, "holds", holds)
    assert "closes it, which is" in live_until_it_shows()


def test_an_adoption_without_a_new_epoch_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two owners at the same epoch."""
    grant = Ownership._grant

    def twice(ownership: Ownership, response: Response, heir: Peer, now: float) -> None:
        response.epoch -= not response.log.closed and response.epoch > 1
        grant(ownership, response, heir, now)

    monkeypatch.setattr(Ownership, "_grant", twice)
    assert "epoch" in live_until_it_shows()


def test_a_worker_that_publishes_without_the_lock_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock comes free while it is only paused."""
    pause = WorkerProcess.pause

    def lets_go(worker: WorkerProcess) -> None:
        worker.own.release(worker)
        pause(worker)

    monkeypatch.setattr(WorkerProcess, "pause", lets_go)
    shown = live_until_it_shows()
    assert "is on w" in shown or "without its lock" in shown


def test_a_command_for_a_dead_incarnation_that_is_carried_out_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    received = Actor._on_received

    def carry_out(actor: Actor, message: Received, now: float) -> None:
        command = message.addressed.command
        incarnation = message.addressed.incarnation if isinstance(command, Hello) else actor._incarnation
        received(actor, Received(message.sender, Addressed(incarnation, command)), now)

    monkeypatch.setattr(Actor, "_on_received", carry_out)
    assert "which is stale" in live_until_it_shows()


def test_timers_that_are_judged_before_the_sockets_are_read_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActiveClock, "read", lambda _clock, now: now)
    assert "unread" in live_until_it_shows()


def test_an_end_that_is_said_before_it_is_stored_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    copied = Closing._copied

    def hurried(closing: Closing) -> list[ClosingEffect]:
        effects = copied(closing)
        if any(isinstance(effect, Keep) for effect in effects):
            effects += closing.handle(Kept(closing.closed))
        return effects

    monkeypatch.setattr(Closing, "_copied", hurried)
    assert "the store does not know it" in live_until_it_shows()
