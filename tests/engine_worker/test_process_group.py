"""Ending a process group: all of it, and never another that bears its number."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from benchmarks.deployment import wait_until
from engine_worker.process_group import Group, end_group, group_of, living_members
from tests.pace import DEADLINE_S

FAMILY = """
import os, signal, sys
if os.fork() == 0:
    signal.pause()
print("ready", flush=True)
signal.pause()
"""


@contextmanager
def family() -> Iterator[tuple[subprocess.Popen[str], Group]]:
    """A leader in a session of its own with one child; ended afterwards."""
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == "ready\n"
        group = group_of(leader.pid)
        try:
            yield leader, group
        finally:
            if leader.poll() is None:
                os.killpg(leader.pid, signal.SIGKILL)
            end_group(group, DEADLINE_S)


def test_a_group_is_ended_as_a_whole() -> None:
    with family() as (leader, group):
        assert len(living_members(group)) == 2
        assert end_group(group, DEADLINE_S)
        assert living_members(group) == []
        assert leader.wait() == -signal.SIGKILL


def test_what_outlived_its_leader_is_ended_too() -> None:
    with family() as (leader, group):
        leader.kill()
        leader.wait()
        assert len(living_members(group)) == 1
        assert end_group(group, DEADLINE_S)
        assert living_members(group) == []


def test_a_later_group_of_the_same_number_is_left_alone() -> None:
    with family() as (leader, group):
        earlier = msgspec.structs.replace(group, started=group.started - 1)
        before_reboot = msgspec.structs.replace(group, boot="another")
        for other in (earlier, before_reboot):
            assert living_members(other) == []
            assert end_group(other, DEADLINE_S)
        assert leader.poll() is None
        assert len(living_members(group)) == 2


def test_members_older_than_the_leader_are_none() -> None:
    with family() as (leader, group):
        leader.kill()
        leader.wait()
        later = msgspec.structs.replace(group, started=group.started + 10**9)
        assert living_members(later) == []
        assert end_group(later, DEADLINE_S)
        assert len(living_members(group)) == 1


def test_waiting_for_a_group_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    with family() as (_, group), monkeypatch.context() as patch:
        patch.setattr(signal, "pidfd_send_signal", lambda *_: None)
        assert not end_group(group, 0.05)


def test_a_zombie_counts_as_gone() -> None:
    with family() as (leader, group):
        os.killpg(leader.pid, signal.SIGKILL)
        wait_until(lambda: living_members(group) == [], DEADLINE_S, "only the zombie is left")
        assert os.path.exists(f"/proc/{leader.pid}")
