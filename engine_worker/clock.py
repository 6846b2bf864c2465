"""Time as the actor sees it: it stands still while the process does."""


class ActiveClock:
    """Turns the shell's monotonic seconds into seconds of activity.

    A process that was stopped (SIGSTOP, a frozen machine, a long pause of the interpreter) wakes up with all deadlines
    passed and what others said in the meantime still unread. A gap longer than `gap_max_s` is therefore not counted:
    nobody is judged by time in which this process could not listen.
    """

    def __init__(self, gap_max_s: float) -> None:
        self._gap_max_s = gap_max_s
        self._last: float | None = None
        self._paused_s = 0.0

    def read(self, now: float) -> float:
        """The active time at monotonic time `now`; to be called at least once in `gap_max_s`."""
        if self._last is not None and now - self._last > self._gap_max_s:
            self._paused_s += now - self._last
        self._last = now
        return now - self._paused_s
