"""What becomes of the journals that a dead process left behind: logs that are served at once, turns that go on later.

    closed       its log is served for what is left of its window
    finished     waits for its owner, who closes it
    interrupted  goes on where it was when there is an engine; it ends as `engine_lost` when that can't go on exactly,
                 or when it may be the cause of the deaths that it was in
    cancelled    (asked for, and not ended before the death) ends as aborted

A recovered log has the very bytes it had. No client is known to wait for it, so its grace begins anew; no frontend owns
it, so it is offered to one with the next epoch. It is the same whether the dead process was this worker's own or
another's.

Which deaths a turn is held to have caused:
    the engine's    noted by the worker, which outlives its engine for as long as that takes, with the turns that the
                    engine worked on (`EngineDied`). After `engine_deaths_max` of them a turn is not tried again
    the process's   nobody could note anything: a SIGKILL, a power cut, or a fault in the process itself. It counts only
                    while the turn gets nowhere: `worker_deaths_max` starts in a row without a step
    none            its worker ended on purpose, or its engine died before it came to the turn (`TurnLeft`)
"""

from collections.abc import Collection, Iterable

from engine_worker.config import Settings
from engine_worker.engines.interface import Resume, Turn, TurnPrepared
from engine_worker.journal import EngineDied, Journal, TurnLeft, TurnResumed
from engine_worker.logs import ResponseLog
from engine_worker.mailbox import AbortTurn, Note, StartTurn
from engine_worker.outbox import Outbox
from engine_worker.ownership import Ownership
from engine_worker.publishing import Publisher
from engine_worker.responses import Responses
from engine_worker.state import Response
from protocol.codec import decode_record
from protocol.records import (
    CancelRequested,
    Closed,
    DeleteRequested,
    ErrorDetail,
    FinishReason,
    Opened,
    OwnerGranted,
    Record,
    Step,
    TurnFinished,
    TurnStarted,
    Usage,
)

ENGINE_UNAVAILABLE = "engine_unavailable"
"""The code with which an engine refuses a turn because it is dead: no verdict on the turn."""
NOT_PREPARED = "The engine died, and left nothing by which another could go on."
POISON = "The engine died {} times while it worked on this response; it is not tried again."
POISONS_PROCESSES = "The worker died {} times in a row when it took up this response; it is not tried again."


