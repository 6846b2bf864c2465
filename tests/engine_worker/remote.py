"""A worker in this process and frontends over real ZeroMQ."""

import asyncio
import contextlib
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import zmq

from engine_worker.config import Settings
from engine_worker.engines.scripted import build
from engine_worker.shell import Build, Worker
from protocol.channel import ChannelLimits, FrontendChannel
from protocol.codec import VERSION, decode_record, decode_report, encode_command
from protocol.commands import Attach, Command, Hello, Open
from protocol.records import Record
from protocol.reports import Records, Report, Status, Welcome
from protocol.run_dir import worker_endpoint, worker_socket
from tests.pace import DEADLINE_S

WORKER = "worker-0"

Kind = TypeVar("Kind", bound=Report)


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; fails past the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.002)


def scripted(*arguments: str) -> Build:
    return lambda loop, on_dead: build(arguments, loop, on_dead)


class Reading:
    """What a frontend makes of what it is sent: it keeps all reports, puts records in place by their offsets, and
    attaches a reader again where the worker counted more messages than came."""

    def __init__(self, name: str, send: Callable[[bytes], object]) -> None:
        self.name = name
        self.send = send
        self.incarnation = ""
        self.reports: list[Report] = []
        self.reads: dict[int, list[bytes]] = defaultdict(list)
        self.times_lost = 0
        self._received = 0
        self._wanted: dict[int, Attach | Open] = {}

    def say(self, command: Command, incarnation: str | None = None) -> None:
        """Send a command; a reader it names is remembered."""
        if isinstance(command, Attach | Open):
            self._wanted[command.reader] = command
        self.send(encode_command(self.incarnation if incarnation is None else incarnation, command))

    def take(self, frame: bytes) -> None:
        """Receive a frame."""
        report = decode_report(frame)
        self.reports.append(report)
        self._received += 1
        match report:
            case Welcome():
                self.incarnation, self._received = report.incarnation, 0
            case Records(batches):
                for batch in batches:
                    assert batch.offset == self._start(batch.reader) + len(self.reads[batch.reader])
                    self.reads[batch.reader] += map(bytes, batch.records)
            case Status(sent=sent) if sent > self._received:
                self.times_lost += 1
                self._received = sent
                for reader, wish in self._wanted.items():
                    next_offset = self._start(reader) + len(self.reads[reader])
                    attach = Attach(reader, wish.response_id, next_offset, True)
                    self.send(encode_command(self.incarnation, attach))
            case _:
                pass

    def got(self, kind: type[Kind]) -> list[Kind]:
        return [report for report in self.reports if isinstance(report, kind)]

    def log(self, reader: int = 1) -> list[Record]:
        return [decode_record(raw) for raw in self.reads[reader]]

    def has_read(self, kind: type[Record], reader: int = 1) -> bool:
        """Whether the last record this reader was sent is of that kind."""
        return bool(self.reads[reader]) and isinstance(decode_record(self.reads[reader][-1]), kind)

    def _start(self, reader: int) -> int:
        wish = self._wanted[reader]
        return wish.from_offset if isinstance(wish, Attach) else 0


class Frontend(Reading):
    """A frontend with the product's channel, read by the event loop."""

    def __init__(self, run_dir: Path, name: str, worker: str = WORKER) -> None:
        self.channel = FrontendChannel(worker_endpoint(run_dir, worker), name, ChannelLimits(), self.take)
        super().__init__(name, self.channel.send)

    async def connect(self) -> None:
        """Say Hello until welcomed; again, when it has been before."""
        before = len(self.got(Welcome))

        def welcomed() -> bool:
            self.send(encode_command("", Hello(VERSION, self.name)))
            return len(self.got(Welcome)) > before

        await until(welcomed)


class StallingFrontend(Reading):
    """A frontend with a bare socket, read only when told to. It queues for a worker that is not there, too."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.ROUTING_ID, name.encode())
        self.socket.setsockopt(zmq.RCVHWM, 1)
        self.socket.connect(worker_endpoint(run_dir, WORKER))
        super().__init__(name, self.socket.send)
        self.send(encode_command("", Hello(VERSION, name)))

    def take_what_came(self) -> None:
        while self.socket.poll(0):
            self.take(self.socket.recv())


@contextlib.asynccontextmanager
async def running(
    run_dir: Path, build: Build, name: str = WORKER, /, **settings: float
) -> AsyncIterator[tuple[Worker, asyncio.Task[int]]]:
    """A worker at work; its task's result is the exit code. Ended with the block, if it has not ended by itself."""
    patient = {"frontend_lost_after_s": 60.0} | settings
    worker = Worker(Settings(run_dir=run_dir, **patient), name, build)  # type: ignore[arg-type]
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    try:
        yield worker, task
    finally:
        if not task.done():
            worker.stop("the test is over")
        await task
        await until(lambda: nobody_listens(run_dir, name))  # ZeroMQ closes in its own time.


def nobody_listens(run_dir: Path, worker: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(worker_socket(run_dir, worker))) != 0
