"""What a frontend knows of each engine worker. Pure: no sockets, no clock."""

import itertools
from collections.abc import Collection, Iterable
from math import inf
from typing import Final

from frontend.config import Settings
from frontend.messages import Send
from protocol.codec import VERSION
from protocol.commands import Abort, Attach, Command, Delete, Detach, Hello, Open, Release, Stored
from protocol.reports import ModelCard, Status

_UNCONFIRMED_MAX: Final = 10_000
"""Past it the oldest are forgotten; a worker that is heard confirms within two heartbeats."""


class Worker:
    """One worker by its socket's name, across its restarts, as its reports show it.

    `now` is in seconds by a monotonic clock throughout.
    """

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.found_at = now
        self.heard_at: float | None = None
        self.incarnation: str | None = None
        self.status: Status | None = None
        self.models: tuple[ModelCard, ...] = ()
        """What it serves, or served before it was restarted."""
        self.received = 0
        """Messages received since its `Welcome`, that one not counted."""
        self.sent = 0
        """Commands sent to this incarnation; what could not be queued is not counted."""
        self.unconfirmed: dict[Command, int] = {}
        """Commands that no reader says again, until the worker confirms the count that each made; in that order."""
        self.is_to_repeat = False
        """Whether one of these could not be queued."""
        self.answers_due: dict[int, int] = {}
        """By reader, how many of its `Open`s and `Attach`es are not answered yet, since the last loss."""
        self.opened = 0
        """Responses we sent it since its last `Status`, which can't have counted them."""
        self.missed: dict[int, bool] = {}
        """Readers of which it is to be told something (again), in this order; whether it was restarted since."""
        self.has_more = False
        """Whether it is lost, and some of its readers do not look for their responses yet."""
        self.unreached = False
        """Whether that was so since its last `Status`: it may be dead, so creates go elsewhere or wait."""
        self.ended = False
        """Whether it said `Goodbye` and has not come back."""
        self.ready_at = -inf
        """When it last said that it is ready."""
        self.refusal: str | None = None
        """Why it won't speak with us, when it won't."""
        self.lost = True
        """Whether it counted as lost when last looked at; for the log."""
        self.readers: set[int] = set()
        """Readers it hosts, or was asked to open; `Readers` keeps them."""
        self.queue: dict[int, int] = {}
        """Place in its queue, by reader; 1 is next."""

    def __repr__(self) -> str:
        phase = self.status.phase if self.status else "unknown"
        return f"<Worker {self.name} {phase}, {len(self.readers)} readers, received {self.received}>"

    def silent_s(self, now: float) -> float:
        """Seconds since it was last heard, or found when it never was."""
        return now - (self.found_at if self.heard_at is None else self.heard_at)

    def is_lost(self, now: float, settings: Settings) -> bool:
        """Whether nothing new may be sent there: never heard, ended, or silent for too long."""
        return self.heard_at is None or self.ended or self.silent_s(now) > settings.worker_lost_after_s

    def is_registered(self, now: float, settings: Settings) -> bool:
        """Whether its word is needed before a response can be called unknown."""
        return self.refusal is None and self.silent_s(now) <= settings.worker_wait_s

    def is_ready(self, now: float, settings: Settings) -> bool:
        """Whether it takes new responses."""
        return (
            not self.is_lost(now, settings)
            and self.incarnation is not None
            and self.status is not None
            and self.status.phase == "ready"
        )

    def is_returning(self, now: float, settings: Settings) -> bool:
        """Whether it was ready a moment ago and has gone without saying that it would: most likely, it is restarted."""
        if self.refusal is not None or (self.status is not None and self.status.phase == "draining"):
            return False
        is_away = self.unreached or not self.is_ready(now, settings)
        return is_away and now - self.ready_at <= settings.open_wait_s

    @property
    def is_loading(self) -> bool:
        """Whether its engine is not there yet: what it hosts by then comes from its journals, and waits for it."""
        return self.status is not None and self.status.phase == "loading"

    @property
    def is_settled(self) -> bool:
        """Whether it has taken over what dead workers had left, so that it has what it is to have."""
        return self.status is not None and self.status.phase != "loading"

    def is_owed(self, now: float, settings: Settings) -> bool:
        """Whether it is to be told more that it has missed, and can be now."""
        reachable = self.incarnation is not None and not self.unreached and not self.is_lost(now, settings)
        return reachable and bool(self.missed)

    def is_undecided(self, now: float, settings: Settings) -> bool:
        """Whether it was found, or welcomed us, so recently that it may yet turn out to be ready."""
        return self.status is None and self.silent_s(now) <= settings.lookup_wait_s and not self.ended

    def forgive(self, pause_s: float, now: float) -> None:
        """Do not count a time in which this process itself did not run."""
        self.found_at = min(now, self.found_at + pause_s)
        self.ready_at = min(now, self.ready_at + pause_s)
        if self.heard_at is not None:
            self.heard_at = min(now, self.heard_at + pause_s)

    def serves(self, model: str) -> bool:
        """Whether it answers to this model name or alias."""
        return any(model == card.name or model in card.aliases for card in self.models)

    @property
    def retry_after_s(self) -> int:
        """In how many seconds its queue has room again, as far as is known by its last `Status`; 0: it has."""
        return self.status.retry_after_s if self.status is not None else 0

    def tell(self, command: Command) -> Send:
        """Say something to it as it is known now; should it have been restarted, it will not be carried out."""
        self.sent += 1
        match command:
            case Detach() | Abort() | Delete() | Stored() | Release():
                self.unconfirmed.pop(command, None)
                self.unconfirmed[command] = self.sent
                if len(self.unconfirmed) > _UNCONFIRMED_MAX:
                    del self.unconfirmed[next(iter(self.unconfirmed))]
            case Open(reader=reader) | Attach(reader=reader):  # From here on the reader may be there, and is to stay.
                self.unconfirmed.pop(Detach(reader), None)
                self.answers_due[reader] = self.answers_due.get(reader, 0) + 1
            case _:
                pass
        return Send(self.name, self.incarnation or "", command)

    def answered(self, reader: int) -> bool:
        """It has answered for this reader; returns whether that is its answer to what it was asked last.

        Answers come in the order of the questions; an earlier one says what was so before.
        """
        due = self.answers_due.pop(reader, 1) - 1
        if due > 0:
            self.answers_due[reader] = due
        return due <= 0

    def hello(self, frontend_id: str) -> Send:
        """What it is told with every beat."""
        return Send(self.name, self.incarnation or "", Hello(VERSION, frontend_id, self.sent))

    def miss(self, numbers: Iterable[int], *, restarted: bool = False) -> None:
        """It is to be told of these readers, after those that wait for that already."""
        for number in numbers:
            self.missed[number] = restarted or self.missed.get(number, False)

    def repeat(self) -> list[Send]:
        """Say again what no reader does, in its order."""
        self.is_to_repeat = False
        return [self.tell(command) for command in list(self.unconfirmed)]

    def confirm(self, sent: int) -> None:
        """It has received so many commands, and none was lost."""
        confirmed = list(itertools.takewhile(lambda command: self.unconfirmed[command] <= sent, self.unconfirmed))
        for command in confirmed:
            del self.unconfirmed[command]

    def load(self) -> int:
        """Responses it works on, as far as we know."""
        return self.opened + (self.status.running + self.status.waiting if self.status else 0)


def models_served(workers: Iterable[Worker], now: float, settings: Settings) -> list[ModelCard]:
    """What the workers that are not lost serve, each model once, by name."""
    cards = {card.name: card for worker in workers if not worker.is_lost(now, settings) for card in worker.models}
    return [cards[name] for name in sorted(cards)]


def served_names(cards: Iterable[ModelCard]) -> list[str]:
    """All names these models answer to."""
    return [name for card in cards for name in (card.name, *card.aliases)]


def why_unready(workers: Collection[Worker], now: float, settings: Settings) -> str | None:
    """Why no worker takes a new response, or None when one does."""
    if any(worker.is_ready(now, settings) for worker in workers):
        return None
    phases = {worker.status.phase for worker in workers if worker.status and not worker.is_lost(now, settings)}
    if "loading" in phases:
        return "The model is being loaded."
    if "draining" in phases:
        return "The engine worker is stopping."
    for worker in workers:
        if worker.refusal is not None:
            return f"The engine worker refuses this frontend: {worker.refusal}"
    return "No engine worker is running."
