"""A worker's process around the real `Actor`.

Carries effects out as `engine_worker.shell` does, and takes journals over as `engine_worker.takeover` does; where those
have files, flocks and threads, this has a `Directory` and the timeline.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

from engine_worker.actor import Actor
from engine_worker.engines.interface import EngineLoad
from engine_worker.mailbox import (
    AbortTurn,
    DrainRequested,
    Effect,
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
    UnlinkJournal,
    WriteJournal,
)
from protocol.commands import Addressed, Close, Hello
from protocol.reports import ModelCard
from tests.engine_worker.world import UNIX_TIME, read_journals
from tests.simulation.directory import Directory, JournalName
from tests.simulation.engine import Engine
from tests.simulation.scene import Scene
from tests.simulation.timeline import Killed
from tests.simulation.wire import Worker

MODEL = ModelCard("demo")
FINGERPRINT = "demo"
LOCK_RACE_S = 0.02
"""Who waits for a lock has it so long after it came free, at most."""
PARTING_S = 0.1
SYNC_S = (0.01, 0.5)
"""What a disk takes."""


class WorkerProcess(Worker):
    """One life of the worker named `slot`: from the wait for its journals' lock until it dies or stops."""

    def __init__(self, slot: str, life: int, scene: Scene, on_end: Callable[["WorkerProcess"], None]) -> None:
        super().__init__(f"{slot}.{life}", scene.timeline, scene.trace)
        self.slot = slot
        self.incarnation = self.name
        self.settings = scene.worker_settings
        self.own = scene.directories[slot]
        self.actor = Actor(self.settings, slot, self.incarnation)
        self.engine: Engine | None = None
        self.disk_full = False
        self.ready = False
        self._chance = scene.new_chance()
        self._wire = scene.wire
        self._directories = scene.directories
        self._witness = scene.witness
        self._on_end = on_end
        self._inbox: deque[Input] = deque()
        self._handling = False
        self._watched: set[str] = set()
        self._leaves_others = False
        self._drain_requested = False

    # ---- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.trace(f"{self.name} starts")
        self.later(self.settings.journal_lock_wait_s, self._give_up)
        self.own.when_free(self._take_own)

    def _take_own(self) -> None:
        self.later(self._chance.uniform(0, LOCK_RACE_S), self._try_own)

    def _try_own(self) -> None:
        if not self.own.try_take(self):
            self.own.when_free(self._take_own)
            return
        journals, self.own.files = read_journals(self.own.files)
        journals = tuple(journal for journal in journals if journal.opened is not None)
        self.handle(Recovered(journals, self.unix_time))
        self._wire.listen(self.slot, self)
        self._tick()
        self.later(self._chance.uniform(0.2, 3.0), self._built)

    def _give_up(self) -> None:
        if self.own.holder is not self:
            self.die()

    @property
    def unix_time(self) -> float:
        return UNIX_TIME + self.timeline.now

    def die(self) -> None:
        if self.alive:
            super().die()
            self._release_locks()
            self._wire.end_worker(self.slot, self)
            self._on_end(self)

    def _release_locks(self) -> None:
        for directory in self._directories.values():
            directory.release(self)

    def drain(self) -> None:
        """SIGTERM; a second one ends it now."""
        if self._drain_requested:
            self.handle(StopRequested("told twice"))
        else:
            self._drain_requested = self._leaves_others = True
            self.handle(DrainRequested())

    def wake(self, *, timers_first: bool) -> None:  # type: ignore[override]
        super().wake(partial(self._wire.read_worker, self.slot), timers_first=timers_first)

    def lose_engine(self) -> None:
        if self.engine is not None:
            self.handle(EngineFailed("the engine died", self.engine.load()))

    def _stop(self) -> None:
        """It has said all that it had to say; what was sent gets a moment to arrive."""
        self.trace(f"{self.name} stops")
        self.alive = False
        self._release_locks()
        self.timeline.after(PARTING_S, self._parted)

    def _parted(self) -> None:
        self._wire.end_worker(self.slot, self)
        self._on_end(self)

    def _tick(self) -> None:
        if self.ready and not self._leaves_others:
            self._look()
        load = EngineLoad() if self.engine is None else self.engine.load()
        self.handle(Ticked(load, self.unix_time))
        self.later(self.settings.heartbeat_interval_s, self._tick)

    # ---- the actor ---------------------------------------------------------------------------------------------------

    def hear(self, frontend: str, command: Addressed) -> None:
        told = command.command
        self.heard_at[frontend] = self.timeline.now
        live = self.actor._responses.live.get(told.response_id) if isinstance(told, Close) else None
        is_stale = not isinstance(told, Hello) and command.incarnation != self.incarnation
        before = self._carried_out(frontend) if is_stale else set()
        self.handle(Received(frontend.encode(), command))
        assert not is_stale or self._carried_out(frontend) <= before, (
            f"{self.name} carries out {command}, which is stale"
        )
        if live is not None and isinstance(told, Close) and live.log.closed:
            self._witness.closed_by(live, frontend, told)

    def _carried_out(self, frontend: str) -> set[object]:
        """What this frontend has had this worker begin: readers, and openings."""
        peer = self.actor._frontends.get(frontend.encode())
        readers = set(peer.readers.values()) if peer is not None else set()
        return {*readers, *self.actor._hosting._openings._by_id}

    def handle(self, message: Input) -> None:
        """As the shell: one input after the other, each with all its effects."""
        self._inbox.append(message)
        if self._handling:
            return
        self._handling = True
        while self._inbox and self.alive:
            for effect in self.actor.handle(self._inbox.popleft(), self.timeline.now):
                if self.kill_in >= 0:
                    self._survive(effect)
                self._carry_out(effect)
        self._handling = False

    def _survive(self, effect: Effect) -> None:
        try:
            self.survive()
        except Killed:
            if isinstance(effect, WriteJournal):  # It may be cut short by the death.
                part = effect.entries[: self._chance.randrange(len(effect.entries) + 1)]
                name = effect.response_id, effect.volatile
                if effect.first or name in self.own.files:
                    self.own.files[name] = (b"" if effect.first else self.own.files[name]) + part
            raise

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case WriteJournal() | SyncJournal() | UnlinkJournal():
                self._journal(effect)
            case FlushSoon():
                self.later(0.0, partial(self.handle, FlushDue()))
            case ReplayIn(delay_s):
                self.later(delay_s, partial(self.handle, ReplayDue()))
            case StartTurn() | AbortTurn() | EngineHangs():
                self._on_engine(effect)
            case Note(_, text):
                self._note(text)
            case RecordFailed(_, error):
                raise error
            case Stop():
                self._stop()

    def _on_engine(self, effect: StartTurn | AbortTurn | EngineHangs) -> None:
        match effect:
            case StartTurn(turn):
                assert self.engine is not None, f"{self.name} starts a turn without an engine"
                if turn.resume is None:
                    self._witness.begins(self, turn.response_id)
                self.engine.start(turn)
            case AbortTurn(response_id):
                if self.engine is not None:
                    self.engine.abort(response_id)
            case EngineHangs():
                self._witness.count("hangs")
                self.lose_engine()

    def _note(self, text: str) -> None:
        self.trace(f"{self.name}: {text}")
        if text.startswith("frontend ") and "silent" in text:
            frontend = text.split()[1]
            unread = self._wire.unread_by_worker(frontend, self.slot)
            self.check_silence(frontend, unread, self.settings.frontend_lost_after_s)

    def _send(self, effect: Send) -> None:
        frontend, report = effect.address.decode(), effect.report
        self._witness.sends(self, effect.address, report)
        sent = self._wire.to_frontend(self.slot, frontend, report)
        if not sent:
            self.handle(SendFailed(effect.address, report, full=sent is False))

    def _journal(self, effect: WriteJournal | SyncJournal | UnlinkJournal) -> None:
        assert self.own.holder is self, f"{self.name} writes a journal without its lock"
        name = effect.response_id, effect.volatile
        if isinstance(effect, SyncJournal):
            self.later(self._chance.choice(SYNC_S), partial(self.handle, JournalSynced(effect.response_id)))
        elif isinstance(effect, UnlinkJournal):
            self.own.files.pop(name, None)
        elif self.disk_full or not (effect.first or name in self.own.files):
            self.own.files.pop(name, None)
            self._witness.unjournaled(effect.response_id)
            self.handle(JournalFailed(effect.response_id, "no space left"))
        else:
            self.own.files[name] = (b"" if effect.first else self.own.files[name]) + effect.entries

    # ---- the engine, and what others left ----------------------------------------------------------------------------

    def _built(self) -> None:
        self.engine = Engine(self, self._chance)
        self.own.content, self.own.owner = FINGERPRINT, self.incarnation
        self._sweep(sorted(self._directories))

    def _sweep(self, left: list[str]) -> None:
        """Take what lies free, one worker after the other; then be ready."""
        while left and not self._leaves_others:
            directory = self._directories[left.pop(0)]
            if directory is not self.own and directory.content == FINGERPRINT and directory.try_take(self):
                self._take_over(directory, partial(self._sweep, left))
                return
        self.ready = True
        self.handle(EngineReady((MODEL,)))

    def _look(self) -> None:
        for name, directory in self._directories.items():
            if directory is not self.own and name not in self._watched and directory.content == FINGERPRINT:
                self._watched.add(name)
                directory.when_free(partial(self._wait_for, directory))

    def _wait_for(self, directory: Directory) -> None:
        if self.alive:
            self.later(self._chance.uniform(0, LOCK_RACE_S), partial(self._take_watched, directory))

    def _take_watched(self, directory: Directory) -> None:
        if directory.try_take(self):
            self._take_over(directory, partial(self._watched.discard, directory.name))
        else:
            directory.when_free(partial(self._wait_for, directory))

    def _take_over(self, directory: Directory, then: Callable[[], None]) -> None:
        if self._leaves_others or directory.content != FINGERPRINT:
            self._let_go(directory, then)
            return
        names = list(directory.files)
        self._chance.shuffle(names)
        self._take_portion(directory, names, then)

    def _take_portion(self, directory: Directory, names: list[JournalName], then: Callable[[], None]) -> None:
        if self._leaves_others:
            self._let_go(directory, then)
            return
        if not names:
            self.handle(TookOver(directory.name, (), self.unix_time, directory.owner))
            if self.alive:
                directory.content = ""
                self._let_go(directory, then)
            return
        portion, names = names[:2], names[2:]
        read, kept = read_journals({name: directory.files[name] for name in portion})
        moved = []
        for name, journal in zip(portion, read, strict=True):
            data = kept[name]
            if journal.opened is None:
                del directory.files[name]
            elif name not in self.own.files:
                del directory.files[name]
                self.own.files[name] = data
                moved.append(journal)
        self._witness.count("takeovers", bool(moved))
        self.handle(TookOver(directory.name, tuple(moved), self.unix_time))
        if self.alive:
            self.later(self._chance.uniform(0, 0.05), partial(self._take_portion, directory, names, then))

    def _let_go(self, directory: Directory, then: Callable[[], None]) -> None:
        directory.release(self)
        then()
