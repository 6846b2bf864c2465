"""A process group that is ours: what tells it from a later one of the same number, and how to end all of it.

Linux only: it reads /proc. A process number is used again some time after its process is gone, so no process is
signalled on its number alone: it is held by a pidfd, and then looked at.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

import msgspec

_POLL_S = 0.01


class Group(msgspec.Struct, frozen=True):
    """The session and process group led by process `leader`.

    `started` is when the leader was started, in the kernel's ticks since the boot named `boot`. Members are as old or
    younger, and the number of a group is not given out while it has members.
    """

    leader: int
    started: int
    boot: str


class _Stat(msgspec.Struct, frozen=True):
    state: str
    group: int
    session: int
    started: int


def group_of(leader: int) -> Group:
    """The group led by this process, which must be a child of ours not waited for yet, so that it can't be gone."""
    stat = _stat(leader)
    assert stat is not None
    return Group(leader, stat.started, _boot())


def end_group(group: Group, deadline_s: float) -> bool:
    """Kill every member of the group and wait until they are gone, at most so long; whether they are."""
    deadline = time.monotonic() + deadline_s
    while members := living_members(group):
        for pid in members:
            _kill_member(pid, group)
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def living_members(group: Group) -> list[int]:
    """Process numbers of those in the group that are not dead (a zombie is)."""
    if group.boot != _boot():
        return []
    leader = _stat(group.leader)
    if leader is not None and leader.started != group.started:
        return []  # Another process bears the number by now: the group had no member left.
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _is_member(int(entry), group)]


def _is_member(pid: int, group: Group) -> bool:
    stat = _stat(pid)
    return (
        stat is not None
        and stat.group == group.leader
        and stat.session == group.leader
        and stat.started >= group.started
        and stat.state not in "ZX"
    )


def _kill_member(pid: int, group: Group) -> None:
    with contextlib.suppress(ProcessLookupError):  # It is gone: that is what was wanted.
        held = os.pidfd_open(pid)
        try:
            if _is_member(pid, group):
                signal.pidfd_send_signal(held, signal.SIGKILL)
        finally:
            os.close(held)


def _stat(pid: int) -> _Stat | None:
    """What /proc says of a process (man 5 proc), or None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # The name before it may hold anything, spaces and ")" too.
    return _Stat(fields[0], int(fields[2]), int(fields[3]), int(fields[19]))


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
