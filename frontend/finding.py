"""Asking all workers for a response: one that a client wants to read, and one whose worker is gone. Decisions only.

Theory of operation
    Whoever attaches the reader hosts it from then on (`Placement`). `Unknown` is a worker's last word unless it was
    asked again meanwhile (`Worker.answered`), or is loading: before it is ready it takes over what dead workers of its
    model left, and so it is asked again then. What a ready worker takes over later it tells by `Took`. Because that
    report may be lost, or be sent before we are acquainted, a worker is asked for all that is looked for whenever
    messages were lost or it had been silent, and after every `Welcome`; after that of a new process, all workers are:
    `Took` may be slower than the new one is.

    Three kinds of readers look, and differ in what follows when nobody has the response, and for how long they wait:
        new, for a response that should exist       not found; refused after `lookup_wait_s`
        new, for one that is to be created          it is opened; refused after `lookup_wait_s`, or, where it had been
                                                    queued to a worker that was restarted, when its opening is given up
        formerly hosted                             its session has lost it, also `worker_wait_s` after its worker was
                                                    last heard; asked from the offset at which the session is
"""

from collections.abc import Mapping

from frontend.api.errors import unavailable
from frontend.config import Settings
from frontend.messages import Again, Deliver, HostsEffect, Lost, Refusal
from frontend.opening import Opener
from frontend.readers import Hosted, Looking, Opening, Reader, Readers
from frontend.workers import Worker
from protocol.commands import Attach, Command
from protocol.records import ErrorDetail

_LOST = Lost(
    ErrorDetail("server_error", "engine_lost", "The engine worker of this response is gone, and no other one has it.")
)


class Finder:
    """Asks for readers as long as their place is `Looking`."""

    def __init__(self, workers: Mapping[str, Worker], readers: Readers, opener: Opener, settings: Settings) -> None:
        self._workers = workers
        self._readers = readers
        self._opener = opener
        self._settings = settings

    def registered(self, now: float) -> set[str]:
        """Names of the workers whose word is needed before a response can be called unknown."""
        return {worker.name for worker in self._workers.values() if worker.is_registered(now, self._settings)}

    # ---- who looks ---------------------------------------------------------------------------------------------------

    def look(self, reader: Reader, looking: Looking, now: float) -> list[HostsEffect]:
        """Ask the workers awaited; a reader without a question has its session say it first."""
        self._readers.move(reader, looking)
        if not looking.awaited:
            return self._found_nowhere(reader, looking, now)
        if looking.question is None:
            return [Deliver(reader.number, Again())]
        return self.ask(looking, looking.question)

    def look_before_opening(
        self, reader: Reader, opening: Opening, now: float, dead: Worker | None = None
    ) -> list[HostsEffect]:
        """The process that was to create it is gone: whoever took over its journals may have it.

        That is not the worker known to be `dead`.
        """
        question = Attach(reader.number, reader.response_id, 0, client=True)
        awaited = self.registered(now) - ({dead.name} if dead else set())
        return self.look(reader, Looking(awaited, opening, opening.until, question), now)

    def relocate(self, reader: Reader, former: Worker, now: float) -> list[HostsEffect]:
        """The worker that hosts it says that it does not: look everywhere else."""
        looking = Looking(self.registered(now), _LOST, now + self._settings.worker_wait_s, former=former)
        if self._is_last_word(former, looking):
            looking.awaited.discard(former.name)
        return self.look(reader, looking, now)

    def relocate_all(self, former: Worker, now: float, most: int | None = None) -> list[HostsEffect]:
        """The worker is lost: look everywhere for what it hosts, there too, for it may only have been silent.

        For `most` of its readers at a time; the others stay where they are, and it `has_more`.
        """
        effects: list[HostsEffect] = []
        until = now - former.silent_s(now) + self._settings.worker_wait_s
        hosted = [reader for reader in self._readers.at(former) if isinstance(reader.place, Hosted)]
        former.has_more = most is not None and len(hosted) > most
        for reader in hosted[:most]:
            effects += self.look(reader, Looking(self.registered(now), _LOST, until, former=former), now)
        return effects

    # ---- questions and answers ---------------------------------------------------------------------------------------

    def ask(self, looking: Looking, command: Command, but: Worker | None = None) -> list[HostsEffect]:
        """Say this to the workers awaited; those that do not know us yet are asked after their `Welcome`."""
        awaited = (self._workers[name] for name in sorted(looking.awaited))
        return [worker.tell(command) for worker in awaited if worker.incarnation is not None and worker is not but]

    def ask_one(self, worker: Worker, looking: Looking) -> list[HostsEffect]:
        """Ask this worker (again), and wait for its answer."""
        looking.awaited.add(worker.name)
        return [] if looking.question is None else [worker.tell(looking.question)]

    def ask_everybody(self, looking: Looking, now: float) -> list[HostsEffect]:
        """Ask all registered workers (again): what they said is no longer their last word."""
        looking.awaited |= self.registered(now)
        return [] if looking.question is None else self.ask(looking, looking.question)

    def unknown(self, reader: Reader, looking: Looking, worker: Worker, now: float) -> list[HostsEffect]:
        """The worker does not have the response."""
        return self._drop(reader, looking, worker, now) if self._is_last_word(worker, looking) else []

    def forget(self, worker: Worker, now: float) -> list[HostsEffect]:
        """The worker is not registered any more: go on without it."""
        effects = self.relocate_all(worker, now)
        for reader in self._readers.at(worker):
            if isinstance(reader.place, Opening):
                effects += self.look_before_opening(reader, reader.place, now)
        for reader in self._readers.unplaced():
            match reader.place:
                case Looking(awaited=awaited) as looking if worker.name in awaited:
                    effects += self._drop(reader, looking, worker, now)
                case _:
                    pass
        return effects

    def give_up(self, reader: Reader, looking: Looking) -> HostsEffect:
        """Not everybody has spoken in time."""
        if isinstance(looking.otherwise, Lost):
            return Deliver(reader.number, looking.otherwise)
        silent = len(looking.awaited)
        message = f"Not all engine workers said whether they have this response; {silent} did not."
        return Deliver(reader.number, Refusal(unavailable(message)))

    def _is_last_word(self, worker: Worker, looking: Looking) -> bool:
        """Whether `Unknown` from this worker is final.

        A new id can't be among what a loading worker takes over: only a worker that we know can have had it since.
        """
        is_new = isinstance(looking.otherwise, Opening) and not looking.otherwise.create.joins
        return is_new or worker.is_settled

    def _drop(self, reader: Reader, looking: Looking, worker: Worker, now: float) -> list[HostsEffect]:
        looking.awaited.discard(worker.name)
        return [] if looking.awaited else self._found_nowhere(reader, looking, now)

    def _found_nowhere(self, reader: Reader, looking: Looking, now: float) -> list[HostsEffect]:
        match looking.otherwise:
            case Opening() as opening:
                return self._opener.open(reader, opening, now)
            case Refusal() | Lost() as verdict:
                return [Deliver(reader.number, verdict)]
