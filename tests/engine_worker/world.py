"""A virtual world around the actor: a clock that only the test moves, frontends that keep what they were sent."""

from collections import defaultdict
from typing import TypeVar

from engine_worker.actor import Actor
from engine_worker.config import Settings
from engine_worker.engines.interface import EngineLoad, Resume, Turn, TurnPrepared, TurnRecord
from engine_worker.journal import Journal, read_journal
from engine_worker.mailbox import (
    AbortTurn,
    Effect,
    Emitted,
    EngineFailed,
    EngineHangs,
    EngineReady,
    FlushDue,
    FlushSoon,
    Input,
    JournalFailed,
    JournalSynced,
    Note,
    Received,
    RecordFailed,
    Recovered,
    ReplayDue,
    ReplayIn,
    Send,
    SendFailed,
    StartTurn,
    Stop,
    StopRequested,
    SyncJournal,
    Ticked,
    TookOver,
    TurnQueued,
    UnlinkJournal,
    WriteJournal,
)
from protocol.codec import VERSION, decode_record, decode_report, encode_report
from protocol.commands import Abort, Addressed, Attach, Close, Command, Delete, Detach, Hello, Open, Release
from protocol.records import Record, Step, TextDelta, TurnFinished, TurnStarted, Usage
from protocol.reports import Batch, ModelCard, Records, Report, Status, Welcome
from tests.engine_worker.invariants import check, check_settled

INCARNATION = "incarnation"
UNIX_TIME = 1_700_000_000
MODEL = ModelCard("m")
PREPARED = TurnPrepared(0, (1, 2, 3), b"state")

Kind = TypeVar("Kind", bound=Report)


def read_journals(
    files: dict[tuple[str, bool], bytes],
) -> tuple[tuple[Journal, ...], dict[tuple[str, bool], bytes]]:
    """What a process reads of these journals, and what is left of them once what is not whole is cut off."""
    journals = {name: read_journal(data, volatile=name[1]) for name, data in files.items()}
    return tuple(journals.values()), {name: files[name][: journal.size] for name, journal in journals.items()}


