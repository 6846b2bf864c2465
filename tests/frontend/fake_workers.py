"""Workers without processes: journals that one of them has at a time, and the rules by which they answer frontends.

For simulations: all is called by the test, `send` carries reports away, and nothing happens by itself.
"""

import random
from collections.abc import Callable, Iterable

import msgspec

from protocol.codec import encode_record
from protocol.commands import Addressed, Attach, Close, Command, Detach, Hello, Open, Pause
from protocol.records import (
    Closed,
    ErrorDetail,
    Opened,
    OwnerGranted,
    Record,
    Step,
    TextDelta,
    TurnFinished,
    TurnStarted,
    Usage,
)
from protocol.reports import (
    Attached,
    Batch,
    Goodbye,
    ModelCard,
    Offered,
    Phase,
    Records,
    Rejected,
    Report,
    Stale,
    Status,
    Took,
    Unknown,
    Welcome,
)

MODEL = ModelCard("demo")
SLICE = 3
FRONTEND_LOST_AFTER_S = 2.0

Send = Callable[[str, str, Report], None]
"""`send(worker, frontend, report)`."""


class Log(msgspec.Struct):
    """A response: its records, encoded, and the last owner's epoch."""

    response_id: str
    records: list[bytes]
    epoch: int = 1
    finished: bool = False
    closed: bool = False
    up_since: float | None = None
    readable_at: float = 0.0
    """When a frontend last had had the time to find it."""


Journals = dict[str, dict[str, Log]]
"""By worker, the logs in its directory; a log is in one only."""


class _Peer(msgspec.Struct):
    heard_at: float
    sent: int = 0


class _Reader(msgspec.Struct):
    response_id: str
    offset: int
    paused: bool = False


class _Opening(msgspec.Struct):
    """An `Open` that is being rendered, its frontend if that is still there, and who is to be attached then."""

    command: Open
    frontend: str | None
    waiting: set[tuple[str, int]]


