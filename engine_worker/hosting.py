"""The life of responses on this worker, from `Open` to the day their log is dropped.

    Open ── StartTurn ──► opening ── turn_queued ──► live ── close ──► closed ── window over, released, no room ──► gone
                             └────── turn_refused ─► nothing remains

A response that comes back from its journal, or from that of another worker which died, enters as live or closed; an
interrupted turn is queued again when there is an engine (`recovery.py`). Two clocks run over a live response, both
looked at with each tick: without any client for `disconnect_grace_s` it is cancelled; without a record for
`progress_interval_s` it gets a Progress record. Knows nothing of phases or heartbeats.
"""

from collections.abc import Iterable

import msgspec

from engine_worker.config import Settings
from engine_worker.endings import Endings
from engine_worker.engines.interface import Turn, TurnPrepared, TurnRecord
from engine_worker.journal import Journal
from engine_worker.logs import ResponseLog
from engine_worker.mailbox import Note, StartTurn, SyncJournal, UnlinkJournal
from engine_worker.openings import Openings
from engine_worker.outbox import Outbox
from engine_worker.ownership import Ownership
from engine_worker.publishing import Publisher
from engine_worker.queue import Queue
from engine_worker.recovery import Recovery
from engine_worker.responses import Responses
from engine_worker.state import Peer, Reader, Response
from protocol.commands import Attach, Close, Open, Release, Stored
from protocol.records import (
    ErrorDetail,
    Opened,
    Progress,
    SamplingDefaults,
    TurnFinished,
    TurnStarted,
)
from protocol.reports import Attached, Rejected, Unknown

IDEMPOTENCY_MISMATCH = ErrorDetail(
    "idempotency_error", "idempotency_mismatch", "This response exists already, and it was made by another request."
)
QUEUE_FULL = ErrorDetail("too_many_requests", "queue_full", "Too many requests wait for this worker; try again later.")
OVERLOADED = ErrorDetail("server_error", "overloaded", "The worker's memory is full of live responses; try again soon.")


class _Keeping(msgspec.Struct):
    """The part of a create body that says where its journal may be."""

    store: bool = True


