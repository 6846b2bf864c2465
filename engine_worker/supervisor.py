"""The supervisor: keeps one actor process alive, and leaves nothing behind. Tiny: it loads no engine and no ZeroMQ.

    claim a slot ─► end what an earlier actor left ─► start ─► wait ─┬─ told to end ─► pass it on, wait, end the group
                              ▲                                      ├─ it hangs ─► end the group
                              │                                      └─ it died ─► restart policy: wait, or give up
                              └──────────────────────────────────────────────────────────┘

The actor leads a session of its own, and the engine's processes are in its group; the whole group is ended before the
next start, so that no engine core is left holding a GPU. Signals are waited for instead of handled: the supervisor does
one thing at a time, and nothing interrupts it.

From when its engine is loaded on, the actor beats: its event loop sends a signal at regular times. While it loads it is
not watched, for importing an engine may hold the interpreter for as long as a cold disk takes. A pause of the
supervisor's own is not held against the actor.
"""

import contextlib
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Sequence

from engine_worker.clock import ActiveClock
from engine_worker.config import EXIT_BUILD_FAILED, Settings, as_flags
from engine_worker.process_group import Group, end_group, group_of
from engine_worker.restarts import RestartPolicy
from engine_worker.scratch import Scratch
from engine_worker.slot import Slot

logger = logging.getLogger(__name__)

EXIT_GAVE_UP = 1
BEAT = signal.SIGUSR1
"""What a loaded actor sends its supervisor every `beat_interval_s`. Unread ones become one, so they never pile up."""

_BEATS = 10
"""Beats, and the supervisor's looks for them, within `actor_hang_after_s`."""
_GAP_LOOKS = 2
"""A time of so many looks without a look is a pause of the supervisor's own."""
_ENDINGS = {signal.SIGTERM, signal.SIGINT}
_STOP_SLACK_S = 2.0
"""What an actor gets for an orderly end beyond the time for draining and for closing its engine."""
_GROUP_END_S = 20.0
"""How long a killed group may take to be gone: a driver may hold a process until its GPU memory is freed."""
_SIGNALS_MAX = 1024


def beat_interval_s(settings: Settings) -> float:
    """Seconds between two beats of an actor."""
    return settings.actor_hang_after_s / _BEATS


class _Signals:
    """The signals to this process, as bytes in a pipe, so that they are waited for and interrupt nothing.

    Not by `signal.sigtimedwait`: in CPython 3.11 it makes signals up when the process was stopped while it waited.
    """

    def __init__(self) -> None:
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(writing, False)
        for number in (*_ENDINGS, signal.SIGCHLD, BEAT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def wait(self, timeout_s: float) -> set[int]:
        """The signals that came since last asked, at least one, or none within so many seconds."""
        select.select([self._reading], [], [], timeout_s)
        with contextlib.suppress(BlockingIOError):
            return set(os.read(self._reading, _SIGNALS_MAX))
        return set()


class Supervisor:
    """Runs the worker of one slot; `engine_arguments` are the command line's arguments that are no settings."""

    def __init__(self, settings: Settings, slot: Slot, engine_arguments: Sequence[str]) -> None:
        self._settings = settings
        self._slot = slot
        self._engine_arguments = engine_arguments
        self._policy = RestartPolicy(
            settings.restart_max,
            settings.restart_window_s,
            settings.restart_backoff_s,
            settings.restart_backoff_max_s,
        )
        self._scratch = Scratch(settings.run_dir, slot.name)
        self._signals = _Signals()
        self._told_to_end = False

    def run(self) -> int:
        """Keep the actor alive until told to end, or until that is hopeless; returns the process's exit code."""
        left_behind = self._slot.group
        if left_behind is not None:
            self._end(left_behind)
        try:
            return self._keep_alive()
        finally:
            self._slot.release()

    def _keep_alive(self) -> int:
        while True:
            exit_code = self._run_actor()
            if self._told_to_end:
                logger.info("ended")
                return 0 if exit_code == 0 else EXIT_GAVE_UP
            if exit_code == EXIT_BUILD_FAILED and self._policy.count == 0:
                logger.error("giving up: the engine can't be built, for the reason above")
                return EXIT_BUILD_FAILED
            delay_s = self._policy.after_death(time.monotonic())
            if delay_s is None:
                logger.error("giving up: the actor %s, and %r are used up", _ending(exit_code), self._policy)
                return EXIT_GAVE_UP
            logger.warning("the actor %s; starting it again in %.1f s, %r", _ending(exit_code), delay_s, self._policy)
            if self._is_told_to_end_within(delay_s):
                return 0

    def _run_actor(self) -> int:
        """Start an actor, stay with it until its end, and end its group; returns its exit code, or less a signal."""
        pid = self._start()
        group = group_of(pid)
        self._slot.note(group)
        logger.info("actor started, process %d", pid)
        status = self._wait_for_end(pid, group)
        self._end(group)
        self._scratch.remove()
        self._slot.note(None)
        return os.waitstatus_to_exitcode(status)

    def _start(self) -> int:
        flags = [*as_flags(self._settings), f"--worker={self._slot.name}", f"--supervisor={os.getpid()}"]
        command = [sys.executable, "-m", "engine_worker.actor_process", *flags, *self._engine_arguments]
        environment = self._scratch.renew() | os.environ
        return os.posix_spawn(sys.executable, command, environment, setsid=True, setsigmask=())

    def _wait_for_end(self, pid: int, group: Group) -> int:
        """Wait for the actor's end and return its wait status; pass on what tells us to end, and see that it does."""
        look_s = beat_interval_s(self._settings)
        clock = ActiveClock(_GAP_LOOKS * look_s)
        heard_at = deadline = float("inf")  # Only who has beaten once can fall silent.
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return status
            received = self._signals.wait(look_s)
            now = clock.read(time.monotonic())
            if received & _ENDINGS:
                if not self._told_to_end:
                    self._told_to_end = True
                    deadline = now + self._settings.drain_s + self._settings.engine_close_s + _STOP_SLACK_S
                os.kill(pid, signal.SIGTERM)
            if BEAT in received:
                heard_at = now
            if now - heard_at >= self._settings.actor_hang_after_s:
                logger.error("the actor hangs: its event loop has stood still for %.1f s; killing it", now - heard_at)
            elif now >= deadline:
                logger.warning("the actor does not end; killing it")
            else:
                continue
            heard_at = deadline = float("inf")
            self._end(group)

    def _is_told_to_end_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            if self._signals.wait(left_s) & _ENDINGS:
                return True
        return False

    @staticmethod
    def _end(group: Group) -> None:
        if not end_group(group, _GROUP_END_S):
            logger.error("processes of group %d can't be killed; going on without waiting for them", group.leader)


def _ending(exit_code: int) -> str:
    """How a process ended, in words."""
    if exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
