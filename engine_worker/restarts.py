"""When a dead process is started again, and when no more: back-off and a bounded intensity. Pure."""

from collections import deque


class RestartPolicy:
    """Allows `restart_max` restarts within `window_s`, the first after `backoff_s`, each later one after twice that of
    the one before, up to `backoff_max_s`. All in seconds."""

    def __init__(self, restart_max: int, window_s: float, backoff_s: float, backoff_max_s: float) -> None:
        self._restart_max = restart_max
        self._window_s = window_s
        self._backoff_s = backoff_s
        self._backoff_max_s = backoff_max_s
        self._restarts: deque[float] = deque()

    def __repr__(self) -> str:
        return f"<RestartPolicy: {self.count} of {self._restart_max} in {self._window_s:g} s>"

    @property
    def count(self) -> int:
        """Restarts within the window that ends now."""
        return len(self._restarts)

    def after_death(self, now: float) -> float | None:
        """The seconds to wait before the next start, for a death at time `now`; None when it is not to be."""
        while self._restarts and self._restarts[0] <= now - self._window_s:
            self._restarts.popleft()
        if len(self._restarts) >= self._restart_max:
            return None
        delay_s = min(self._backoff_s * 2.0 ** len(self._restarts), self._backoff_max_s)
        self._restarts.append(now)
        return delay_s