class Hosting:
    """Owns the responses; their readers are the `Publisher`'s and their owners the `Ownership`'s to change.

    `sampling` is what the engine's model is sampled with where a request does not say.
    """

    def __init__(
        self, settings: Settings, outbox: Outbox, responses: Responses, publisher: Publisher, ownership: Ownership
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._responses = responses
        self._publisher = publisher
        self._ownership = ownership
        self.sampling = SamplingDefaults()
        self._openings = Openings()
        self._recovery = Recovery(settings, outbox, responses, publisher, ownership)
        self._endings = Endings(outbox, responses, publisher, ownership, self._recovery)
        self.queue = Queue(settings.queue_requests_max, settings.queue_tokens_max, settings.retry_after_max_s)

    def __repr__(self) -> str:
        return f"<Hosting: {len(self._openings)} opening, {self.queue!r}, {self._responses!r}>"

    @property
    def busy(self) -> bool:
        """Whether any response is not closed yet."""
        return bool(self._responses.live or len(self._openings))

    def recover(self, journals: Iterable[Journal], now: float, unix_time: float) -> None:
        """Bring back what an earlier process left behind."""
        self._recovery.recover(journals, now, unix_time)

    def take_over(self, journals: Iterable[Journal], now: float, unix_time: float) -> list[str]:
        """Go on with what another worker left behind; returns the ids of the responses that are here now."""
        recovered = self._recovery.recover(filter(self._is_news, journals), now, unix_time)
        self.trim(now)
        return [response.response_id for response in recovered if self._responses.get(response.response_id)]

    def resume(self, now: float) -> None:
        """There is an engine: let every interrupted turn go on."""
        for response, prepared in self._recovery.resume_all():
            self.queue.rendered(response, prepared, now)

    def tell_begun(self) -> None:
        """This worker ends: who waits for the disk is to read its response where that goes on, and to open no other."""
        for (peer, reader), response in self._openings.begun(self._responses):
            self._outbox.send(peer, Attached(reader, len(response.log)))

    def leave_turns(self) -> None:
        """This worker ends on purpose, whatever still runs."""
        self._recovery.leave_turns()

    def engine_died(self, waiting: int) -> None:
        """The engine died with so many requests in its queue; see `Queue.places` for which these are.

        The first of them counts as begun: the engine may just have been taking it in. So every death is noted with
        some turn, and a series of them comes to its end.
        """
        queued = self.queue.order()
        first_untouched = max(0, len(queued) - waiting + 1)
        self._recovery.engine_died(queued[first_untouched:])

    def emitted(self, response_id: str, record: TurnRecord, now: float) -> None:
        """The engine's next record; one of a turn that was closed under way is dropped."""
        response = self._responses.live.get(response_id)
        if response is not None:
            self._record(response, record, now)
        elif (opening := self._openings.get(response_id)) is not None:
            opening.emitted.append(record)

    def open(self, peer: Peer, command: Open, refusal: ErrorDetail | None, now: float) -> None:
        """Start the response, or join the one that is there; `refusal` says why nothing new is taken at present.

        What was accepted once is never refused because too many others wait.
        """
        opened = self._opened(command.response_id)
        if opened is not None and _asks_for(command, opened):
            self.attach(peer, command, now)
            return
        self.leave(peer, command.reader, now)
        if opened is not None:
            refusal = IDEMPOTENCY_MISMATCH
        elif refusal is None and not self._make_room(now):
            refusal = OVERLOADED
        elif refusal is None and not command.accepted and not self.queue.has_room(command.prompt_tokens):
            self._outbox.send(peer, Rejected(command.reader, QUEUE_FULL, self.queue.retry_after_s(now)))
            return
        if refusal is not None:
            self._outbox.send(peer, Rejected(command.reader, refusal))
            return
        self.queue.begin(command.response_id, command.prompt_tokens, now)
        self._openings.begin(
            Opened(
                command.response_id,
                command.created_at,
                command.request,
                command.dialect,
                command.obfuscate,
                sampling=self.sampling,
                tenant=command.tenant,
                background=command.background,
                history_items=command.history_items,
                asked=command.asked,
                key=command.key,
            ),
            peer,
            command,
        )
        self._outbox.put(StartTurn(Turn(command.response_id, 0, command.request)))

    def turn_queued(self, response_id: str, now: float) -> None:
        """The engine took the turn: now there is a log, and whoever waited may read it."""
        if self._recovery.is_resuming(response_id):
            self._recovery.turn_queued(response_id)
            return
        opening = self._openings.get(response_id)
        assert opening is not None  # It was asked for.
        volatile = not _is_stored(opening.opened.request)
        response = Response(ResponseLog(response_id), recorded_at=now, clientless_since=now, volatile=volatile)
        response.background = opening.opened.background
        self._responses.add(response)
        self.queue.rendered(response, opening.prepared, now)
        self._publisher.append(response, opening.opened, now)
        self._ownership.begin(response, opening.frontend_id, opening.opener, now)
        for record in opening.emitted:
            self._record(response, record, now)
        if opening.delete_requested:
            self._endings.delete(response, now)
        elif opening.abort_requested:
            self._endings.cancel(response, "client", now)
        if response.background:  # Its client will not wait for it: first it must be safe from a power cut.
            self._outbox.write_out()
            self._outbox.put(SyncJournal(response_id, response.volatile))
        else:
            self._attach_waiting(response, now)

    def journal_synced(self, response_id: str, now: float) -> None:
        """The disk has a background response, as far as it can: whoever waited may read it."""
        response = self._responses.get(response_id)
        if self._openings.get(response_id) is None:
            return
        if response is not None:
            self._attach_waiting(response, now)
            return
        for peer, reader in self._openings.end(response_id).waiting:  # It was deleted meanwhile.
            self._outbox.send(peer, Unknown(reader))

    def turn_refused(self, response_id: str, error: ErrorDetail, now: float) -> None:
        """The engine did not take the turn: nothing remains, unless it is one that was to go on."""
        if self._recovery.is_resuming(response_id):
            response = self._responses.live.get(response_id)
            if response is not None:
                self.queue.leave(response, now)
            self._recovery.turn_refused(response_id, error, now)
            return
        self.queue.give_up(response_id, now)
        for (peer, reader), command in self._openings.end(response_id).waiting.items():
            is_open = isinstance(command, Open)
            self._outbox.send(peer, Rejected(reader, error) if is_open else Unknown(reader))

    def attach(self, peer: Peer, command: Open | Attach, now: float) -> None:
        """Let a frontend read a response: at once, when it has been started, or never (`Unknown`)."""
        self.leave(peer, command.reader, now)
        opening = self._openings.get(command.response_id)
        response = self._responses.get(command.response_id)
        if opening is not None:
            opening.waiting[peer, command.reader] = command
        elif response is not None:
            self._attach(peer, command, response, now)
        else:
            self._outbox.send(peer, Unknown(command.reader))

    def leave(self, peer: Peer, reader: int, now: float) -> None:
        """This reader is done, or moves."""
        self._openings.leave((peer, reader))
        self._publisher.detach(peer, reader, now)

    def lose(self, peer: Peer, now: float) -> None:
        """A frontend is gone: so are its readers and their clients, and what it owned is nobody's."""
        self._openings.leave_all(peer)
        self._publisher.detach_all(peer, now)
        self._ownership.lost(peer, now)

    def close(self, peer: Peer, command: Close, now: float) -> None:
        """The owner's verdict."""
        closed = self._endings.close(peer, command, now)
        if closed is not None:
            self.queue.leave(closed, now)

    def stored(self, peer: Peer, command: Stored, now: float) -> None:
        """The owner has stored what was closed unstored: it may go as any other closed one."""
        self._endings.stored(peer, command, now)
        self.trim(now)

    def release(self, peer: Peer, command: Release) -> None:
        """Drop a closed log soon, since it can be read elsewhere; the last owner says so."""
        self._endings.release(peer, command)

    def abort(self, response_id: str, now: float) -> None:
        """A client asks for the end of this response."""
        opening, response = self._openings.get(response_id), self._responses.live.get(response_id)
        if response is not None:
            self._endings.cancel(response, "client", now)
        elif opening is not None:
            opening.abort_requested = True

    def delete(self, response_id: str, now: float) -> None:
        """A client asks for this response to be forgotten."""
        opening, response = self._openings.get(response_id), self._responses.get(response_id)
        if response is not None:
            self._endings.delete(response, now)
        elif opening is not None:
            opening.delete_requested = True

    def look_at_clocks(self, now: float, unix_time: float) -> None:
        """Cancel what no client waits for, give a sign of life where it has been silent, drop what is past its time."""
        for response in self._responses.live.values():
            if response.is_deserted(now, self._settings.disconnect_grace_s):
                self._endings.cancel(response, "disconnected", now)
            # What is finished gets no more events but its end: its owner is about to store it as it is.
            if response.turn_running and now - response.recorded_at >= self._settings.progress_interval_s:
                self._publisher.append(response, Progress(unix_time), now)
        self._endings.forget(now, now - self._settings.released_window_s)
        for response in self._responses.expired(now - self._settings.resume_window_s):
            self._publisher.drop(response, now)

    def trim(self, now: float) -> None:
        """Keep to the bounds."""
        for response in self._responses.surplus():
            self._publisher.drop(response, now)

    def _attach_waiting(self, response: Response, now: float) -> None:
        for (peer, _), command in self._openings.end(response.response_id).waiting.items():
            self._attach(peer, command, response, now)

    def _opened(self, response_id: str) -> Opened | None:
        opening, response = self._openings.get(response_id), self._responses.get(response_id)
        if opening is not None:
            return opening.opened
        return response.log.opened if response is not None else None

    def _is_news(self, journal: Journal) -> bool:
        """Whether nothing is known here of the journal's response; else what is here goes on, and the journal goes."""
        response_id = journal.opened.response_id if journal.opened is not None else ""
        if self._opened(response_id) is None:
            return True
        self._outbox.put(Note("warning", f"response {response_id} is here already; what another worker had of it goes"))
        self._outbox.put(UnlinkJournal(response_id, journal.volatile))
        return False

    def _make_room(self, now: float) -> bool:
        for response in self._responses.in_the_way(len(self._openings)):
            self._publisher.drop(response, now)
        return self._responses.has_room(len(self._openings))

    def _attach(self, peer: Peer, command: Open | Attach, response: Response, now: float) -> None:
        match command:
            case Open():
                reader = Reader(peer, command.reader, response, next=0, client=True)
            case Attach():
                reader = Reader(peer, command.reader, response, max(0, command.from_offset), command.client)
        if reader.next > len(response.log):
            # It was told more than the journal had: this log is not the one it read.
            text = f"response {response.response_id} is asked for from {reader.next}, and ends at {len(response.log)}"
            self._outbox.put(Note("warning", text))
            self._outbox.send(peer, Unknown(command.reader))
            return
        self._publisher.attach(reader)
        self._ownership.attached(response, peer, now)

    def _record(self, response: Response, record: TurnRecord, now: float) -> None:
        if isinstance(record, TurnPrepared):
            self._responses.journal(response, record)
            return
        if isinstance(record, TurnStarted):
            response.turn = record.turn
        elif response in self.queue:
            self.queue.leave(response, now)
        if isinstance(record, TurnFinished):
            response.turn_running = False
        self._publisher.append(response, record, now)


def _asks_for(command: Open, opened: Opened) -> bool:
    """Whether this is the response that the command asks for.

    Under an `Idempotency-Key` the client's words count: the history that they were sent with may have grown since.
    """
    return command.asked == opened.asked and (bool(command.asked) or command.request == opened.request)


def _is_stored(request: bytes) -> bool:
    """Whether this create body allows its response to reach a disk."""
    try:
        return msgspec.json.decode(request, type=_Keeping).store
    except msgspec.MsgspecError:
        return True
