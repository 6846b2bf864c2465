"""How long one response lets its reader wait: for the engine, for the first of its output, from event to event. Pure.

This is the one place of the metrics that every batch of records passes through: a subtraction, and a list's append.
"""

from frontend.metrics import catalogue
from frontend.metrics.sheet import Distribution, Sheet
from frontend.projection import Projection


class Pace:
    """Follows the reader of a create of `model` that came in at `since`. Times are monotonic seconds."""

    __slots__ = ("_gaps", "_last", "_model", "_queued_until", "_sheet", "_since")

    def __init__(self, sheet: Sheet, model: str, since: float) -> None:
        self._sheet = sheet
        self._model = model
        self._since = since
        self._queued_until: float | None = None
        self._last = since
        self._gaps: Distribution | None = None
        """None until there is output: before that nobody knows whether there is such a model."""

    def queued(self, now: float) -> None:
        """The response waits for the engine."""
        self._queued_until = now

    def more(self, now: float) -> None:
        """The short way of `heard`: one more event of the output was folded, and nothing else."""
        if self._gaps is not None:
            self._gaps.gather(now - self._last)
            self._last = now

    def heard(self, projection: Projection, now: float) -> None:
        """Records were folded, and brought events; with the last of them the gaps are counted."""
        if projection.closed is not None:
            if self._gaps is not None:
                self._gaps.settle()
            return
        if self._gaps is not None:
            self.more(now)
            return
        if self._queued_until is None:
            self._queued_until = now
        if projection.has_output:
            self._last = now
            sheet, model = self._sheet, self._model
            self._gaps = sheet.distribution(catalogue.EVENT_GAP, model)
            sheet.distribution(catalogue.FIRST_TOKEN, model).observe(now - self._since)
            sheet.distribution(catalogue.QUEUE_TIME, model).observe(self._queued_until - self._since)
