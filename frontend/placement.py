"""Where each reader of this frontend is read: at which worker, or at none yet. Decisions only, as part of `Hosts`.

Theory of operation
    A reader is in one of three places (`readers.py`):
        Looking   all registered workers were asked whether they know the response (`finding.py`)
        Opening   a worker was asked to create it, or is to be as soon as one can (`opening.py`)
        Hosted    a worker attached it; its session decides what more to tell that worker

        Find ──► Looking ─────── Attached, Took ──────► Hosted ◄── Attached, Took ── Opening ◄── Create
                  │   ▲ └─ Create with a key ─┐          │  ▲                         ▲ │ │
                  │   │                       └──────────┼──┼── all said Unknown ─────┘ │ │ Rejected, or
                  │   ├──── Unknown, or lost ────────────┘  └─ Took: another worker     │ ▼ nobody to ask
                  │   └──── its worker was restarted ───────────────────────────────────┘ Refusal
                  ▼
        all said Unknown, or its time is up: Refusal (404, 503), or Lost (`engine_lost`) where it had been hosted

    `Took` says that a worker has what another one hosted: its readers go there, wherever they are. A reader that is
    looking goes to the first worker that attaches it. All others are told to detach it.

    What concerns many readers at once (their worker was restarted, is lost, has missed something) is said of a portion
    of them with each `Beat`, which comes soon while there are more; until its turn a reader stays where it is.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from frontend.api.errors import QUEUE_FULL, from_detail, response_not_found, unavailable
from frontend.config import Settings
from frontend.finding import Finder
from frontend.messages import Again, Create, Deliver, Distribute, Find, HostsEffect, Leave, Refusal, Say, Take
from frontend.opening import Opener
from frontend.readers import Hosted, Looking, Opening, Reader, Readers
from frontend.routing import Affinity
from frontend.workers import Worker
from protocol.commands import Abort, Attach, Close, Command, Delete, Detach, Hello, Open, Pause, Release, Stored
from protocol.reports import Attached, Records, Rejected, Took, Unknown

_PORTION: Final = 128
"""Readers of which a worker is told at a time: some milliseconds, and a part of its queue (`queue_frames_max`)."""

ReaderReport = Records | Attached | Rejected | Unknown | Took
"""What a worker says to readers."""


class Placement:
    """All readers of this frontend; `workers` is the caller's, and only what they say of readers is changed here."""

    def __init__(self, workers: Mapping[str, Worker], settings: Settings) -> None:
        self._workers = workers
        self._settings = settings
        self._readers = Readers()
        self._opener = Opener(workers, self._readers, settings)
        self._finder = Finder(workers, self._readers, self._opener, settings)

    def __repr__(self) -> str:
        return f"<Placement {self._readers}>"

    def host_of(self, number: int) -> Worker | None:
        """The worker that this reader reads from, or read from before it had to look for its response."""
        match self._readers.get(number):
            case Reader(place=Hosted(worker=worker)) | Reader(place=Looking(former=worker)):
                return worker
            case _:
                return None

    def is_looking(self, number: int) -> bool:
        """Whether no worker is known to have this reader's response."""
        reader = self._readers.get(number)
        return reader is not None and isinstance(reader.place, Looking)

    def host_for(self, model: str, affinity: Affinity, token: str, now: float) -> Worker | None:
        """The worker that is to have a new response, as things are."""
        return self._opener.host_for(model, affinity, token, now)

    def retry_after_s(self, model: str, now: float) -> int:
        """In how many seconds the first of the model's workers has room again; 0: one has, or none is ready."""
        return self._opener.retry_after_s(model, now)

    def readers_of(self, response_id: str) -> set[int]:
        """All readers of this frontend that read, or want, this response."""
        return self._readers.of(response_id)

    # ---- clients and sessions ----------------------------------------------------------------------------------------

    def create(self, message: Create, now: float) -> list[HostsEffect]:
        """Open the response on a worker, after asking all for it if it may exist."""
        number, response_id = message.open.reader, message.open.response_id
        opening = Opening(message, now + self._settings.open_wait_s)
        reader = self._readers.add(number, response_id, opening)
        registered = self._finder.registered(now) if message.joins else set()
        if not registered:
            return self._opener.open(reader, opening, now)
        question = Attach(number, response_id, 0, client=True)
        until = now + self._settings.lookup_wait_s
        return self._finder.look(reader, Looking(registered, opening, until, question), now)

    def find(self, message: Find, now: float) -> list[HostsEffect]:
        """Ask all registered workers for the response."""
        registered = self._finder.registered(now)
        error = response_not_found(message.response_id) if registered else unavailable("No engine worker is running.")
        question = Attach(message.reader, message.response_id, 0, message.client)
        looking = Looking(registered, Refusal(error), now + self._settings.lookup_wait_s, question)
        return self._finder.look(self._readers.add(message.reader, message.response_id, looking), looking, now)

    def take(self, message: Take) -> list[HostsEffect]:
        """Place the reader where its response was offered."""
        self._readers.add(message.reader, message.response_id, Hosted(self._workers[message.worker]))
        return [Deliver(message.reader, Again())]

    def say(self, message: Say) -> list[HostsEffect]:
        """Pass on what the session says; where it attaches is what a reader that is looking asks for."""
        match self._readers.get(message.reader):
            case Reader(place=Hosted(worker=worker)):
                if isinstance(message.command, Attach):
                    worker.missed.pop(message.reader, None)
                return [worker.tell(message.command)]
            case Reader(place=Looking() as looking):
                if isinstance(message.command, Attach):
                    looking.question = message.command
                if isinstance(message.command, Attach | Pause):
                    return self._finder.ask(looking, message.command)
            case _:
                pass
        return []

    def leave(self, message: Leave) -> list[HostsEffect]:
        """Forget the reader, and have every worker do so that may attach it."""
        for worker in self._workers.values():
            worker.answers_due.pop(message.reader, None)
        reader = self._readers.remove(message.reader)
        return [] if reader is None else self._detach(reader)

    # ---- reports -----------------------------------------------------------------------------------------------------

    def heard(self, worker: Worker, report: ReaderReport, now: float) -> list[HostsEffect]:
        """Take in what a worker says to one or more readers."""
        match report:
            case Records():
                return self._on_records(worker, report)
            case Attached():
                return self._on_attached(worker, report)
            case Rejected():
                return self._on_rejected(worker, report, now)
            case Unknown():
                return self._on_unknown(worker, report.reader, now)
            case Took():
                numbers = {number for response_id in report.response_ids for number in self.readers_of(response_id)}
                return self._attach_all([self._readers[number] for number in sorted(numbers)], worker)

    def _on_records(self, worker: Worker, report: Records) -> list[HostsEffect]:
        """Hand each reader its batch; readers that have left are detached (again)."""
        readers = worker.readers
        known = [batch for batch in report.batches if batch.reader in readers]
        effects: list[HostsEffect] = [Distribute(known)] if known else []
        if len(known) < len(report.batches):
            strangers = [batch.reader for batch in report.batches if batch.reader not in readers]
            # One that is looking may have asked this worker, and must not be detached.
            effects += [worker.tell(Detach(number)) for number in strangers if not self.is_looking(number)]
        return effects

    def _on_attached(self, worker: Worker, report: Attached) -> list[HostsEffect]:
        """The worker has the response. A second one that says so is told to detach."""
        worker.answered(report.reader)
        match self._readers.get(report.reader):
            case Reader(place=Hosted(worker=host)) if host is worker:
                return [Deliver(report.reader, report)]
            case Reader(place=Opening(worker=opener)) as reader if opener is worker:
                return [*self._host(reader, worker), Deliver(report.reader, report)]
            case Reader(place=Looking()) as reader:
                return [*self._host(reader, worker), Deliver(report.reader, report)]
            case _:
                return [worker.tell(Detach(report.reader))]

    def _on_rejected(self, worker: Worker, report: Rejected, now: float) -> list[HostsEffect]:
        worker.answered(report.reader)
        match self._readers.get(report.reader):
            case Reader(place=Opening(worker=opener) as opening) as reader if opener is worker:
                if report.error.code not in (QUEUE_FULL, "engine_unavailable"):
                    return [Deliver(report.reader, Refusal(from_detail(report.error)))]
                self._opener.rejected(opening, worker, report)
                # Asked again, it may have said so the first time, and carried out the second.
                go_on = self._finder.look_before_opening if opening.repeated else self._opener.open
                return go_on(reader, opening, now)
        return []

    def _on_unknown(self, worker: Worker, number: int, now: float) -> list[HostsEffect]:
        is_last = worker.answered(number)
        match self._readers.get(number):
            case Reader(place=Looking() as looking) as reader if is_last:
                return self._finder.unknown(reader, looking, worker, now)
            case Reader(place=Hosted(worker=host)) as reader if host is worker:
                return self._finder.relocate(reader, worker, now)
        return []

    def offered(self, worker: Worker, response_id: str) -> list[HostsEffect] | None:
        """This frontend is to own a response there; None where it needs a reader for it.

        A reader that is there is not known to the worker, or the offer has crossed its `Attach`. One that looks for the
        response, or was having it opened on a worker that died since, has found it.
        """
        readers = [self._readers[number] for number in sorted(self.readers_of(response_id))]
        there = [reader for reader in readers if reader.number in worker.readers]
        if there:
            return [Deliver(there[0].number, Again())]
        return self._attach_all([reader for reader in readers if not isinstance(reader.place, Hosted)], worker) or None

    def _attach_all(self, readers: Iterable[Reader], worker: Worker) -> list[HostsEffect]:
        """The responses of these readers are on this worker now: they attach there from where they are."""
        effects: list[HostsEffect] = []
        for reader in readers:
            effects += self._host(reader, worker)
            effects.append(Deliver(reader.number, Again()))
        return effects

    def _host(self, reader: Reader, worker: Worker) -> list[HostsEffect]:
        """The reader reads there from now on, and nowhere else."""
        effects = self._detach(reader, but=worker)
        self._readers.move(reader, Hosted(worker))
        return effects

    def _detach(self, reader: Reader, but: Worker | None = None) -> list[HostsEffect]:
        """Have all workers forget the reader that attached it, or were asked to and have not answered."""
        match reader.place:
            case Hosted(worker=Worker() as worker) | Opening(worker=Worker() as worker):
                return [] if worker is but else [worker.tell(Detach(reader.number))]
            case Looking() as looking:
                return self._finder.ask(looking, Detach(reader.number), but)
            case _:
                return []

    # ---- time, losses and new arrivals -------------------------------------------------------------------------------

    def say_again(self, worker: Worker, now: float, *, restarted: bool = False) -> list[HostsEffect]:
        """Say to this worker all that should be so: it, or we, may have missed something.

        What a process that is dead was to create is looked for first: its journals may be with another worker. So may
        what is looked for already, and that worker have said `Unknown` before it had them.
        """
        worker.is_to_repeat = True
        worker.answers_due.clear()
        worker.miss(sorted(worker.readers.union(self._looking())), restarted=restarted)
        return self.make_up(worker, now)

    def make_up(self, worker: Worker, now: float) -> list[HostsEffect]:
        """Say to this worker what should be so of the next readers of which it missed something."""
        effects: list[HostsEffect] = [*worker.repeat()] if worker.is_to_repeat else []
        for number in list(islice(worker.missed, _PORTION)):
            restarted = worker.missed.pop(number)
            match self._readers.get(number):
                case Reader(place=Opening(worker=opener) as opening) as reader if opener is worker:
                    look = self._finder.look_before_opening
                    effects += look(reader, opening, now) if restarted else self._opener.repeat(worker, opening)
                case Reader(place=Hosted(worker=host)) if host is worker:
                    effects.append(Deliver(number, Again()))
                case Reader(place=Looking() as looking):
                    ask = self._finder.ask_everybody
                    effects += ask(looking, now) if restarted else self._finder.ask_one(worker, looking)
                case _:
                    effects.append(worker.tell(Detach(number)))
        return effects

    def ask_again(self, worker: Worker) -> None:
        """This worker is to be asked for all that is looked for: it may have some by now, or its word was missed."""
        worker.miss(self._looking())

    def _looking(self) -> list[int]:
        return [reader.number for reader in self._readers.unplaced() if isinstance(reader.place, Looking)]

    def lose(self, worker: Worker, now: float) -> list[HostsEffect]:
        """This worker is silent or has ended: the responses of its next readers may be on another one by now."""
        return self._finder.relocate_all(worker, now, _PORTION)

    def forget(self, worker: Worker, now: float) -> list[HostsEffect]:
        """All that this worker had is gone, unless another one has it."""
        return self._finder.forget(worker, now)

    def undelivered(self, worker: Worker, command: Command, now: float) -> list[HostsEffect]:
        """This could not be queued: it is made up for when the worker is heard, or another one creates the response."""
        worker.unreached = True
        match command:
            case Open(reader=number):
                worker.answered(number)
                return self._opener.undelivered(number, worker, now)
            case Attach(reader=number):
                worker.answered(number)
                worker.miss([number])
            case Pause(reader=number):
                worker.miss([number])
            case Close():
                worker.miss(self.readers_of(command.response_id) & worker.readers)
            case Detach() | Stored() | Release() | Abort() | Delete():
                worker.is_to_repeat = True
            case Hello():
                pass
        return []

    def open_what_it_left(self, worker: Worker, now: float) -> list[HostsEffect]:
        """This worker has ended: another creates what it had not begun."""
        return self._opener.open_what_it_left(worker, now)

    def open_what_died(self, worker: Worker, now: float) -> list[HostsEffect]:
        """This worker is dead and another has what it had begun: look there, and create elsewhere what it had not."""
        effects: list[HostsEffect] = []
        for reader in self._readers.at(worker):
            match reader.place:
                case Opening() as opening:
                    effects += self._finder.look_before_opening(reader, opening, now, worker)
                case _:
                    pass
        return effects

    def open_waiting(self, now: float) -> list[HostsEffect]:
        """Open what waits for a worker, if one can take it now."""
        return self._opener.open_waiting(now)

    def expire(self, now: float) -> list[HostsEffect]:
        """Refuse those whose time is up."""
        effects: list[HostsEffect] = []
        for reader in self._readers.unplaced():
            match reader.place:
                case Looking(until=until) as looking if until <= now:
                    effects.append(self._finder.give_up(reader, looking))
                case Opening(until=until) if until <= now:
                    error = unavailable("No engine worker accepted this request in time.")
                    effects.append(Deliver(reader.number, Refusal(error)))
                case _:
                    pass
        return effects

    def postpone(self, pause_s: float) -> None:
        """Give everybody the time in which this process did not run."""
        for reader in self._readers.unplaced():
            match reader.place:
                case Looking(otherwise=Opening() as opening) as looking:
                    looking.until += pause_s
                    opening.until += pause_s
                case Looking() | Opening() as place:
                    place.until += pause_s
                case Hosted():
                    pass
