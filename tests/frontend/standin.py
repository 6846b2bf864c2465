"""A worker in the test's own event loop, of which the test takes every step: it has logs and readers, but no engine."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from protocol.channel import ChannelLimits, WorkerChannel
from protocol.codec import decode_command, encode_record, encode_report
from protocol.commands import Abort, Attach, Close, Command, Delete, Detach, Hello, Open, Pause, Release, Stored
from protocol.records import Closed, ErrorDetail, Opened, OwnerGranted, Record, TurnStarted
from protocol.reports import (
    Attached,
    Batch,
    Goodbye,
    ModelCard,
    Offered,
    Phase,
    QueuePlace,
    Records,
    Rejected,
    Report,
    Stale,
    Status,
    Took,
    Unknown,
    Welcome,
)
from protocol.run_dir import worker_endpoint
from tests.pace import DEADLINE_S

MODEL = ModelCard("holdfast-demo", ("gpt-4o-mini",), 4096, 1_700_000_000)
HEARTBEAT_S = 0.1
SLICE = 3
"""Records a replay sends at once: few, so that there are many slices."""

CommandKind = TypeVar("CommandKind", bound=Command)


class Log(msgspec.Struct):
    """A response's log, encoded, and who may close it."""

    request: bytes
    records: list[bytes]
    owner: str
    epoch: int = 1
    closed: bool = False


class Reader(msgspec.Struct):
    """One reader of one frontend."""

    response_id: str
    offset: int
    client: bool
    paused: bool = False


