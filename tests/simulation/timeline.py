"""Virtual time, and processes that live in it: they can be killed at any moment, and paused as by SIGSTOP."""

import heapq
import itertools
from collections.abc import Callable

UNSEEN_PAUSE_S = 3.0
"""What a pause may last that looks like a late timer: two of its intervals, and what is left of the third."""

Call = Callable[[], None]
Trace = Callable[[str], None]


class Timeline:
    """What is to happen, in the order of its time; of what falls together, what was said first comes first."""

    def __init__(self) -> None:
        self.now = 100.0
        self._events: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()

    def at(self, when: float, call: Call) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), call))

    def after(self, delay_s: float, call: Call) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._numbers), call))

    def run(self, until: float) -> None:
        """Let everything happen that is due by then."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, call = heapq.heappop(events)
            call()
        self.now = until


class Killed(Exception):
    """The process is no more: it was killed in the midst of what it did."""


class Process:
    """One life of a process. Whatever it does is done in `run`, so that it can die of it.

    `kill_in` counts down with each effect that it carries out (`survive`); at zero it is killed.
    """

    def __init__(self, name: str, timeline: Timeline, trace: Trace) -> None:
        self.name = name
        self.timeline = timeline
        self.trace = trace
        self.alive = True
        self.paused = False
        self.kill_in = -1
        self.heard_at: dict[str, float] = {}
        """When another one was heard last."""
        self._paused_at = 0.0
        self._missed: list[Call] = []

    def __repr__(self) -> str:
        return f"<{self.name}{'' if self.alive else ' dead'}{' paused' if self.paused else ''}>"

    @property
    def runs(self) -> bool:
        return self.alive and not self.paused

    def later(self, delay_s: float, call: Call) -> None:
        """Do this then, as a timer of the process: not while it is paused, and never once it is dead."""
        self.timeline.after(delay_s, lambda: self.due(call))

    def due(self, call: Call) -> None:
        """Do this now, or when the process goes on."""
        if self.paused:
            self._missed.append(call)
        else:
            self.run(call)

    def run(self, call: Call) -> None:
        if self.alive:
            try:
                call()
            except Killed:
                self.die()

    def survive(self) -> None:
        """An effect is about to be carried out. Raises `Killed`."""
        if self.kill_in >= 0:
            self.kill_in -= 1
            if self.kill_in < 0:
                raise Killed

    def pause(self) -> None:
        self.trace(f"{self.name} is paused")
        self.paused = True
        self._paused_at = self.timeline.now

    def wake(self, read: Call, *, timers_first: bool) -> None:
        """Go on: see to the timers that were missed, and `read` what lies in the sockets, in the one order or the
        other."""
        self.trace(f"{self.name} goes on, with its {'timers' if timers_first else 'sockets'} first")
        self.paused = False
        missed, self._missed = self._missed, []
        for call in [*missed, read] if timers_first else [read, *missed]:
            self.run(call)

    def check_silence(self, other: str, unread: int, patience_s: float) -> None:
        """Nobody may be called silent for a time in which this process was paused, while their words lie unread.

        Who was silent before may be: a pause of `UNSEEN_PAUSE_S` is none to a process.
        """
        silent_s = self._paused_at - self.heard_at.get(other, self._paused_at)
        calls = f"{self.name} calls {other} silent"
        assert not unread or silent_s > patience_s - UNSEEN_PAUSE_S, f"{calls}: {unread} words are unread"

    def die(self) -> None:
        """As by SIGKILL."""
        self.trace(f"{self.name} dies")
        self.alive = self.paused = False
        self._missed.clear()
