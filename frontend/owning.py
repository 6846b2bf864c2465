"""What the owner of a response decides while it reads the log: that it has started, what is charged, how it ends. Pure.

Any session may come to be the owner's, by what stands in its log, and may cease to be.
"""

from typing import Final

from frontend.messages import Charge, Started, Verdict
from frontend.projection import Projection
from protocol.records import FinishReason, OwnerGranted, Status, TurnFinished

_OUTCOME: Final[dict[FinishReason, Status]] = {
    "stop": "completed",
    "length": "incomplete",
    "aborted": "cancelled",
    "error": "failed",
}


class Owning:
    """One session's part in it. The frontend's epoch is `epoch` while it owns the response, and None otherwise.

    `log_epoch` is that of the owner that the log names last, whoever it is; `key` the API key that is charged.
    """

    __slots__ = (
        "_finished",
        "_frontend_id",
        "_response_id",
        "_start_told",
        "_verdict_given",
        "epoch",
        "key",
        "log_epoch",
        "turn",
    )

    def __init__(self, response_id: str, frontend_id: str) -> None:
        self.epoch: int | None = None
        self.log_epoch = 0
        self.key = ""
        self.turn = 0
        self._response_id = response_id
        self._frontend_id = frontend_id
        self._verdict_given = False
        self._finished: TurnFinished | None = None
        """The last turn's end that was seen to."""
        self._start_told = False

    def granted(self, record: OwnerGranted) -> None:
        """The log names an owner."""
        self.log_epoch = record.epoch
        self.epoch = record.epoch if record.frontend_id == self._frontend_id else None
        self._verdict_given = False

    def attached(self) -> None:
        """What was decided may have been lost: the worker may have been restarted, or a full queue has swallowed it."""
        self._verdict_given = False

    def start(self, projection: Projection, *, generating: bool) -> list[Started]:
        """That a response in the background has brought something; once."""
        if self._start_told or not generating or self.epoch is None or not projection.background:
            return []
        self._start_told = True
        return [Started()]

    def charge(self, projection: Projection, *, before_our_eyes: bool) -> list[Charge]:
        """Have the turn that has finished charged for, if it has while we were here and our frontend owned it."""
        if projection.turn_finished is self._finished:
            return []
        finished = self._finished = projection.turn_finished
        if finished is None or self.epoch is None or not before_our_eyes:
            return []
        model = projection.request.model if projection.request else ""
        return [Charge(self._response_id, self.turn, self.key, model, finished.reason, finished.usage)]

    def verdict(self, projection: Projection, *, client: bool) -> list[Verdict]:
        """How it ends, once its turn has; to be asked when all that was there has been read.

        What is closed unstored was offered to this frontend to be stored, where a session has no client.
        """
        closed, finished = projection.closed, projection.turn_finished
        if self._verdict_given or finished is None:
            return []
        if closed is not None:
            if client or not closed.unstored:
                return []
            self._verdict_given = True
            return [Verdict(self.log_epoch, closed.status, closed.error, closed)]
        if self.epoch is None:
            return []
        self._verdict_given = True
        return [Verdict(self.epoch, _OUTCOME[finished.reason], finished.error)]
