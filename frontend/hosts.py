"""Which workers there are, who is alive, and which of them hosts which response: decisions, no sockets and no clock.

Theory of operation
    `Hosts.handle(message, now)` takes what happened and returns what to do. Workers are known by the names of their
    sockets in the run directory; each gets a `Hello` with every `Beat`, which is registration and heartbeat in one.

        found ── Welcome ──► acquainted ── Status ──► ready | loading | draining
          any report: heard now     silent for worker_lost_after_s: lost, gets nothing new, its sessions look elsewhere
          Goodbye, or another worker's word that it is dead: lost at once
                                  silent for worker_wait_s: not registered, its sessions have lost their logs

    After every `Welcome`, and whenever messages may have been lost in either direction (`Status.sent`, `Missed`,
    `Undelivered`), all that should be so is said again: opens and questions not yet answered, each hosted session is
    told to attach `Again` from where it is, a portion of all that with each `Beat`, and what else the worker has not
    confirmed (`Status.confirmed`) is repeated. What a worker that ended or died had is found again in its journals: by
    itself, when it is back, or by another worker, which says so (`Took`) or is asked. Only when all say `Unknown`, or
    after `worker_wait_s`, is a session told that its log is `Lost`.

    Where each reader is read, and how a worker is chosen, is in `placement.py`.
"""

from frontend.config import Settings
from frontend.messages import (
    Adopt,
    Beat,
    Connect,
    Create,
    Disconnect,
    Erase,
    Find,
    Heard,
    HostsEffect,
    HostsInput,
    Leave,
    Note,
    Say,
    Silence,
    Take,
    Undelivered,
)
from frontend.placement import Placement
from frontend.routing import Affinity
from frontend.workers import Worker, models_served, why_unready
from protocol.codec import VERSION
from protocol.commands import Delete, Hello
from protocol.reports import (
    Attached,
    Goodbye,
    Missed,
    ModelCard,
    Offered,
    Records,
    Refused,
    Rejected,
    Report,
    Stale,
    Status,
    Took,
    Unknown,
    Welcome,
)