class Frontend:
    """A frontend at the other end of a perfect wire: what it was sent, and the logs it read from that."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reports: list[Report] = []
        self.received = 0
        self.reads: dict[int, list[bytes]] = defaultdict(list)
        self.starts: dict[int, int] = defaultdict(int)
        self.queue_full = False
        self.gone = False

    def take(self, report: Report) -> None:
        """Receive a report as a real one would: over the wire, counted, its records put in place by offset."""
        report = decode_report(encode_report(report))
        self.reports.append(report)
        self.received = 0 if isinstance(report, Welcome) else self.received + 1
        if isinstance(report, Records):
            for batch in report.batches:
                self._read(batch)

    def begin(self, reader: int, from_offset: int) -> None:
        """Forget what this reader read; it is about to read from this offset on."""
        self.reads[reader] = []
        self.starts[reader] = from_offset

    def log(self, reader: int) -> list[Record]:
        """What this reader has been sent, decoded."""
        return [decode_record(raw) for raw in self.reads[reader]]

    def got(self, kind: type[Kind]) -> list[Kind]:
        """The reports of this kind, in order."""
        return [report for report in self.reports if isinstance(report, kind)]

    @property
    def missed(self) -> bool:
        """Whether its last Status counts more messages than it received."""
        return self.got(Status)[-1].sent > self.received

    def _read(self, batch: Batch) -> None:
        read = self.reads[batch.reader]
        assert batch.offset == self.starts[batch.reader] + len(read), "a gap, or records sent twice"
        assert batch.records
        read.extend(bytes(raw) for raw in batch.records)


class World:
    """An actor, its frontends, and an engine played by the test; `now` moves by `advance` alone.

    The actor's effects are carried out as the shell would, at once. Frontends say Hello with every heartbeat unless
    they are in `silent`. `start_turns` is whether the engine takes every turn by itself, at once.
    """

    def __init__(self, *, ready: bool = True, start_turns: bool = True, **settings: float) -> None:
        self.settings = Settings(**settings)  # type: ignore[arg-type]
        self.actor = Actor(self.settings, "worker-0", INCARNATION)
        self.now = 1000.0
        self.load = EngineLoad()
        self.start_turns = start_turns
        self.frontends: dict[bytes, Frontend] = {}
        self.silent: set[str] = set()
        self.turns: list[Turn] = []
        self.aborted: list[str] = []
        self.notes: list[str] = []
        self.journals: dict[tuple[str, bool], bytes] = {}
        self.disk_full = False
        self.syncs: list[tuple[str, bytes]] = []
        self.syncs_journals = True
        self.incarnation = INCARNATION
        self.stopped: str | None = None
        self._inbox: list[Input] = []
        self._flush_asked = False
        self._replay_at: float | None = None
        self.tick()
        if ready:
            self.give(EngineReady((MODEL,)))

    def give(self, message: Input) -> None:
        """Give the actor one input, then the flushes and replays it asks for; its invariants hold before and after."""
        self.give_only(message)
        check(self.actor)
        self.settle()
        check_settled(self.actor)

    def give_only(self, message: Input) -> None:
        """Give the actor one input, as part of a burst: nothing is published yet.

        What comes in while its effects are carried out comes next, as with the shell.
        """
        self._inbox.append(message)
        if len(self._inbox) == 1:
            while self._inbox:
                for effect in self.actor.handle(self._inbox[0], self.now):
                    self._carry_out(effect)
                del self._inbox[0]

    def settle(self) -> None:
        """Publish all there is, replays to their end."""
        while self._flush_asked or self._replay_at is not None:
            if self._flush_asked:
                self._flush_asked = False
                self.give_only(FlushDue())
            if self._replay_at is not None:
                self.now = max(self.now, self._replay_at)
                self._replay_at = None
                self.give_only(ReplayDue())

    def tick(self) -> None:
        self.give(Ticked(self.load, UNIX_TIME + self.now))

    def advance(self, seconds: float) -> None:
        """Let time pass, heartbeat by heartbeat."""
        for _ in range(round(seconds / self.settings.heartbeat_interval_s)):
            self.now += self.settings.heartbeat_interval_s
            for frontend in self.frontends.values():
                if frontend.name not in self.silent and not frontend.gone:
                    self.hello(frontend)
            self.tick()

    def sleep_through(self, seconds: float) -> None:
        """The process is paused: time passes, and nobody here notices."""
        self.now += seconds
        self.tick()

    def restart(self, *, ready: bool = True) -> None:
        """The process is killed, and the next one finds its journals; frontends notice when they say Hello."""
        self.incarnation += "'"
        self.stopped = None
        self.actor = Actor(self.settings, "worker-0", self.incarnation)
        self.turns.clear()
        self.aborted.clear()
        self._inbox.clear()
        self._flush_asked, self._replay_at = False, None
        journals, self.journals = read_journals(self.journals)
        self.give(Recovered(journals, UNIX_TIME + self.now))
        self.tick()
        if ready:
            self.give(EngineReady((MODEL,)))

    def take_over(self, journals: dict[tuple[str, bool], bytes], worker: str = "worker-1", dead: str = "") -> None:
        """Another worker is dead, and its journals are moved here; the last of them, when they say who is `dead`."""
        read, moved = read_journals(journals)
        self.journals |= moved
        self.give(TookOver(worker, read, UNIX_TIME + self.now, dead))

    def lose_engine(self, waiting: int = 0) -> None:
        """The engine dies with so many requests in its queue, and the process ends of it."""
        self.give_only(EngineFailed("it died", EngineLoad(waiting=waiting)))

    def stop(self) -> None:
        """The process is told to end."""
        self.give_only(StopRequested("enough"))

    def frontend(self, name: str) -> Frontend:
        """A new frontend that has said Hello."""
        frontend = self.frontends[name.encode()] = Frontend(name)
        self.hello(frontend)
        return frontend

    def hello(self, frontend: Frontend) -> None:
        self.say(frontend, Hello(VERSION, frontend.name), incarnation="")

    def say(self, frontend: Frontend, command: Command, incarnation: str | None = None) -> None:
        incarnation = self.incarnation if incarnation is None else incarnation
        self.give(Received(frontend.name.encode(), Addressed(incarnation, command)))

    def open(
        self,
        frontend: Frontend,
        response_id: str,
        reader: int = 1,
        request: bytes = b"{}",
        *,
        background: bool = False,
    ) -> None:
        frontend.begin(reader, 0)
        self.say(frontend, Open(reader, response_id, UNIX_TIME, request, background=background))

    def attach(
        self, frontend: Frontend, response_id: str, reader: int = 1, from_offset: int = 0, *, client: bool = True
    ) -> None:
        frontend.begin(reader, from_offset)
        self.say(frontend, Attach(reader, response_id, from_offset, client))

    def detach(self, frontend: Frontend, reader: int = 1) -> None:
        self.say(frontend, Detach(reader))

    def abort(self, frontend: Frontend, response_id: str) -> None:
        self.say(frontend, Abort(response_id))

    def delete(self, frontend: Frontend, response_id: str) -> None:
        self.say(frontend, Delete(response_id))

    def close(self, frontend: Frontend, response_id: str, epoch: int = 1, *, unstored: bool = False) -> None:
        self.say(frontend, Close(response_id, epoch, "completed", UNIX_TIME, unstored=unstored))

    def release(self, frontend: Frontend, response_id: str, epoch: int = 1) -> None:
        self.say(frontend, Release(response_id, epoch))

    def emit(self, response_id: str, record: TurnRecord) -> None:
        self.give(Emitted(((response_id, record),)))

    def step(self, response_id: str, text: str = "word") -> None:
        self.emit(response_id, Step((1,), (TextDelta(text),)))

    def finish(self, response_id: str) -> None:
        self.emit(response_id, TurnFinished("stop", Usage()))

    def take_turn(self, response_id: str, resume: Resume | None = None) -> None:
        """The engine takes a turn it was asked to start, or to go on with."""
        if resume is None:
            self.give(Emitted(((response_id, PREPARED), (response_id, TurnStarted(0, 5)))))
        self.give(TurnQueued(response_id))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(address, report):
                self._deliver(address, report)
            case StartTurn(turn):
                self.turns.append(turn)
                if self.start_turns:
                    self.take_turn(turn.response_id, turn.resume)
            case AbortTurn(response_id):
                self.aborted.append(response_id)
            case FlushSoon():
                self._flush_asked = True
            case ReplayIn(delay_s):
                assert self._replay_at is None, "two replays asked for at once"
                self._replay_at = self.now + delay_s
            case WriteJournal() | SyncJournal() | UnlinkJournal():
                self._journal(effect)
            case _:
                self._note(effect)

    def _note(self, effect: Note | EngineHangs | RecordFailed | Stop) -> None:
        match effect:
            case Note(_, text) | EngineHangs(text):
                self.notes.append(text)
            case RecordFailed(_, error):
                raise error
            case Stop(reason):
                self.stopped = reason

    def _journal(self, effect: WriteJournal | SyncJournal | UnlinkJournal) -> None:
        name = effect.response_id, effect.volatile
        if isinstance(effect, SyncJournal):
            self.syncs.append((effect.response_id, self.journals.get(name, b"")))
            if self.syncs_journals:
                self.give_only(JournalSynced(effect.response_id))
        elif isinstance(effect, UnlinkJournal):
            self.journals.pop(name, None)
        elif self.disk_full or not (effect.first or name in self.journals):
            self.journals.pop(name, None)
            self.give_only(JournalFailed(effect.response_id, "no space left"))
        else:
            self.journals[name] = (b"" if effect.first else self.journals[name]) + effect.entries

    def _deliver(self, address: bytes, report: Report) -> None:
        frontend = self.frontends.get(address)
        if frontend is None or frontend.gone:
            self.give_only(SendFailed(address, report, full=False))
        elif frontend.queue_full:
            self.give_only(SendFailed(address, report, full=True))
        else:
            frontend.take(report)
