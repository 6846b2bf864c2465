"""A frontend's process: the cores as `FakeFrontend` puts them together, and closings with a store that can fail."""

from collections.abc import Callable
from functools import partial
from typing import Any

from frontend.closing import Closing
from frontend.closings import Closings, Ending, Tell
from frontend.finished import as_kept, to_keep
from frontend.messages import (
    Again,
    Beat,
    ClosingInput,
    Connect,
    Disconnect,
    Find,
    Heard,
    HostsEffect,
    Leave,
    Lost,
    Note,
    Refusal,
    Say,
    SessionInput,
    Stopping,
    Take,
    Unkept,
    Verdict,
)
from frontend.store.errors import StoreUnavailable
from protocol.commands import Addressed, Attach, Close
from protocol.records import Closed
from protocol.reports import Attached, Report
from tests.frontend.fake_frontend import Client, FakeFrontend
from tests.simulation.scene import Scene
from tests.simulation.store import Store
from tests.simulation.timeline import Process
from tests.simulation.wire import Frontend

RETRY_S = 0.5
FIRST_BEAT_S = 0.1
UNIX_TIME = 1_700_000_000


class StoreClosings(Closings):
    """The product's table of closings, with the simulation's store and time."""

    def __init__(self, process: "FrontendProcess", store: Store, tell: Tell) -> None:
        super().__init__(None, None, 0.0, tell)  # type: ignore[arg-type]
        self._process = process
        self._rows = store

    def __len__(self) -> int:
        return len(self._at_work)

    def _ended(self, ending: Ending) -> None:
        super()._ended(ending)
        self._process.endings.pop(ending.closing.reader, None)

    def _keep(self, ending: Ending, records: tuple[bytes, ...]) -> None:
        process = self._process
        closing = ending.closing
        finished = to_keep(records, closing.closed, closing.epoch, ending.response)
        kept: list[ClosingInput] = []
        process.later(process.settings.store_wait_s, lambda: None if kept else ending.deliver(Unkept()))

        def attempt() -> None:
            try:
                outcome = self._rows.finish(finished)
            except StoreUnavailable:
                process.witness.count("store failures")
                process.later(RETRY_S, attempt)
            else:
                kept.append(as_kept(outcome, closing.closed))
                process.later(process.chance.uniform(0, 0.1), partial(ending.deliver, kept[0]))

        process.later(process.chance.uniform(0, 0.1), attempt)


class LookUp:
    """A reader that only wants to know where its response is, for as long as it takes to say something about it."""

    def __init__(
        self, process: "FrontendProcess", number: int, response_id: str, answer: Callable[[int | None], None]
    ) -> None:
        self._process = process
        self._response_id = response_id
        self._number = number
        self._answer = answer

    def deliver(self, message: object) -> None:
        """`Attached`, or a reason why there is nothing."""
        if self._number not in self._process.endings:
            return
        match message:
            case Attached():
                self._answer(self._number)
            case Refusal(error):
                if error.status == 404:
                    self._answer(None)
            case Again():
                self._process.tell(Say(self._number, Attach(self._number, self._response_id, 0, client=False)))
                return
            case Lost():
                pass
            case _:
                return
        del self._process.endings[self._number]
        self._process.tell(Leave(self._number))


class FrontendProcess(Frontend, FakeFrontend):
    """One life of a frontend; its id is its name."""

    def __init__(self, name: str, scene: Scene) -> None:
        Process.__init__(self, name, scene.timeline, scene.trace)
        FakeFrontend.__init__(self, name, scene.frontend_settings, self._to_worker)
        self.settings = scene.frontend_settings
        self.chance = scene.new_chance()
        self.witness = scene.witness
        self.endings: dict[int, Ending | LookUp] = {}
        """The readers that are no sessions."""
        self.closings = StoreClosings(self, scene.store, self.tell)
        self._wire = scene.wire
        self._sockets = frozenset(scene.directories)
        self._wire.come(self)
        self.run(self._beat)

    def run(self, call: Callable[[], None]) -> None:
        self.now = self.timeline.now
        super().run(call)

    def die(self) -> None:
        if self.alive:
            super().die()
            self._wire.end_frontend(self.name)

    def stop(self) -> None:
        """SIGTERM, at its end: clients are to go on elsewhere."""
        for client in list(self.clients.values()):
            if not client.ended:
                self.deliver(client, Stopping())
        self.die()

    def wake(self, *, timers_first: bool) -> None:  # type: ignore[override]
        super().wake(partial(self._wire.read_frontend, self.name), timers_first=timers_first)

    def heard(self, worker: str, report: Report) -> None:
        self.heard_at[worker] = self.timeline.now
        self.tell(Heard(worker, report))

    def look_up(self, response_id: str, answer: Callable[[int | None], None]) -> None:
        """Ask for a response in a client's name; the answer is the number of a reader that has it, or None."""
        number = self.number()
        self.endings[number] = LookUp(self, number, response_id, answer)
        self.tell(Find(number, response_id, client=False))

    def _beat(self) -> None:
        self.tell(Beat(self._sockets))
        expecting = self.hosts.is_expecting(self.now)
        self.later(FIRST_BEAT_S if expecting else self.settings.heartbeat_interval_s, self._beat)

    def _to_worker(self, frontend: str, worker: str, command: Addressed) -> bool:
        self.survive()
        return self._wire.to_worker(frontend, worker, command)

    def hand(self, reader: int, message: SessionInput) -> None:
        if reader in self.endings:
            self.endings[reader].deliver(message)
        else:
            super().hand(reader, message)

    def _carry_out(self, effect: HostsEffect) -> None:
        match effect:
            case Connect(worker=worker):
                self._wire.want(self.name, worker)
            case Disconnect(worker=worker):
                self._wire.unwant(self.name, worker)
            case Note(text=text):
                self._note(text)
            case _:
                super()._carry_out(effect)

    def _note(self, text: str) -> None:
        self.trace(f"{self.name}: {text}")
        if "is lost: silent" in text:
            worker = text.split()[1]
            unread = self._wire.unread_by_frontend(self.name, worker)
            self.check_silence(worker, unread, self.settings.worker_lost_after_s)

    def drive(self, client: Client, verdict: Verdict) -> None:
        """As `Links`: what is not stored is closed at once; the end of anything else is stored first."""
        session = client.session
        projection, response_id = session.projection, session.response_id
        at = UNIX_TIME + int(self.now)
        closed = verdict.closed or Closed(verdict.status, at, verdict.error)
        in_log = verdict.closed is not None
        if not projection.is_stored and not in_log:
            close = Close(response_id, verdict.epoch, closed.status, closed.at, closed.error)
            self.tell(Say(session.reader, close))
            return
        number = self.number()
        closing = Closing(number, response_id, verdict.epoch, closed, in_log=in_log)
        response: Any = projection.response() if in_log else projection.response_closed(closed)
        ending = self.closings.begin(closing, response)
        if ending is not None:
            self.witness.count("stored late", in_log)
            self.endings[number] = ending
            worker = self.hosts.worker_of(session.reader)
            found = Find(number, response_id, client=False)
            self.tell(found if worker is None else Take(number, response_id, worker))
