"""The instruments of one process: one method for each thing that happens, named for it.

Counting is a few additions in memory: no lock, file access or task; it may be called from anywhere in the event loop.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from frontend.metrics import catalogue
from frontend.metrics.pacing import Pace
from frontend.metrics.sheet import SHEET_BYTES, Sheet
from frontend.projection import Projection


class Metrics:
    """What one process counts on its sheet; without one, in memory that nobody reads. Times are monotonic seconds."""

    def __init__(self, sheet: Sheet | None = None) -> None:
        self.sheet = sheet or Sheet(memoryview(bytearray(SHEET_BYTES)))
        for metric in catalogue.COUNTED:
            if not metric.labels:  # to be seen as 0 from the beginning
                (self.sheet.distribution if metric.kind == "histogram" else self.sheet.count)(metric)

    def __repr__(self) -> str:
        return f"<Metrics {self.sheet}>"

    # ---- requests and streams ----------------------------------------------------------------------------------------

    def answered(self, method: str, endpoint: str, code: int, delay_s: float) -> None:
        """An answer begins, `delay_s` after its request came in."""
        self.sheet.count(catalogue.REQUESTS, method, endpoint, str(code)).add()
        self.sheet.distribution(catalogue.ANSWER_DELAY, method, endpoint).observe(delay_s)

    def erred(self, code: str) -> None:
        """The answer is an error."""
        self.sheet.count(catalogue.ERRORS, code).add()

    def stream_began(self, *, resumed: bool) -> None:
        """A stream is sent from now on, not for the first time where it is `resumed`."""
        self.sheet.count(catalogue.STREAMS).add()
        self.sheet.count(catalogue.RESUMES).add(resumed)

    def stream_ended(self, projection: Projection) -> None:
        """It is sent no more, at its end or before."""
        self.sheet.count(catalogue.STREAMS).add(-1)
        status = "cut" if projection.closed is None else projection.closed.status
        self.sheet.count(catalogue.STREAMS_ENDED, status).add()

    def pace(self, model: str, since: float) -> Pace:
        """To follow the output of a create of `model`, which came in at `since`."""
        return Pace(self.sheet, model, since)

    # ---- store and webhooks ------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self, mode: str) -> Iterator[None]:
        """A transaction of the store, however it ends."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.sheet.distribution(catalogue.STORE_TIME, mode).observe(time.monotonic() - began)

    def store_failed(self) -> None:
        """The store did not answer."""
        self.sheet.count(catalogue.STORE_ERRORS).add()

    def webhook(self, outcome: str) -> None:
        """A webhook was posted."""
        self.sheet.count(catalogue.WEBHOOKS, outcome).add()