class Hosts:
    """All workers and readers of this frontend. `now` is in seconds by a monotonic clock throughout."""

    def __init__(self, frontend_id: str, settings: Settings) -> None:
        self._workers: dict[str, Worker] = {}
        self._placement = Placement(self._workers, settings)
        self._frontend_id = frontend_id
        self._settings = settings
        self._beat_at: float | None = None

    def __repr__(self) -> str:
        return f"<Hosts {list(self._workers.values())} {self._placement}>"

    # ---- questions ---------------------------------------------------------------------------------------------------

    def silence_of(self, reader: int, now: float) -> Silence:
        """What is known of the worker of a reader that hears nothing."""
        worker = self._placement.host_of(reader)
        if worker is None:
            return Silence()
        away_s = worker.silent_s(now) if worker.is_lost(now, self._settings) else None
        return Silence(away_s, worker.queue.get(reader), worker.is_loading, self._placement.is_looking(reader))

    def worker_of(self, reader: int) -> str | None:
        """The name of the worker that hosts this reader, where one does."""
        worker = self._placement.host_of(reader)
        return None if worker is None else worker.name

    def host_for(self, model: str, affinity: Affinity, token: str, now: float) -> str:
        """The name of the worker that is to have a new response, as things are; empty where none is ready."""
        worker = self._placement.host_for(model, affinity, token, now)
        return "" if worker is None else worker.name

    def retry_after_s(self, model: str, now: float) -> int:
        """In how many seconds a new response of the model may be tried; 0: now."""
        return self._placement.retry_after_s(model, now)

    def is_alone(self, reader: int, response_id: str) -> bool:
        """Whether no other reader of this frontend reads this response."""
        return self._placement.readers_of(response_id) <= {reader}

    def workers(self) -> list[Worker]:
        """All workers there are, to be looked at."""
        return list(self._workers.values())

    def readers_of(self, response_id: str) -> int:
        """How many readers this response has here."""
        return len(self._placement.readers_of(response_id))

    def models(self, now: float) -> list[ModelCard]:
        """What the workers that are not lost serve, each model once, by name."""
        return models_served(self._workers.values(), now, self._settings)

    def why_unready(self, now: float) -> str | None:
        """Why no worker takes a new response, or None when one does."""
        return why_unready(self._workers.values(), now, self._settings)

    def is_expecting(self, now: float) -> bool:
        """Whether a worker was just found, or more is to be said to one, so that the next `Beat` should come soon."""
        return any(
            worker.is_undecided(now, self._settings) or worker.has_more or worker.is_owed(now, self._settings)
            for worker in self._workers.values()
        )

    # ---- handle ------------------------------------------------------------------------------------------------------

    def handle(self, message: HostsInput, now: float) -> list[HostsEffect]:
        """Take in what happened; returns what to do, in order."""
        match message:
            case Heard():
                worker = self._workers.get(message.worker)
                return self._on_heard(worker, message.report, now) if worker else []
            case Say():
                return self._placement.say(message)
            case Leave():
                return self._placement.leave(message)
            case Create():
                return self._placement.create(message, now)
            case Find():
                return self._placement.find(message, now)
            case Take():
                return self._placement.take(message)
            case Erase():
                acquainted = [worker for worker in self._workers.values() if worker.incarnation is not None]
                return [worker.tell(Delete(message.response_id)) for worker in acquainted]
            case Undelivered():
                return self._on_undelivered(message, now)
            case Beat():
                return self._on_beat(message, now)

    def _on_heard(self, worker: Worker, report: Report, now: float) -> list[HostsEffect]:
        worker.heard_at = now
        worker.received += 1
        match report:
            case Records() | Attached() | Rejected() | Unknown():
                return self._placement.heard(worker, report, now)
            case Took():
                return self._on_took(worker, report, now)
            case Status():
                return self._on_status(worker, report, now)
            case Offered():
                return self._on_offered(worker, report)
            case Welcome():
                return self._on_welcome(worker, report, now)
            case Stale():
                return [worker.hello(self._frontend_id)]
            case Missed():
                return self._placement.say_again(worker, now)
            case Goodbye():
                return self._on_goodbye(worker, report, now)
            case Refused():
                return self._on_refused(worker, report)

    # ---- reports about the worker itself -----------------------------------------------------------------------------

    def _on_welcome(self, worker: Worker, report: Welcome, now: float) -> list[HostsEffect]:
        restarted = worker.incarnation not in (None, report.incarnation)
        if worker.incarnation != report.incarnation:
            worker.sent = 0
        worker.incarnation, worker.received, worker.status = report.incarnation, 0, None
        worker.ended = worker.lost = worker.unreached = worker.has_more = False
        worker.refusal = None
        return self._placement.say_again(worker, now, restarted=restarted)

    def _on_status(self, worker: Worker, report: Status, now: float) -> list[HostsEffect]:
        effects: list[HostsEffect] = []
        if worker.lost or worker.status is None or worker.status.phase != report.phase:
            effects.append(Note(f"worker {worker.name} is {report.phase}"))
        gap = report.sent != worker.received
        may_know_more = worker.lost or (worker.is_loading and report.phase != "loading")
        worker.received, worker.unreached, worker.lost, worker.has_more = report.sent, False, False, False
        worker.status, worker.opened = report, 0
        if report.phase == "ready":
            worker.ready_at = now
        worker.models = report.models or worker.models
        worker.queue = {place.reader: place.position for place in report.queue}
        if gap:
            effects += self._placement.say_again(worker, now)
        else:
            if may_know_more:
                self._placement.ask_again(worker)
            effects += self._placement.make_up(worker, now)
            worker.confirm(report.confirmed)
        return effects + self._placement.open_waiting(now)

    def _on_offered(self, worker: Worker, report: Offered) -> list[HostsEffect]:
        effects = self._placement.offered(worker, report.response_id)
        return [Adopt(worker.name, report.response_id)] if effects is None else effects

    def _on_took(self, worker: Worker, report: Took, now: float) -> list[HostsEffect]:
        effects = self._placement.heard(worker, report, now)
        for former in self._workers.values():
            if report.dead and former.incarnation == report.dead:
                if not former.ended:
                    effects.append(Note(f"worker {former.name} is dead: {worker.name} has what it left"))
                former.ended = former.lost = True
                effects += self._placement.open_what_died(former, now)
        return effects

    def _on_goodbye(self, worker: Worker, report: Goodbye, now: float) -> list[HostsEffect]:
        worker.ended = worker.lost = True
        effects: list[HostsEffect] = [Note(f"worker {worker.name} ends: {report.reason}")]
        if report.sent == worker.received:  # else it may have opened what we think it has not
            effects += self._placement.open_what_it_left(worker, now)
        return effects

    def _on_refused(self, worker: Worker, report: Refused) -> list[HostsEffect]:
        if worker.refusal is not None:
            return []
        worker.refusal = report.message
        return [Note(f"worker {worker.name} does not speak protocol version {VERSION}: {report.message}")]

    def _on_undelivered(self, message: Undelivered, now: float) -> list[HostsEffect]:
        worker = self._workers.get(message.worker)
        if worker is None or isinstance(message.command, Hello):
            return []  # it will be lost by its silence
        worker.sent -= 1
        return self._placement.undelivered(worker, message.command, now)

    # ---- the timer ---------------------------------------------------------------------------------------------------

    def _on_beat(self, message: Beat, now: float) -> list[HostsEffect]:
        self._forgive_own_pause(now)
        effects: list[HostsEffect] = []
        for name in sorted(message.sockets - self._workers.keys()):
            self._workers[name] = Worker(name, now)
            effects.append(Connect(name))
        # First, while what was sent is counted: what follows may turn out to be undelivered, which is known only then.
        effects += [worker.hello(self._frontend_id) for worker in self._workers.values()]
        for worker in list(self._workers.values()):
            effects += self._judge(worker, now)
            if worker.name not in message.sockets and not worker.is_registered(now, self._settings):
                del self._workers[worker.name]
                effects.append(Disconnect(worker.name))
        return effects + self._placement.expire(now) + self._placement.open_waiting(now)

    def _forgive_own_pause(self, now: float) -> None:
        """Let nobody be judged for a time in which this process did not run (SIGSTOP, a sleeping machine)."""
        interval = self._settings.heartbeat_interval_s
        pause_s = 0.0 if self._beat_at is None else now - self._beat_at - interval
        self._beat_at = now
        if pause_s > interval:
            for worker in self._workers.values():
                worker.forgive(pause_s, now)
            self._placement.postpone(pause_s)

    def _judge(self, worker: Worker, now: float) -> list[HostsEffect]:
        effects: list[HostsEffect] = []
        if not worker.lost and worker.is_lost(now, self._settings):
            worker.lost = True
            effects.append(Note(f"worker {worker.name} is lost: silent for {worker.silent_s(now):.1f} s"))
        if not worker.is_registered(now, self._settings):
            effects += self._placement.forget(worker, now)
        elif worker.is_lost(now, self._settings):
            effects += self._placement.lose(worker, now)
        elif worker.is_owed(now, self._settings):
            effects += self._placement.make_up(worker, now)
        return effects