class StandIn:
    """Make it inside the event loop; `close` it at the end."""

    def __init__(self, run_dir: Path, name: str = "w0", incarnation: str = "first", phase: Phase = "ready") -> None:
        self.name = name
        self.incarnation = incarnation
        self.phase: Phase = phase
        self.logs: dict[str, Log] = {}
        self.readers: dict[tuple[bytes, int], Reader] = {}
        self.heard: list[tuple[bytes, Command]] = []
        self.rejects: ErrorDetail | None = None
        """With which error to reject every `Open`."""
        self.silent = False
        """Whether it reads but does not answer, like a process that hangs."""
        self.deaf_to: tuple[type[Command], ...] = ()
        """Commands that get lost on the way here."""
        self.positions: dict[str, int] = {}
        """Queue positions to report, by response."""
        self.retry_after_s = 0
        """What its `Status` says of its queue."""
        self._sent: dict[bytes, int] = {}
        self._changed = asyncio.Event()
        self._channel = WorkerChannel(worker_endpoint(run_dir, name), ChannelLimits(), self._on_frame)
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)

    def close(self) -> None:
        """End without a word, like a killed process."""
        self._timer.cancel()
        self._channel.close()

    # ---- what tests do and wait for ----------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is looked at after every command."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def next_response(self, known: int = 0) -> str:
        """Wait for the response opened after `known` others, and return its id."""
        await self.until(lambda: len(self.logs) > known)
        return list(self.logs)[known]

    def commands(self, kind: type[CommandKind]) -> list[CommandKind]:
        """Commands of this kind that were heard, in order."""
        return [command for _, command in self.heard if isinstance(command, kind)]

    def readers_of(self, response_id: str) -> list[Reader]:
        """All readers attached to this response now."""
        return [reader for reader in self.readers.values() if reader.response_id == response_id]

    def append(self, response_id: str, *records: Record) -> None:
        """Append to a log and publish, as one engine step."""
        log = self.logs[response_id]
        log.records += map(encode_record, records)
        log.closed = any(isinstance(record, Closed) for record in records)
        self.publish()

    def publish(self) -> None:
        """Send every reader that is not paused all it has not been sent, one message to each peer and slice."""
        while batches := self._next_slices():
            for peer, of_peer in batches.items():
                self.send(peer, Records(tuple(of_peer)))

    def send(self, peer: bytes, report: Report) -> None:
        """Send a report, and count it."""
        self._sent[peer] = self._sent.get(peer, 0) + 1
        self._channel.send(peer, encode_report(report))

    def send_garbage(self, peer: bytes, frame: bytes) -> None:
        """Send what is no report, and count it."""
        self._sent[peer] += 1
        self._channel.send(peer, frame)

    def lose(self, peer: bytes) -> None:
        """Count a message to this peer that never arrives, as when its queue is full."""
        self._sent[peer] += 1

    def forget(self) -> None:
        """Forget all frontends, as after losing them."""
        self.readers.clear()
        self._sent.clear()

    def offer(self, response_id: str, peer: bytes) -> None:
        """Make this frontend the response's owner."""
        log = self.logs[response_id]
        log.owner, log.epoch = peer.decode(), log.epoch + 1
        self.append(response_id, OwnerGranted(log.owner, log.epoch))
        self.send(peer, Offered(response_id, log.epoch))

    def take_over(self, dead: "StandIn") -> None:
        """Go on with the responses of another worker, and say so."""
        self.logs.update(dead.logs)
        for peer in self._sent:
            self.send(peer, Took(tuple(dead.logs)))
        dead.logs = {}

    def say_goodbye(self) -> None:
        """Say that this worker ends."""
        for peer in self._sent:
            self.send(peer, Goodbye("told to stop", self._sent[peer] + 1))

    @property
    def peers(self) -> list[bytes]:
        """The frontends that said `Hello`."""
        return list(self._sent)

    # ---- the worker's rules ------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        if not self.silent:
            for peer in self._sent:
                self._send_status(peer)
            self._offer_undriven()
        self._timer = asyncio.get_running_loop().call_later(HEARTBEAT_S, self._beat)

    def _offer_undriven(self) -> None:
        """Remind owners of the live responses that they do not read."""
        read = {(peer, reader.response_id) for (peer, _), reader in self.readers.items()}
        for response_id, log in self.logs.items():
            owner = log.owner.encode()
            if owner in self._sent and not log.closed and (owner, response_id) not in read:
                self.send(owner, Offered(response_id, log.epoch))

    def _send_status(self, peer: bytes) -> None:
        queue = tuple(
            QueuePlace(number, self.positions[reader.response_id])
            for (of_peer, number), reader in self.readers.items()
            if of_peer == peer and reader.response_id in self.positions
        )
        self.send(
            peer,
            Status(self.phase, self._sent[peer] + 1, models=(MODEL,), queue=queue, retry_after_s=self.retry_after_s),
        )

    def _on_frame(self, peer: bytes, frame: bytes) -> None:
        addressed = decode_command(frame)
        if self.silent or isinstance(addressed.command, self.deaf_to):
            return
        self.heard.append((peer, addressed.command))
        if isinstance(addressed.command, Hello):
            self._on_hello(peer)
        elif addressed.incarnation != self.incarnation:
            self.send(peer, Stale(self.incarnation))
        else:
            self._carry_out(peer, addressed.command)
        self._changed.set()

    def _on_hello(self, peer: bytes) -> None:
        if peer not in self._sent:
            self._sent[peer] = -1  # the Welcome is not counted
            self.send(peer, Welcome(self.name, self.incarnation, 1))
            self._send_status(peer)

    def _carry_out(self, peer: bytes, command: Command) -> None:
        match command:
            case Open():
                self._on_open(peer, command)
            case Attach():
                self._attach(peer, command)
            case Pause():
                if (peer, command.reader) in self.readers:
                    self.readers[peer, command.reader].paused = True
            case Detach():
                self.readers.pop((peer, command.reader), None)
            case Close():
                self._on_close(peer, command)
            case Abort() | Delete() | Stored() | Release() | Hello():
                pass

    def _on_open(self, peer: bytes, command: Open) -> None:
        log = self.logs.get(command.response_id)
        if self.rejects is not None:
            self.send(peer, Rejected(command.reader, self.rejects))
            return
        if log is not None and log.request != command.request:
            error = ErrorDetail("idempotency_error", "idempotency_mismatch", "another request")
            self.send(peer, Rejected(command.reader, error))
            return
        if log is None:
            records: list[Record] = [
                Opened(
                    command.response_id,
                    command.created_at,
                    command.request,
                    command.dialect,
                    command.obfuscate,
                    tenant=command.tenant,
                    background=command.background,
                    history_items=command.history_items,
                    key=command.key,
                    asked=command.asked,
                ),
                OwnerGranted(peer.decode(), 1),
                TurnStarted(0, 7),
            ]
            self.logs[command.response_id] = Log(command.request, list(map(encode_record, records)), peer.decode())
        self._attach(peer, Attach(command.reader, command.response_id, 0, client=True))

    def _attach(self, peer: bytes, command: Attach) -> None:
        log = self.logs.get(command.response_id)
        if log is None:
            self.send(peer, Unknown(command.reader))
            return
        self.readers[peer, command.reader] = Reader(command.response_id, command.from_offset, command.client)
        self.send(peer, Attached(command.reader, len(log.records)))
        self.publish()

    def _on_close(self, peer: bytes, command: Close) -> None:
        log = self.logs[command.response_id]
        if (log.owner, log.epoch, log.closed) == (peer.decode(), command.epoch, False):
            closed = Closed(command.status, command.at, command.error, command.unstored)
            self.append(command.response_id, closed)

    def _next_slices(self) -> dict[bytes, list[Batch]]:
        batches: dict[bytes, list[Batch]] = {}
        for (peer, number), reader in self.readers.items():
            fresh = self.logs[reader.response_id].records[reader.offset : reader.offset + SLICE]
            if fresh and not reader.paused:
                batch = Batch(number, reader.offset, tuple(map(msgspec.Raw, fresh)))
                batches.setdefault(peer, []).append(batch)
                reader.offset += len(fresh)
        return batches
