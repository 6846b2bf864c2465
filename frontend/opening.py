"""Which worker gets a new response, and when it waits for one. Decisions only, as part of `Placement`.

Theory of operation
    A create goes to a ready worker that serves its model. One that surely made nothing there (it could not be queued,
    or was rejected because the engine is not ready, or its worker said `Goodbye` and nothing that it said before was
    lost) goes to another. While there is none it waits, as long as one may come: a worker that was just found, or one
    that was ready a moment ago and has gone without saying that it would, so that it is most likely being restarted.
    Otherwise it is refused at once, and in any case at its `until`.

    A worker whose queue is full refuses it, or has said in its `Status` that it would. Then another gets it, and if
    none has room it is refused (429): nothing waits for room. Two exceptions: what was accepted before, as its `Open`
    says, is never refused; and what may exist already goes to one worker only, for another could run it twice.

    One that was queued stays with its worker until answered: another could run it twice. Where messages were lost it is
    asked again, and its rejection may be the answer to either: then all workers are asked whether they have it.
"""

from collections.abc import Iterable, Mapping

import msgspec

from frontend.api.errors import QUEUE_FULL, ApiError, model_not_found, queue_full, unavailable
from frontend.config import Settings
from frontend.messages import Deliver, HostsEffect, Refusal
from frontend.readers import Opening, Reader, Readers
from frontend.routing import Affinity, by_rendezvous, choose, choose_by_id
from frontend.workers import Worker, models_served, served_names, why_unready
from protocol.reports import Rejected


class Opener:
    """Moves readers between workers as long as their place is `Opening`."""

    def __init__(self, workers: Mapping[str, Worker], readers: Readers, settings: Settings) -> None:
        self._workers = workers
        self._readers = readers
        self._settings = settings

    def open(self, reader: Reader, opening: Opening, now: float) -> list[HostsEffect]:
        """Ask a worker to create it, if there is one; else wait or refuse."""
        create, candidates = opening.create, self._candidates(opening, now)
        if create.joins and opening.retry_after_s:
            worker = None
        elif create.joins:
            worker = by_rendezvous(candidates, reader.response_id)
        else:
            roomy = [worker for worker in candidates if create.open.accepted or not worker.retry_after_s]
            worker = choose_by_id(roomy, reader.response_id, self._settings.affinity_load_factor)
        self._readers.move(reader, msgspec.structs.replace(opening, worker=worker, repeated=False))
        if worker is not None:
            worker.opened += 1
            return [worker.tell(create.open)]
        if retry_after_s := _shortest([opening.retry_after_s, *(each.retry_after_s for each in candidates)]):
            return [Deliver(reader.number, Refusal(queue_full(create.model, retry_after_s)))]
        if self._may_come(create.model, now):
            return []
        return [Deliver(reader.number, Refusal(self._nobody_for(create.model, now)))]

    def rejected(self, opening: Opening, worker: Worker, report: Rejected) -> None:
        """Note that this worker takes nothing now, or has no room, so that it is not asked to create this one again."""
        opening.tried[worker.name] = worker.incarnation or ""
        if report.error.code == QUEUE_FULL:
            opening.retry_after_s = _shortest([opening.retry_after_s, report.retry_after_s]) or 1

    def repeat(self, worker: Worker, opening: Opening) -> list[HostsEffect]:
        """Ask the same worker again, which may have carried it out already."""
        opening.repeated = True
        return [worker.tell(opening.create.open)]

    def undelivered(self, number: int, worker: Worker, now: float) -> list[HostsEffect]:
        """This worker could not be asked: let another, or the same one later, unless it had been asked before."""
        match self._readers.get(number):
            case Reader(place=Opening(worker=opener, repeated=True)) if opener is worker:
                worker.miss([number])
            case Reader(place=Opening(worker=opener) as opening) as reader if opener is worker:
                return self.open(reader, opening, now)
            case _:
                pass
        return []

    def open_what_it_left(self, worker: Worker, now: float) -> list[HostsEffect]:
        """This worker has ended with some creates unanswered: another takes them, or they wait until it is back.

        One that was asked again, or is to be, because an answer may have been lost, waits: its journal may be there.
        """
        effects: list[HostsEffect] = []
        for reader in self._readers.at(worker):
            match reader.place:
                case Opening(repeated=False) as opening if reader.number not in worker.missed:
                    effects += self.open(reader, opening, now) if self._candidates(opening, now) else []
                case _:
                    pass
        return effects

    def open_waiting(self, now: float) -> list[HostsEffect]:
        """Open what waits for a worker, if one can take it now."""
        effects: list[HostsEffect] = []
        for reader in self._readers.unplaced():
            match reader.place:
                case Opening(worker=None) as opening:
                    effects += self.open(reader, opening, now)
                case _:
                    pass
        return effects

    def host_for(self, model: str, affinity: Affinity, token: str, now: float) -> Worker | None:
        """The worker that is to have a new response (see `choose`), as things are."""
        ready = self._ready(model, now)
        roomy = [worker for worker in ready if not worker.retry_after_s]
        return choose(roomy or ready, affinity, token, self._settings.affinity_load_factor)

    def retry_after_s(self, model: str, now: float) -> int:
        """In how many seconds the first of the model's workers has room again; 0: one has, or none is ready."""
        waits = [worker.retry_after_s for worker in self._ready(model, now)]
        return _shortest(waits) if all(waits) else 0

    def _ready(self, model: str, now: float) -> list[Worker]:
        return [
            worker
            for worker in self._workers.values()
            if worker.is_ready(now, self._settings) and not worker.unreached and worker.serves(model)
        ]

    def _candidates(self, opening: Opening, now: float) -> list[Worker]:
        ready = self._ready(opening.create.model, now)
        return [worker for worker in ready if opening.tried.get(worker.name) != worker.incarnation]

    def _may_come(self, model: str, now: float) -> bool:
        """Whether a worker that is not there yet, or not now, may take a response of this model soon."""
        return any(
            worker.is_undecided(now, self._settings)
            or (worker.serves(model) and worker.is_returning(now, self._settings))
            for worker in self._workers.values()
        )

    def _nobody_for(self, model: str, now: float) -> ApiError:
        """Why no worker takes a new response of this model."""
        if reason := why_unready(self._workers.values(), now, self._settings):
            return unavailable(reason)
        if any(worker.serves(model) for worker in self._workers.values()):
            return unavailable(f"No engine worker that serves '{model}' is ready.")
        served = models_served(self._workers.values(), now, self._settings)
        return model_not_found(model, served_names(served))


def _shortest(waits_s: Iterable[int]) -> int:
    """The shortest of these waits, 0 being none."""
    return min(filter(None, waits_s), default=0)