class Recovery:
    """Brings responses back and their turns to an end; everything else about them is as with any other response."""

    def __init__(
        self, settings: Settings, outbox: Outbox, responses: Responses, publisher: Publisher, ownership: Ownership
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._responses = responses
        self._publisher = publisher
        self._ownership = ownership
        self._resuming: dict[str, TurnPrepared] = {}  # Given to the engine, which has not answered yet.

    def recover(self, journals: Iterable[Journal], now: float, unix_time: float) -> list[Response]:
        """Take in these journals; returns the responses that came of them.

        `unix_time` (seconds) tells how long ago the closed ones were closed.
        """
        found = [_Remains(opened, journal) for journal in journals if (opened := journal.opened) is not None]
        recovered = []
        for remains in sorted(found, key=lambda remains: remains.created_at):  # Who waited longest goes on first.
            if remains.was_queued and not remains.is_forgotten:
                self._restore(remains, now, unix_time)
                recovered.append(remains.response)
            else:  # Nobody was ever told of the response, or nobody is to know it any more.
                self._outbox.end_journal(remains.response)
        self._responses.order_closed()
        if found:
            interrupted = sum(response.interrupted is not None for response in recovered)
            text = f"recovered {len(recovered)} responses from their journals; {interrupted} are to go on"
            self._outbox.put(Note("info", text))
        return recovered

    def resume_all(self) -> list[tuple[Response, TurnPrepared]]:
        """An engine is there: have every interrupted turn go on; returns those without a step yet."""
        interrupted = [response for response in self._responses.live.values() if response.interrupted is not None]
        for response in interrupted:
            assert response.interrupted is not None
            self._responses.journal(response, TurnResumed(response.interrupted.turn))
        self._outbox.write_out()  # Before any engine can die of it.
        stepless = []
        for response in interrupted:
            prepared, response.interrupted = response.interrupted, None
            assert prepared is not None
            steps = _steps(response)
            if not steps:
                stepless.append((response, prepared))
            self._resuming[response.response_id] = prepared
            request = response.log.opened.request
            self._outbox.put(StartTurn(Turn(response.response_id, prepared.turn, request, Resume(prepared, steps))))
        return stepless

    def is_resuming(self, response_id: str) -> bool:
        """Whether the engine's answer about this response is one to a resume."""
        return response_id in self._resuming

    def turn_queued(self, response_id: str) -> None:
        """The engine goes on with the turn; it may have been asked to end it before it knew of it."""
        del self._resuming[response_id]
        response = self._responses.live.get(response_id)
        if response is None or response.cancel_requested:
            self._outbox.put(AbortTurn(response_id))

    def turn_refused(self, response_id: str, error: ErrorDetail, now: float) -> None:
        """The engine can't go on exactly as the turn was, or is not there to say so."""
        prepared = self._resuming.pop(response_id)
        response = self._responses.live.get(response_id)
        if response is None:
            return
        if error.code != ENGINE_UNAVAILABLE:
            reason = f"The engine died, and the response can't be continued exactly: {error.message}"
            self.end_turn(response, now, lost=reason)
        elif response.cancel_requested:
            self.end_turn(response, now)
        else:
            self._responses.journal(response, TurnLeft(response.turn))
            self._outbox.write_out()
            response.interrupted = prepared

    def engine_died(self, untouched: Collection[Response]) -> None:
        """The engine is dead: note it with every turn that it worked on; it never came to those `untouched`."""
        for response in self._responses.live.values():
            if response.turn_running and response.interrupted is None and not self.is_resuming(response.response_id):
                mark = TurnLeft if response in untouched else EngineDied
                self._responses.journal(response, mark(response.turn))

    def leave_turns(self) -> None:
        """The worker ends on purpose: note with every turn that is in the engine that this is nobody's fault."""
        for response in self._responses.live.values():
            if response.turn_running and response.interrupted is None:
                self._responses.journal(response, TurnLeft(response.turn))

    def end_turn(self, response: Response, now: float, *, lost: str | None = None) -> None:
        """End a turn in the engine's place: as `lost`, for that reason, or as aborted."""
        error = None if lost is None else ErrorDetail("server_error", "engine_lost", lost)
        reason: FinishReason = "aborted" if lost is None else "error"
        response.turn_running, response.interrupted = False, None
        self._publisher.append(response, TurnFinished(reason, _usage(response), error), now)

    def _restore(self, remains: "_Remains", now: float, unix_time: float) -> None:
        response = remains.response
        response.clientless_since = now
        age_s = max(0.0, unix_time - remains.closed_at) if response.log.closed else 0.0
        response.recorded_at = now - age_s
        self._responses.restore(response)
        if response.unstored:
            self._ownership.recover(response, remains.epoch, now)
        if response.log.closed:
            return  # Those whose time is over go with the first tick.
        self._ownership.recover(response, remains.epoch, now)
        if response.turn_running:
            self._judge(remains, now)

    def _judge(self, remains: "_Remains", now: float) -> None:
        """Say whether an interrupted turn is to go on."""
        response = remains.response
        if response.cancel_requested:
            self.end_turn(response, now)
        elif remains.engine_deaths >= self._settings.engine_deaths_max:
            self.end_turn(response, now, lost=POISON.format(remains.engine_deaths))
        elif remains.starts >= self._settings.worker_deaths_max:
            self.end_turn(response, now, lost=POISONS_PROCESSES.format(remains.starts))
        elif remains.prepared is None:
            self.end_turn(response, now, lost=NOT_PREPARED)
        else:
            response.interrupted = remains.prepared


class _Remains:
    """What a journal says: the response as it was, how many engines died of its last turn, perhaps, and how often that
    was started since it last took a step."""

    def __init__(self, opened: Opened, journal: Journal) -> None:
        log = ResponseLog(opened.response_id)
        self.response = Response(log, 0.0, None, journal.volatile, journal.size, turn_running=False)
        self.response.background = opened.background
        self.epoch = 0
        self.prepared: TurnPrepared | None = None
        self.was_queued = False
        self.engine_deaths = 0
        self.starts = 0
        self.created_at = opened.created_at
        self.closed_at = float("inf")
        for entry, raw in journal.entries:
            match entry:
                case TurnPrepared():
                    self.prepared = entry
                case TurnResumed():
                    self.starts += 1
                case TurnLeft():
                    self._uncount_start()
                case EngineDied():
                    self._uncount_start()
                    self.engine_deaths += 1
                case _:
                    log.append(entry, raw)
                    self._learn(entry)

    def _uncount_start(self) -> None:
        """The last start is accounted for in another way; it counts for nothing already if it brought a step."""
        self.starts = max(0, self.starts - 1)

    @property
    def is_forgotten(self) -> bool:
        """Whether it ended, and was to be forgotten then."""
        return self.response.log.closed and self.response.delete_requested

    def _learn(self, record: Record) -> None:
        response = self.response
        match record:
            case OwnerGranted(epoch=epoch):
                self.epoch = epoch
            case TurnStarted(turn=turn):
                response.turn, response.turn_running = turn, True
                self.was_queued, self.engine_deaths, self.starts = True, 0, 1
            case Step():
                self.starts = 0
            case TurnFinished():
                response.turn_running = False
            case CancelRequested():
                response.cancel_requested = True
            case DeleteRequested():
                response.delete_requested = True
            case Closed(at=at, unstored=unstored):
                response.turn_running, self.closed_at = False, at
                response.unstored = unstored
            case _:
                pass


def _turn(response: Response) -> list[Record]:
    """The records of the response's last turn."""
    records = [decode_record(raw) for raw in response.log.slice(0, len(response.log), response.log.bytes)]
    first = max(offset for offset, record in enumerate(records) if isinstance(record, TurnStarted))
    return records[first:]


def _steps(response: Response) -> tuple[Step, ...]:
    return tuple(record for record in _turn(response) if isinstance(record, Step))


def _usage(response: Response) -> Usage:
    """What is known of a turn's usage from its records alone."""
    started, *rest = _turn(response)
    assert isinstance(started, TurnStarted)
    tokens = sum(len(record.token_ids) for record in rest if isinstance(record, Step))
    return Usage(input_tokens=started.prompt_tokens, output_tokens=tokens)
