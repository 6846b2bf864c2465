"""The worker's core: every decision it takes, as `handle(input, now) -> effects`.

Theory of operation
    The actor is the only one that changes the worker's state, and it changes it only here, one input at a time. It
    takes commands from frontends, records from the engine, and ticks; it answers with effects that its shell carries
    out. What the parts are for:

    Frontends   who is there, and until when           Ownership   who drives which response
    Hosting     a response from Open to its end        Publisher   who reads which log, from where, and how fast

    Knows nothing of asyncio, ZeroMQ or vLLM, and takes the time as an argument.
"""

from collections.abc import Iterable

from engine_worker.clock import ActiveClock
from engine_worker.config import Settings
from engine_worker.engines.interface import EngineLoad, TurnRecord
from engine_worker.frontends import Frontends
from engine_worker.hosting import Hosting
from engine_worker.mailbox import (
    DrainRequested,
    Effect,
    Emitted,
    EngineFailed,
    EngineHangs,
    EngineReady,
    FlushDue,
    Input,
    JournalFailed,
    JournalSynced,
    Note,
    Received,
    RecordFailed,
    Recovered,
    ReplayDue,
    SendFailed,
    Stop,
    StopRequested,
    Ticked,
    TookOver,
    TurnQueued,
    TurnRefused,
)
from engine_worker.outbox import Outbox
from engine_worker.ownership import Ownership
from engine_worker.publishing import Publisher
from engine_worker.responses import Responses
from engine_worker.state import Peer
from engine_worker.watchdog import EngineWatch
from protocol.commands import Abort, Attach, Close, Command, Delete, Detach, Hello, Open, Pause, Release, Stored
from protocol.records import ErrorDetail
from protocol.reports import TOOK_IDS_MAX, Goodbye, ModelCard, Phase, Status, Took, Welcome

LOADING = ErrorDetail("server_error", "engine_unavailable", "The model is still loading; try again soon.")
UNJOURNALED = ErrorDetail("server_error", "overloaded", "The worker can't write its journal; try again soon.")
DRAINING = ErrorDetail("server_error", "engine_unavailable", "This worker is about to end; try again.")

_GAP_INTERVALS = 2
"""A silence of so many ticks on our own side means that this process was paused; small against
`frontend_lost_after_s`, so that no frontend is lost for a pause that goes unseen."""

_FULL_INTERVALS = 2
"""A queue counts as full in `Status` when it would not run empty in so many heartbeats. So nothing is lost when nothing
more is sent until the next one."""


