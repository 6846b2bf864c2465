"""Sees all that is said, and fails at the first broken promise."""

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from engine_worker.state import Response
from frontend.api.request import parse_wire
from protocol.codec import decode_record, encode_record
from protocol.commands import Close
from protocol.records import CancelRequested, Closed, DeleteRequested, Opened, OwnerGranted
from protocol.reports import Attached, Records, Report
from tests.simulation.store import Store

if TYPE_CHECKING:
    from tests.simulation.worker import WorkerProcess


class Log:
    """What was ever sent of a response."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.owners: dict[int, str] = {}
        self.closed: Closed | None = None
        self.stored = True
        self.delete_requested = False
        self.host: WorkerProcess | None = None
        self.journaled = True
        self.twice = False
        """Whether it was run twice, in one of the ways that are known: nothing is promised of it any more."""

    def give_up(self) -> None:
        """It is run twice. Who had it deleted may have meant the other one."""
        self.twice, self.delete_requested = True, False


class Witness:
    """`logs` by response; `counts` of what happened."""

    def __init__(self, store: Store) -> None:
        self.logs: defaultdict[str, Log] = defaultdict(Log)
        self.deleted: set[str] = set()
        """Those of which a client was told that they are deleted."""
        self.background: set[str] = set()
        """Those of which the store knows that they run in the background: they end, whether anybody waits or not."""
        self.erased: set[str] = set()
        """Those of which the store could not be told so, and whose clients were refused."""
        self.keyed: set[str] = set()
        """Those that are created with an `Idempotency-Key`, perhaps by several frontends at a time."""
        self.counts: Counter[str] = Counter()
        self._store = store

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] += by

    def unjournaled(self, response_id: str) -> None:
        self.count("unjournaled")
        self.logs[response_id].journaled = False

    def sends(self, worker: "WorkerProcess", address: bytes, report: Report) -> None:
        """A worker is about to send this."""
        if not isinstance(report, Records | Attached):
            return
        assert worker.alive, f"{worker} speaks"
        peer = worker.actor._frontends.get(address)
        if isinstance(report, Attached):
            if peer is not None and (reader := peer.readers.get(report.reader)):
                self._hosts(worker, reader.response.response_id)
            return
        assert worker.own.holder is worker, f"{worker.name} publishes without its lock"
        for batch in report.batches:
            reader = peer.readers.get(batch.reader) if peer is not None else None
            if reader is not None:
                self._sees(worker, reader.response.response_id, batch.offset, batch.records)

    def _hosts(self, worker: "WorkerProcess", response_id: str) -> None:
        log = self.logs[response_id]
        if log.host is not worker:
            former, log.host = log.host, worker
            if former is not None and former.alive:
                self.runs_twice(response_id, former.name, worker.name)
            if former is not None:
                self.count("moves")
                if not log.journaled:  # Nothing was promised of it.
                    log.records.clear()

    def begins(self, worker: "WorkerProcess", response_id: str) -> None:
        """A worker has its engine begin this response, which another one may have."""
        log = self.logs.get(response_id)
        if log is not None and log.host is not None and log.host is not worker and log.host.alive:
            self.runs_twice(response_id, log.host.name, worker.name)

    def runs_twice(self, response_id: str, one: str, other: str) -> None:
        """Two workers have it. That is forgiven where two frontends were asked to create it at the same time, under one
        key, and could not agree on the worker because one of these was silent: known, and nothing is promised then."""
        assert response_id in self.keyed | self.deleted | self.erased, f"{response_id} is on {one} and on {other}"
        log = self.logs[response_id]
        self.count("created twice", not log.twice)
        log.give_up()

    def _sees(self, worker: "WorkerProcess", response_id: str, offset: int, records: tuple) -> None:  # type: ignore[type-arg]
        self._hosts(worker, response_id)
        log = self.logs[response_id]
        if log.twice:
            return
        seen = log.records
        for at, raw in enumerate(records, offset):
            if at < len(seen):
                if seen[at] != bytes(raw) and response_id in self.deleted | self.erased:
                    self.count("created again after it was deleted")  # by a create that was under way, or came again
                    log.give_up()
                    return
                assert seen[at] == bytes(raw), f"{response_id}: offset {at} has changed"
            else:
                self._learn(response_id, log, at, bytes(raw))

    def _learn(self, response_id: str, log: Log, at: int, raw: bytes) -> None:
        assert log.closed is None, f"{response_id}: a record after Closed"
        record = decode_record(raw)
        # A reader that starts in the middle is sent nothing that was not sent from the start to somebody before.
        assert at == len(log.records), f"{response_id}: offset {at} is sent, and {len(log.records)} never was"
        log.records.append(raw)
        assert isinstance(record, Opened) == (at == 0), f"{response_id}: {record} at {at}"
        match record:
            case Opened():
                log.stored = parse_wire(record.request).store is not False
            case OwnerGranted(frontend_id, epoch):
                self.count("epochs beyond the first", epoch > 1)
                assert epoch == len(log.owners) + 1, f"{response_id}: epoch {epoch} after {len(log.owners)}"
                log.owners[epoch] = frontend_id
            case CancelRequested(cause):
                assert cause == "client" or response_id not in self.background, f"{response_id}: {record}"
            case DeleteRequested():
                log.delete_requested = True
            case Closed():
                log.closed = record
                self._closes(response_id, log, record)
            case _:
                pass

    def _closes(self, response_id: str, log: Log, closed: Closed) -> None:
        self.count("closed")
        self.count(f"closed {closed.status}")
        self.count("closed unstored", closed.unstored)
        if not log.stored or closed.unstored or log.delete_requested:
            return
        row = self._store.rows.get(response_id)
        assert row is not None, f"{response_id} is said to be closed, and the store does not know it"
        assert row.deleted or row.closed == encode_record(closed), f"{response_id}: the store has another end"

    def closed_by(self, response: Response, frontend: str, close: Close) -> None:
        """This `Close` was carried out: then it is that of the owner whom the log names last."""
        records = [decode_record(raw) for raw in response.log.slice(0, len(response.log), response.log.bytes)]
        owner = [record for record in records if isinstance(record, OwnerGranted)][-1]
        told = (frontend, close.epoch)
        assert told == (owner.frontend_id, owner.epoch), f"{close.response_id}: {told} closes it, which is {owner}'s"
