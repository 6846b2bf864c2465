"""A `Hosts` on the bench: its clock is turned by the test, which speaks for the workers too."""

from collections.abc import Sequence
from typing import TypeVar

from frontend.api.errors import ApiError
from frontend.config import Settings
from frontend.hosts import Hosts
from frontend.messages import (
    Beat,
    Create,
    Deliver,
    Distribute,
    Find,
    Heard,
    HostsEffect,
    HostsInput,
    Lost,
    Refusal,
    Say,
    Send,
)
from protocol.commands import Attach, Command, Open
from protocol.records import ErrorDetail
from protocol.reports import (
    Attached,
    Goodbye,
    ModelCard,
    Phase,
    QueuePlace,
    Report,
    Status,
    Unknown,
    Welcome,
)

SETTINGS = Settings()
MODEL = ModelCard("demo", ("alias",))
CommandKind = TypeVar("CommandKind", bound=Command)
UNREADY = ErrorDetail("server_error", "engine_unavailable", "loading")


class Bench:
    """A `Hosts` with a clock that the test turns, and the workers' side of the conversation."""

    def __init__(self, *workers: str) -> None:
        self.hosts = Hosts("f0", SETTINGS)
        self.now = 100.0
        self.sockets = frozenset(workers)
        self.sent = dict.fromkeys(workers, 0)
        self.beat()
        for worker in workers:
            self.welcome(worker)
            self.status(worker)

    def do(self, message: HostsInput) -> list[HostsEffect]:
        return self.hosts.handle(message, self.now)

    def beat(self, after_s: float = 0.0) -> list[HostsEffect]:
        self.now += after_s
        return self.do(Beat(self.sockets))

    def wait(self, seconds: float, *alive: str) -> list[HostsEffect]:
        """Let time pass, beat by beat, with a Status from the workers that are alive."""
        effects = []
        for _ in range(round(seconds / SETTINGS.heartbeat_interval_s)):
            effects += self.beat(SETTINGS.heartbeat_interval_s)
            for worker in alive:
                effects += self.status(worker)
        return effects

    def hear(self, worker: str, report: Report) -> list[HostsEffect]:
        self.sent[worker] += 1
        return self.do(Heard(worker, report))

    def welcome(self, worker: str, incarnation: str = "") -> list[HostsEffect]:
        """By the same process as before, or, with an incarnation, by its successor."""
        effects = self.do(Heard(worker, Welcome(worker, incarnation or f"first {worker}", 1)))
        self.sent[worker] = 0
        return effects

    def goodbye(self, worker: str, lost: int = 0) -> list[HostsEffect]:
        return self.hear(worker, Goodbye("stopped", self.sent[worker] + 1 + lost))

    def status(
        self, worker: str, phase: Phase = "ready", running: int = 0, queue: tuple[QueuePlace, ...] = (), lost: int = 0
    ) -> list[HostsEffect]:
        self.sent[worker] += 1 + lost
        status = Status(phase, self.sent[worker], running=running, models=(MODEL,), queue=queue)
        return self.do(Heard(worker, status))

    def confirm(self, worker: str, sent: int) -> list[HostsEffect]:
        """Of so many commands none was lost."""
        return self.hear(worker, Status("ready", self.sent[worker] + 1, models=(MODEL,), confirmed=sent))

    def create(
        self, reader: int, response_id: str = "", model: str = "demo", *, joins: bool = False
    ) -> list[HostsEffect]:
        command = Open(reader, response_id or f"resp_{reader}", 1, b"{}")
        return self.do(Create(command, model, joins))

    def attach(self, reader: int, response_id: str = "resp_x", offset: int = 5) -> list[HostsEffect]:
        """Have a session that was told `Again` say where it is."""
        return self.do(Say(reader, Attach(reader, response_id, offset, True)))

    def host(self, reader: int, response_id: str, worker: str) -> None:
        """Bring a reader to where a worker hosts it."""
        self.do(Find(reader, response_id, True))
        self.hear(worker, Attached(reader, 3))
        for other in self.sockets - {worker}:
            self.hear(other, Unknown(reader))


def sends(effects: Sequence[HostsEffect], kind: type[CommandKind]) -> list[tuple[str, CommandKind]]:
    """The commands of this kind that are to be sent, with their workers."""
    return [
        (each.worker, each.command) for each in effects if isinstance(each, Send) and isinstance(each.command, kind)
    ]


def told(effects: Sequence[HostsEffect]) -> list[tuple[int, object]]:
    """What sessions are told, with their readers."""
    found: list[tuple[int, object]] = []
    for effect in effects:
        match effect:
            case Deliver():
                found.append((effect.reader, effect.message))
            case Distribute():
                found += [(batch.reader, batch) for batch in effect.batches]
            case _:
                pass
    return found


def refusal(effects: Sequence[HostsEffect]) -> ApiError:
    """The error of the one refusal."""
    [(_, message)] = told(effects)
    assert isinstance(message, Refusal)
    return message.error


def lost(effects: Sequence[HostsEffect]) -> list[int]:
    """The readers whose sessions are told that their log is lost."""
    return [reader for reader, message in told(effects) if isinstance(message, Lost)]