class FakeWorker:
    """One slot for a worker process: `start` makes one, `die` ends it, and its journals outlive it."""

    def __init__(self, name: str, journals: Journals, send: Send, chance: random.Random) -> None:
        self.name = name
        self.logs = journals.setdefault(name, {})
        self.lives = 0
        self.alive = self.stopped = False
        self.phase: Phase = "loading"
        self.loss = 0.0
        """The share of reports that a full queue swallows."""
        self._journals = journals
        self._send_report = send
        self._chance = chance
        self._forget_all()

    def __repr__(self) -> str:
        state = "dead" if not self.alive else "stopped" if self.stopped else self.phase
        return f"<{self.incarnation} {state}, {len(self.logs)} logs>"

    @property
    def incarnation(self) -> str:
        return f"{self.name}.{self.lives}"

    @property
    def runs(self) -> bool:
        return self.alive and not self.stopped

    # ---- life --------------------------------------------------------------------------------------------------------

    def _forget_all(self) -> None:
        self._peers: dict[str, _Peer] = {}
        self._readers: dict[tuple[str, int], _Reader] = {}
        self._openings: dict[str, _Opening] = {}
        self._owners: dict[str, str] = {}
        self._orphans: dict[str, float] = {}

    def start(self, now: float) -> None:
        """A new process that finds its journals."""
        self.lives += 1
        self.alive, self.stopped, self.phase = True, False, "loading"
        self._forget_all()
        self._orphans = dict.fromkeys(self.logs, now + FRONTEND_LOST_AFTER_S)

    def die(self) -> None:
        """As by SIGKILL."""
        self.alive = False
        self._forget_all()

    def say_goodbye(self) -> None:
        """End in order."""
        for frontend in list(self._peers):
            self._send(frontend, Goodbye("stopped", self._peers[frontend].sent + 1))
        self.die()

    def take_over(self, dead: "FakeWorker", now: float) -> None:
        """Go on with another one's responses."""
        assert self.runs
        assert not dead.alive
        taken = dict(dead.logs)
        dead.logs.clear()
        for log in taken.values():
            log.up_since = None
        assert not taken.keys() & self.logs.keys()
        self.logs.update(taken)
        self._orphans.update(dict.fromkeys(taken, now + FRONTEND_LOST_AFTER_S))
        if taken:
            for frontend in list(self._peers):
                self._send(frontend, Took(tuple(taken)))

    def enter(self, phase: Phase) -> None:
        """Be loading, ready, or draining, and say so."""
        self.phase = phase
        for frontend in list(self._peers):
            self._send_status(frontend)

    def tick(self, now: float) -> None:
        """Heartbeat."""
        for frontend, peer in list(self._peers.items()):
            if now - peer.heard_at > FRONTEND_LOST_AFTER_S:
                self._lose(frontend, now)
        for response_id, since in list(self._orphans.items()):
            if since <= now and self._peers:
                self._grant(response_id, self._chance.choice(sorted(self._peers)))
        read = {(frontend, reader.response_id) for (frontend, _), reader in self._readers.items()}
        for response_id, owner in self._owners.items():
            if not self.logs[response_id].closed and (owner, response_id) not in read:
                self._send(owner, Offered(response_id, self.logs[response_id].epoch))
        for frontend in list(self._peers):
            self._send_status(frontend)

    def forgive(self, now: float) -> None:
        """It was paused itself and judges nobody for that."""
        for peer in self._peers.values():
            peer.heard_at = now

    def _lose(self, frontend: str, now: float) -> None:
        del self._peers[frontend]
        for key in [key for key in self._readers if key[0] == frontend]:
            del self._readers[key]
        for opening in self._openings.values():
            opening.frontend = None if opening.frontend == frontend else opening.frontend
            opening.waiting = {waiter for waiter in opening.waiting if waiter[0] != frontend}
        for response_id in [response_id for response_id, owner in self._owners.items() if owner == frontend]:
            del self._owners[response_id]
            self._orphans[response_id] = now

    # ---- engine ------------------------------------------------------------------------------------------------------

    def work(self, *, to_the_end: bool = False) -> None:
        """Begin what was opened, and bring one response on; `to_the_end` all of them."""
        if self.phase != "loading":
            openings, self._openings = self._openings, {}
            for opening in openings.values():
                self._begin(opening)
            running = [log for log in self.logs.values() if not log.finished]
            for log in running if to_the_end else self._chance.sample(running, min(1, len(running))):
                self._generate(log, to_the_end=to_the_end)
        self.publish()

    def _begin(self, opening: _Opening) -> None:
        command, owner = opening.command, opening.frontend
        others = [name for name, logs in self._journals.items() if command.response_id in logs]
        assert not others, f"{command.response_id} is begun on {self} and was on {others}"
        log = self.logs[command.response_id] = Log(command.response_id, [])
        if owner is None:
            self._orphans[log.response_id] = 0.0
        else:
            self._owners[log.response_id] = owner
        opened = Opened(command.response_id, command.created_at, command.request, asked=command.asked)
        self._append(log, opened, OwnerGranted(owner or "gone", 1), TurnStarted(0, 1))
        for frontend, number in sorted(opening.waiting):
            self._attach(frontend, Attach(number, command.response_id, 0, client=True))

    def _generate(self, log: Log, *, to_the_end: bool) -> None:
        if to_the_end or self._chance.random() < 0.1:
            log.finished = True
            self._append(log, TurnFinished("stop", Usage()))
        else:
            self._append(log, Step((1,), (TextDelta(f"{len(log.records)} "),)))

    def _append(self, log: Log, *records: Record) -> None:
        log.records += map(encode_record, records)

    def publish(self) -> None:
        """Send each frontend the next slice of what its readers have not been sent."""
        batches: dict[str, list[Batch]] = {}
        for (frontend, number), reader in self._readers.items():
            fresh = self.logs[reader.response_id].records[reader.offset : reader.offset + SLICE]
            if fresh and not reader.paused:
                batch = Batch(number, reader.offset, tuple(map(msgspec.Raw, fresh)))
                batches.setdefault(frontend, []).append(batch)
                reader.offset += len(fresh)
        for frontend, of_frontend in batches.items():
            self._send(frontend, Records(tuple(of_frontend)))

    # ---- commands ----------------------------------------------------------------------------------------------------

    def hear(self, frontend: str, addressed: Addressed, now: float) -> None:
        """Take in what a frontend says."""
        peer, command = self._peers.get(frontend), addressed.command
        if isinstance(command, Hello):
            if peer is None:
                self._peers[frontend] = _Peer(now)
                self._send_report(self.name, frontend, Welcome(self.name, self.incarnation, 1))
                self._send_status(frontend)
        elif peer is None or addressed.incarnation != self.incarnation:
            self._send_report(self.name, frontend, Stale(self.incarnation))
            if peer is not None:
                peer.sent += 1
        else:
            self._carry_out(frontend, command)
        if frontend in self._peers:
            self._peers[frontend].heard_at = now

    def _carry_out(self, frontend: str, command: Command) -> None:
        match command:
            case Open():
                self._on_open(frontend, command)
            case Attach():
                self._attach(frontend, command)
            case Pause(reader=number):
                if (frontend, number) in self._readers:
                    self._readers[frontend, number].paused = True
            case Detach(reader=number):
                self._readers.pop((frontend, number), None)
                for opening in self._openings.values():
                    opening.waiting.discard((frontend, number))
            case Close(response_id=response_id, epoch=epoch):
                log = self.logs.get(response_id)
                if log and (self._owners.get(response_id), log.epoch, log.closed) == (frontend, epoch, False):
                    log.closed = True
                    del self._owners[response_id]
                    self._append(log, Closed(command.status, 1, command.error))
            case _:
                raise AssertionError(command)

    def _on_open(self, frontend: str, command: Open) -> None:
        if command.response_id in self.logs or command.response_id in self._openings:
            self._attach(frontend, Attach(command.reader, command.response_id, 0, client=True))
        elif self.phase != "ready":
            self._send(frontend, Rejected(command.reader, ErrorDetail("server_error", "engine_unavailable", "no")))
        else:
            self._openings[command.response_id] = _Opening(command, frontend, {(frontend, command.reader)})

    def _attach(self, frontend: str, command: Attach) -> None:
        self._readers.pop((frontend, command.reader), None)
        if command.response_id in self._openings:
            self._openings[command.response_id].waiting.add((frontend, command.reader))
            return
        log = self.logs.get(command.response_id)
        if log is None or command.from_offset > len(log.records):
            self._send(frontend, Unknown(command.reader))
            return
        self._readers[frontend, command.reader] = _Reader(command.response_id, command.from_offset)
        self._send(frontend, Attached(command.reader, len(log.records)))
        if command.response_id in self._orphans:
            self._grant(command.response_id, frontend)

    def _grant(self, response_id: str, frontend: str) -> None:
        del self._orphans[response_id]
        log = self.logs[response_id]
        if not log.closed:
            log.epoch += 1
            self._owners[response_id] = frontend
            self._append(log, OwnerGranted(frontend, log.epoch))

    # ---- reports -----------------------------------------------------------------------------------------------------

    def _send_status(self, frontend: str) -> None:
        models = (MODEL,) if self.phase != "loading" else ()
        self._send(frontend, Status(self.phase, self._peers[frontend].sent + 1, models=models))

    def _send(self, frontend: str, report: Report) -> None:
        self._peers[frontend].sent += 1
        if self._chance.random() < self.loss:
            for (of_frontend, _), reader in self._readers.items():
                reader.paused |= of_frontend == frontend
        else:
            self._send_report(self.name, frontend, report)


def look_at(workers: Iterable[FakeWorker], now: float) -> None:
    """Note which logs can be read now."""
    for worker in workers:
        for log in worker.logs.values():
            log.up_since = (log.up_since or now) if worker.runs else None
            if log.up_since is not None and now - log.up_since > 4:
                log.readable_at = now