class Actor:
    """The state of one worker named `worker`, in the process life named `incarnation`."""

    def __init__(self, settings: Settings, worker: str, incarnation: str) -> None:
        self._settings = settings
        self._incarnation = incarnation
        self._clock = ActiveClock(_GAP_INTERVALS * settings.heartbeat_interval_s)
        self._outbox = Outbox()
        self._frontends = Frontends(self._outbox, worker, incarnation)
        self._responses = Responses(
            self._outbox, settings.log_bytes_max, settings.journal_bytes_max, settings.responses_max
        )
        self._publisher = Publisher(
            self._outbox,
            self._responses,
            settings.batch_records_max,
            settings.batch_bytes_max,
            settings.replay_interval_s,
        )
        self._ownership = Ownership(self._outbox, self._publisher, settings.frontend_lost_after_s)
        self._hosting = Hosting(settings, self._outbox, self._responses, self._publisher, self._ownership)
        self._phase: Phase = "loading"
        self._models: tuple[ModelCard, ...] = ()
        self._load = EngineLoad()
        self._engine_watch = EngineWatch(settings.engine_hang_after_s)
        self._drain_until = float("inf")
        self._journal_failed_until = float("-inf")

    def __repr__(self) -> str:
        return f"<Actor {self._phase}: {len(self._frontends)} frontends, {self._hosting!r}, {self._publisher!r}>"

    def handle(self, message: Input, now: float) -> list[Effect]:
        """Take one input at `now` (monotonic seconds); the effects are to be carried out in their order."""
        now = self._clock.read(now)
        match message:
            case Emitted(records):
                self._on_emitted(records, now)
            case FlushDue() | ReplayDue():
                self._on_publishing_due(message, now)
            case Received():
                self._on_received(message, now)
            case EngineReady() | TurnQueued() | TurnRefused():
                self._on_engine_answered(message, now)
            case SendFailed():
                self._on_send_failed(message, now)
            case Recovered() | TookOver() | JournalFailed() | JournalSynced():
                self._on_journal(message, now)
            case Ticked():
                self._on_ticked(message, now)
            case DrainRequested() | StopRequested() | EngineFailed():
                self._on_ending(message, now)
        self._publisher.ask_for_flush()
        return self._outbox.take()

    def _on_emitted(self, records: tuple[tuple[str, TurnRecord], ...], now: float) -> None:
        for response_id, record in records:
            try:
                self._hosting.emitted(response_id, record, now)
            except Exception as error:  # noqa: BLE001 - of many responses, one
                self._outbox.put(RecordFailed(response_id, error))
        self._publish(now)

    def _publish(self, now: float) -> None:
        self._publisher.flush()
        self._hosting.trim(now)  # Only now: what is dropped has been sent to whoever kept up.

    def _on_publishing_due(self, message: FlushDue | ReplayDue, now: float) -> None:
        match message:
            case FlushDue():
                self._publish(now)
            case ReplayDue():
                self._publisher.replay()

    def _on_engine_answered(self, message: EngineReady | TurnQueued | TurnRefused, now: float) -> None:
        match message:
            case EngineReady(models):
                self._on_engine_ready(models, now)
            case TurnQueued(response_id):
                self._hosting.turn_queued(response_id, now)
            case TurnRefused(response_id, error):
                self._hosting.turn_refused(response_id, error, now)

    def _on_ending(self, message: DrainRequested | StopRequested | EngineFailed, now: float) -> None:
        match message:
            case DrainRequested():
                self._drain_until = now + self._settings.drain_s
                self._enter("draining", now)
                self._stop_if_drained(now)
            case StopRequested(reason):
                self._leave(reason)
            case EngineFailed(reason, load):
                self._hosting.engine_died(load.waiting)
                self._stop(reason)

    def _on_journal(self, message: Recovered | TookOver | JournalFailed | JournalSynced, now: float) -> None:
        match message:
            case JournalSynced(response_id):
                self._hosting.journal_synced(response_id, now)
            case Recovered(journals, unix_time):
                self._hosting.recover(journals, now, unix_time)
            case TookOver():
                self._on_took_over(message, now)
            case JournalFailed(response_id, reason):
                self._on_journal_failed(response_id, reason, now)

    def _on_took_over(self, message: TookOver, now: float) -> None:
        """Tell every frontend, before the dead worker's successor can call unknown what it had; then go on with it."""
        taken = self._hosting.take_over(message.journals, now, message.unix_time)
        if message.journals:
            self._outbox.put(Note("info", f"took over {len(taken)} responses of {message.worker}"))
        reports = [Took(tuple(taken[start : start + TOOK_IDS_MAX])) for start in range(0, len(taken), TOOK_IDS_MAX)]
        if message.dead:
            reports.append(Took((), message.dead))
        for report in reports:
            for peer in self._frontends:
                self._outbox.send(peer, report)
        if self._phase == "ready":
            self._hosting.resume(now)

    def _on_journal_failed(self, response_id: str, reason: str, now: float) -> None:
        """Take no new work for a while; what is live goes on without a journal, and would not survive this process."""
        if now >= self._journal_failed_until:
            wait_s = self._settings.journal_wait_s
            self._outbox.put(Note("warning", f"no new work for {wait_s:g} s: the journal can't be written: {reason}"))
        self._journal_failed_until = now + self._settings.journal_wait_s
        response = self._responses.get(response_id)
        if response is not None:
            self._outbox.put(Note("warning", f"response {response_id} goes on without a journal"))
            self._responses.end_journal(response)
            self._hosting.journal_synced(response_id, now)

    def _on_received(self, message: Received, now: float) -> None:
        sender, command = message.sender, message.addressed.command
        if isinstance(command, Hello):
            self._on_hello(sender, message.addressed.incarnation, command, now)
            return
        peer = self._frontends.get(sender)
        if peer is None or message.addressed.incarnation != self._incarnation:
            self._frontends.stale(sender)
        else:
            peer.heard_at = now
            peer.received += 1
            self._on_command(peer, command, now)

    def _on_hello(self, sender: bytes, incarnation: str, command: Hello, now: float) -> None:
        newcomer = self._frontends.hello(sender, incarnation, command, now)
        if newcomer is not None:
            self._send_status([newcomer], now)
            self._ownership.settle(self._frontends, now)

    def _on_command(self, peer: Peer, command: Command, now: float) -> None:
        match command:
            case Open():
                self._hosting.open(peer, command, self._refusal(now), now)
            case Attach():
                self._hosting.attach(peer, command, now)
            case Pause(reader):
                self._publisher.pause(peer, reader)
            case Detach(reader):
                self._hosting.leave(peer, reader, now)
            case Hello():
                pass  # Taken care of above: it is the one command that needs no acquaintance.
            case Close() | Abort() | Delete() | Stored() | Release():
                self._on_end_command(peer, command, now)

    def _on_end_command(self, peer: Peer, command: Close | Abort | Delete | Stored | Release, now: float) -> None:
        match command:
            case Close():
                self._hosting.close(peer, command, now)
            case Abort(response_id):
                self._hosting.abort(response_id, now)
            case Delete(response_id):
                self._hosting.delete(response_id, now)
            case Stored():
                self._hosting.stored(peer, command, now)
            case Release():
                self._hosting.release(peer, command)

    def _on_send_failed(self, message: SendFailed, now: float) -> None:
        peer = self._frontends.get(message.address)
        if peer is None:
            return
        if not message.full:
            self._lose([peer], "it can't be reached", now)
        elif isinstance(message.report, Welcome):
            # It would go on counting from its last acquaintance and never notice a loss: let it say Hello again.
            self._lose([peer], "its queue was full when it came back", now)
        else:
            self._publisher.pause_all(peer)

    def _on_ticked(self, message: Ticked, now: float) -> None:
        self._load = message.load
        hang = self._engine_watch.look(message.load, now)
        if hang is not None:
            self._outbox.put(EngineHangs(hang))
        silence_s = self._settings.frontend_lost_after_s
        self._lose(self._frontends.silent(now - silence_s), f"silent for {silence_s:g} s", now)
        self._ownership.settle(self._frontends, now)
        self._hosting.look_at_clocks(now, message.unix_time)
        for peer in self._frontends:
            self._ownership.repeat_offers(peer)
        self._send_status(self._frontends, now)
        self._stop_if_drained(now)

    def _on_engine_ready(self, models: tuple[ModelCard, ...], now: float) -> None:
        self._models = models
        self._hosting.sampling = models[0].sampling
        if self._phase == "loading":
            self._enter("ready", now)
            self._hosting.resume(now)

    def _lose(self, peers: list[Peer], reason: str, now: float) -> None:
        for peer in peers:
            self._frontends.forget(peer, reason)
            self._hosting.lose(peer, now)
        if peers:
            self._ownership.settle(self._frontends, now)

    def _refusal(self, now: float) -> ErrorDetail | None:
        """Why no new response is taken at present."""
        match self._phase:
            case "loading":
                return LOADING
            case "ready":
                return UNJOURNALED if now < self._journal_failed_until else None
            case "draining":
                return DRAINING

    def _enter(self, phase: Phase, now: float) -> None:
        self._phase = phase
        self._send_status(self._frontends, now)

    def _send_status(self, peers: Iterable[Peer], now: float) -> None:
        load, queue = self._load, self._hosting.queue
        places = queue.places(load.waiting)
        full_for_s = queue.full_for_s(now, _FULL_INTERVALS * self._settings.heartbeat_interval_s)
        for peer in peers:
            status = Status(
                phase=self._phase,
                sent=peer.sent + 1,
                step=load.step,
                running=load.running,
                waiting=load.waiting,
                kv_use=load.kv_use,
                log_bytes=self._responses.bytes,
                models=self._models,
                queue=tuple(places.get(peer, ())),
                retry_after_s=full_for_s,
                journal_bytes=self._responses.journal_bytes,
                prefix_queries=load.prefix_queries,
                prefix_hits=load.prefix_hits,
                confirmed=peer.confirmed,
            )
            self._outbox.send(peer, status)

    def _stop_if_drained(self, now: float) -> None:
        if self._phase != "draining":
            return
        if not self._frontends:
            self._leave("drained: no frontend is left to finish anything for")
        elif not self._hosting.busy and self._publisher.idle:
            self._leave("drained")
        elif now >= self._drain_until:
            self._leave(f"drained for {self._settings.drain_s:g} s, and some responses are not finished")

    def _leave(self, reason: str) -> None:
        """End on purpose: what is not finished goes on in another worker, or in the next one here."""
        self._hosting.leave_turns()
        self._stop(reason)

    def _stop(self, reason: str) -> None:
        self._hosting.tell_begun()
        self._outbox.write_out()
        for peer in self._frontends:
            self._outbox.send(peer, Goodbye(reason, peer.sent + 1))
        self._outbox.put(Stop(reason))
