"""Connections between frontends and workers, as ZeroMQ gives them: in order, bounded, and gone without a word.

A connection breaks as a whole, and comes back as another one. What is on its way is lost, both ways, also while both
ends live. What was queued for a worker that died may reach its successor, late and twice.
"""

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from protocol.commands import Addressed, Hello
from protocol.reports import Report, Status
from tests.simulation.timeline import Process, Timeline, Trace

STALE_SHARE = 0.3
"""How often commands for a dead worker reach the next one."""
LATENCY_MAX_S = 0.05
SLOW_MAX_S = 3.0
"""What a slow connection takes for a message, each way: one that takes its time, and no silence."""


class Worker(Process, ABC):
    """A worker's process, as the wire knows it."""

    @abstractmethod
    def hear(self, frontend: str, command: Addressed) -> None:
        """A command arrived."""


class Frontend(Process, ABC):
    """A frontend's process, as the wire knows it."""

    @abstractmethod
    def heard(self, worker: str, report: Report) -> None:
        """A report arrived."""


class Direction:
    """One way of a connection: messages on their way to `take`, which is called as far as their reader runs."""

    def __init__(self, timeline: Timeline, latency_s: float, reader: Process, take: Callable[[Any], None]) -> None:
        self.queue: deque[tuple[float, object]] = deque()
        self.latency_s = latency_s
        self.open = True
        self._timeline = timeline
        self._reader = reader
        self._take = take
        self._arrives_at = 0.0
        self._awaited = False

    @property
    def unread(self) -> int:
        """Messages that have arrived and were not read."""
        now = self._timeline.now
        return sum(arrives <= now for arrives, _ in self.queue)

    def send(self, message: object) -> None:
        self._arrives_at = max(self._arrives_at, self._timeline.now + self.latency_s)
        self.queue.append((self._arrives_at, message))
        if not self._awaited:
            self._awaited = True
            self._timeline.at(self._arrives_at, self._arrived)

    def read(self) -> None:
        """Have the reader take all that has arrived, if it runs."""
        queue, now = self.queue, self._timeline.now
        while queue and queue[0][0] <= now and self.open and self._reader.runs:
            message = queue.popleft()[1]
            self._reader.run(partial(self._take, message))

    def _arrived(self) -> None:
        self._awaited = False
        if self.open:
            self.read()
            if self.queue and not self._awaited and self._reader.runs:
                self._awaited = True
                self._timeline.at(self.queue[0][0], self._arrived)

    def resume(self) -> None:
        """The reader runs again: read what lies there, and go on with what comes."""
        self.read()
        if self.queue and not self._awaited:
            self._awaited = True
            self._timeline.at(max(self._timeline.now, self.queue[0][0]), self._arrived)

    def close(self) -> list[object]:
        """Break; returns what was on its way."""
        self.open = False
        lost = [message for _, message in self.queue]
        self.queue.clear()
        return lost


class Connection:
    """An unbroken connection of a frontend's process with a worker's."""

    def __init__(self, to_worker: Direction, to_frontend: Direction) -> None:
        self.to_worker = to_worker
        self.to_frontend = to_frontend


