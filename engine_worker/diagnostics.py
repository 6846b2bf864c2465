"""How the worker's processes tell their operator what happens: one line an event, on standard error."""

import logging
import time
from collections.abc import Callable


class FloodFilter(logging.Filter):
    """Lets each place in the code log `lines_max` lines a second; the rest is counted and told with the next line.

    So a peer that sends garbage as fast as it can fills neither a disk nor this process's time.
    """

    def __init__(self, lines_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lines_max = lines_max
        self._clock = clock
        self._places: dict[tuple[str, int], _Place] = {}  # One for each logging call in the code, so it stays small.

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is let through; adds the count of those that were not."""
        now = self._clock()
        place = self._places.setdefault((record.pathname, record.lineno), _Place(now))
        if now - place.since >= 1.0:
            place.since, place.lines = now, 0
        place.lines += 1
        if place.lines > self._lines_max:
            place.dropped += 1
            return False
        if place.dropped:
            record.msg = f"{record.getMessage()} (and {place.dropped} more like it)"
            record.args = ()
            place.dropped = 0
        return True


class _Place:
    __slots__ = ("dropped", "lines", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.lines = 0
        self.dropped = 0


def log_to_stderr(name: str, lines_max: int) -> None:
    """Write our own lines from INFO on and foreign ones from WARNING on, each with `name`, the worker's."""
    output = logging.StreamHandler()
    output.setFormatter(
        logging.Formatter(f"%(asctime)s.%(msecs)03d {name} %(levelname)s %(message)s", datefmt="%H:%M:%S")
    )
    output.addFilter(FloodFilter(lines_max))
    logging.basicConfig(level=logging.WARNING, handlers=[output], force=True)
    for ours in ("engine_worker", "protocol"):
        logging.getLogger(ours).setLevel(logging.INFO)