class Wire:
    """All connections. A worker listens under its slot's name; `capacity` bounds what may be on its way, each way."""

    def __init__(self, timeline: Timeline, chance: random.Random, capacity: int, trace: Trace | None) -> None:
        self._timeline = timeline
        self._trace = trace
        self._chance = chance
        self._capacity = capacity
        self._workers: dict[str, Worker] = {}
        self._frontends: dict[str, Frontend] = {}
        self._connections: dict[tuple[str, str], Connection] = {}
        self._wanted: set[tuple[str, str]] = set()
        self._stale: dict[tuple[str, str], list[object]] = {}
        """Commands that were meant for a worker that is dead."""
        self.counts = {"breaks": 0, "lost": 0, "slow": 0, "stale": 0, "full": 0}

    # ---- who is there ------------------------------------------------------------------------------------------------

    def listen(self, name: str, worker: Worker) -> None:
        self._workers[name] = worker
        for frontend, wanted in sorted(self._wanted):
            if wanted == name:
                self._connect_soon(frontend, name)

    def listens(self, name: str, worker: Process) -> bool:
        return self._workers.get(name) is worker

    def end_worker(self, name: str, worker: Process) -> None:
        """Its process is gone, and its connections with it."""
        if self._workers.get(name) is not worker:
            return
        del self._workers[name]
        for key in sorted(key for key in self._wanted if key[1] == name):
            queued = self._close(key) if key in self._connections else []
            if queued and self._chance.random() < STALE_SHARE:
                self._stale.setdefault(key, []).extend(queued)

    def come(self, frontend: Frontend) -> None:
        self._frontends[frontend.name] = frontend

    def want(self, frontend: str, worker: str) -> None:
        """The frontend connects to this socket from now on, whenever somebody listens there."""
        self._wanted.add((frontend, worker))
        self._connect_soon(frontend, worker)

    def unwant(self, frontend: str, worker: str) -> None:
        self._wanted.discard((frontend, worker))
        self._stale.pop((frontend, worker), None)
        if (frontend, worker) in self._connections:
            self._close((frontend, worker))

    def end_frontend(self, name: str) -> None:
        self._frontends.pop(name, None)
        for key in sorted(key for key in self._wanted if key[0] == name):
            self.unwant(*key)

    def break_one(self) -> None:
        """A connection breaks, and comes back when both are there."""
        if self._connections:
            key = self._chance.choice(sorted(self._connections))
            self.counts["breaks"] += 1
            self.counts["lost"] += len(self._close(key))
            self._connect_soon(*key)

    def slow_one(self) -> None:
        """A connection is slow from now on, each way, until it breaks or all is well."""
        if self._connections:
            connection = self._connections[self._chance.choice(sorted(self._connections))]
            self.counts["slow"] += 1
            for direction in (connection.to_worker, connection.to_frontend):
                direction.latency_s = self._chance.uniform(LATENCY_MAX_S, SLOW_MAX_S)

    def make_well(self) -> None:
        """None is slow any more."""
        for connection in self._connections.values():
            for direction in (connection.to_worker, connection.to_frontend):
                direction.latency_s = min(direction.latency_s, LATENCY_MAX_S)

    # ---- messages ----------------------------------------------------------------------------------------------------

    def to_worker(self, frontend: str, worker: str, command: Addressed) -> bool:
        """Whether there is a connection and room in its queue."""
        connection = self._connections.get((frontend, worker))
        if self._trace is not None and not isinstance(command.command, Hello):
            self._trace(f"{frontend} -> {command.incarnation}: {command.command}{'' if connection else ' (not sent)'}")
        if connection is None:
            return False
        if len(connection.to_worker.queue) >= self._capacity:
            self.counts["full"] += 1
            return False
        connection.to_worker.send(command)
        return True

    def to_frontend(self, worker: str, frontend: str, report: Report) -> bool | None:
        """Whether there is room in its queue; None where there is no connection."""
        connection = self._connections.get((frontend, worker))
        if self._trace is not None and not isinstance(report, Status):
            self._trace(f"{worker} -> {frontend}: {report}{'' if connection else ' (not sent)'}")
        if connection is None:
            return None
        if len(connection.to_frontend.queue) >= self._capacity:
            self.counts["full"] += 1
            return False
        connection.to_frontend.send(report)
        return True

    def unread_by_worker(self, frontend: str, worker: str) -> int:
        connection = self._connections.get((frontend, worker))
        return 0 if connection is None else connection.to_worker.unread

    def unread_by_frontend(self, frontend: str, worker: str) -> int:
        connection = self._connections.get((frontend, worker))
        return 0 if connection is None else connection.to_frontend.unread

    def read_worker(self, name: str) -> None:
        """This worker's process goes on after a pause."""
        for key, connection in list(self._connections.items()):
            if key[1] == name:
                connection.to_worker.resume()

    def read_frontend(self, name: str) -> None:
        """This frontend's process goes on after a pause."""
        for key, connection in list(self._connections.items()):
            if key[0] == name:
                connection.to_frontend.resume()

    # ---- connecting --------------------------------------------------------------------------------------------------

    def _connect_soon(self, frontend: str, worker: str) -> None:
        self._timeline.after(self._chance.uniform(0.01, 0.5), lambda: self._connect(frontend, worker))

    def _connect(self, frontend: str, worker: str) -> None:
        key = frontend, worker
        listener, caller = self._workers.get(worker), self._frontends.get(frontend)
        if key not in self._wanted or key in self._connections or listener is None or caller is None:
            return
        latency = self._chance.uniform(0.001, LATENCY_MAX_S)
        connection = self._connections[key] = Connection(
            Direction(self._timeline, latency, listener, partial(listener.hear, frontend)),
            Direction(self._timeline, latency, caller, partial(caller.heard, worker)),
        )
        stale = self._stale.pop(key, [])
        self.counts["stale"] += len(stale)
        twice = self._chance.random() < STALE_SHARE
        for command in [*stale, *(stale if twice else ())]:
            connection.to_worker.send(command)

    def _close(self, key: tuple[str, str]) -> list[object]:
        connection = self._connections.pop(key)
        connection.to_frontend.close()
        return connection.to_worker.close()
