"""Seeded random lives of frontends among workers that die, restart, hang, end in order and take over from each other.

Each client must get exactly the events of its response, or none that are not its own; nobody is told that a response is
unknown which is there, or lost while it could be read; and when everything is well again, nobody is left waiting.
"""

import random
from collections import defaultdict, deque

import pytest

from frontend.config import Settings
from frontend.messages import Beat, Drained, Heard, Overflow
from frontend.wish import Wish
from protocol.commands import Addressed, Hello
from protocol.reports import Report
from tests.frontend.fake_frontend import REQUEST, Client, FakeFrontend, stream_of
from tests.frontend.fake_workers import FakeWorker, Journals, Log, look_at

SEEDS = range(40)
STEPS = 600
STEP_S = 0.1
WORKERS = ("a", "b", "c")
SETTINGS = Settings(open_wait_s=40.0)


class Simulation:
    """A host on which `chance` decides what happens next; `outage_s` is how long a worker stays away at most."""

    def __init__(self, seed: int, outage_s: float) -> None:
        self.chance = random.Random(seed)
        self.outage_s = outage_s
        self.now = 100.0
        self.journals: Journals = {}
        self.reports: dict[tuple[str, str], deque[Report]] = defaultdict(deque)
        self.commands: dict[tuple[str, str], deque[Addressed]] = defaultdict(deque)
        self.workers = {name: FakeWorker(name, self.journals, self._report, self.chance) for name in WORKERS}
        self.frontends = {name: FakeFrontend(name, SETTINGS, self._transmit) for name in ("f0", "f1")}
        self.frozen_until = dict.fromkeys(self.frontends, 0.0)
        self.due: dict[str, float] = {}
        """When the next step in a worker's life follows by itself: its start, its readiness, its waking."""
        self.responses: list[str] = []
        self.sought: list[Client] = []
        """Those who asked for a response when it existed."""
        self.trouble = 0.03
        for worker in self.workers.values():
            worker.start(self.now)
            worker.enter("ready")

    # ---- the wire ----------------------------------------------------------------------------------------------------

    def _report(self, worker: str, frontend: str, report: Report) -> None:
        self.reports[worker, frontend].append(report)

    def _transmit(self, frontend: str, worker: str, command: Addressed) -> bool:
        """To a dead worker little gets through, and that reaches its successor."""
        if not self.workers[worker].alive and self.chance.random() < 0.8:
            return False
        if self.chance.random() < self.trouble / 10 and not isinstance(command.command, Hello):
            return False
        self.commands[frontend, worker].append(command)
        return True

    def _carry(self) -> None:
        """Hand over some of what is on the way, each line in its order."""
        for (frontend, worker), commands in list(self.commands.items()):
            while commands and self.workers[worker].runs and self.chance.random() < 0.9:
                self.workers[worker].hear(frontend, commands.popleft(), self.now)
        for (worker, name), reports in list(self.reports.items()):
            while reports and self.frozen_until[name] <= self.now and self.chance.random() < 0.9:
                self.frontends[name].now = self.now
                self.frontends[name].tell(Heard(worker, reports.popleft()))

    # ---- time --------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """A tenth of a second: what is due, what chance brings, and the mail."""
        self.now += STEP_S
        beat = round(self.now / STEP_S) % 5 == 0
        for name, frontend in self.frontends.items():
            frontend.now = self.now
            if beat and self.frozen_until[name] <= self.now:
                frontend.tell(Beat(frozenset(WORKERS)))
        for worker in self.workers.values():
            self._live_on(worker)
            if worker.runs and beat:
                worker.tick(self.now)
            if worker.runs:
                worker.work()
        self._carry()
        look_at(self.workers.values(), self.now)
        for frontend in self.frontends.values():
            while frontend.losses:
                self.check_loss(frontend.losses.pop())

    def _live_on(self, worker: FakeWorker) -> None:
        if self.due.get(worker.name, self.now + 1) > self.now:
            return
        del self.due[worker.name]
        if not worker.alive:
            worker.start(self.now)
            self._later(worker, 5.0)
        elif worker.stopped:
            worker.stopped = False
            worker.forgive(self.now)
        elif worker.phase == "loading":
            self._take_over_what_is_free(worker)
            worker.enter("ready")

    def _later(self, worker: FakeWorker, within_s: float) -> None:
        self.due[worker.name] = self.now + self.chance.uniform(0, within_s)

    def _take_over_what_is_free(self, worker: FakeWorker) -> None:
        for other in self.workers.values():
            if not other.alive:
                worker.take_over(other, self.now)

    # ---- what chance brings ------------------------------------------------------------------------------------------

    def move(self) -> None:
        """Something happens, then time passes."""
        self.chance.choice([self.create, self.find, self.leave, self.stall, self.rest, self.rest])()
        for worker in self.workers.values():
            if worker.runs and worker.phase == "ready" and self.chance.random() < 0.3:
                self._take_over_what_is_free(worker)
        if self.chance.random() < self.trouble:
            self.chance.choice([self.kill, self.kill, self.end_in_order, self.stop, self.clog, self.freeze])()
        self.step()

    def _worker(self) -> FakeWorker:
        return self.chance.choice(list(self.workers.values()))

    def _frontend(self) -> FakeFrontend:
        awake = [name for name, until in self.frozen_until.items() if until <= self.now]
        return self.frontends[self.chance.choice(awake)]

    def _wish(self, asked: bytes | None = None) -> Wish:
        stream = self.chance.random() < 0.7
        return Wish(stream=stream, to_the_end=stream or self.chance.random() < 0.7, asked=asked)

    def rest(self) -> None:
        """Nothing new."""

    def create(self) -> None:
        if len(self.responses) < 60:
            response_id = f"resp_{len(self.responses):032x}"
            self.responses.append(response_id)
            self._frontend().create(response_id, self._wish(REQUEST if self.chance.random() < 0.3 else None))

    def find(self) -> None:
        if self.responses:
            response_id = self.chance.choice(self.responses)
            exists = self.log(response_id) is not None
            client = self._frontend().find(response_id, self._wish())
            if exists:
                self.sought.append(client)

    def leave(self) -> None:
        frontend = self._frontend()
        waiting = [client for client in frontend.clients.values() if not client.gone and not client.ended]
        if waiting and self.chance.random() < 0.3:
            frontend.leave(self.chance.choice(waiting))

    def stall(self) -> None:
        """A slow client, or one that has caught up."""
        frontend = self._frontend()
        for client in frontend.clients.values():
            if client.wish.stream and not client.gone and not client.ended:
                frontend.deliver(client, Overflow() if self.chance.random() < 0.3 else Drained())

    def kill(self) -> None:
        worker = self._worker()
        if worker.alive:
            worker.die()
            self._lose_mail(worker)
            self._later(worker, self.outage_s)

    def end_in_order(self) -> None:
        worker = self._worker()
        if worker.runs:
            worker.enter("draining")
            worker.say_goodbye()
            self._later(worker, self.outage_s)

    def stop(self) -> None:
        worker = self._worker()
        if worker.runs and worker.phase == "ready":
            worker.stopped = True
            self._later(worker, self.outage_s)

    def freeze(self) -> None:
        """A frontend does not run for a while."""
        if all(until <= self.now for until in self.frozen_until.values()):
            self.frozen_until[self._frontend().name] = self.now + self.chance.uniform(0, 5)

    def clog(self) -> None:
        """A worker's queues are full from now on, or no longer."""
        worker = self._worker()
        worker.loss = 0.0 if worker.loss else 0.3

    def _lose_mail(self, worker: FakeWorker) -> None:
        for (name, _), reports in self.reports.items():
            if name == worker.name:
                for _ in range(self.chance.randint(0, len(reports))):
                    reports.pop()

    # ---- the end -----------------------------------------------------------------------------------------------------

    def log(self, response_id: str) -> Log | None:
        found = [logs[response_id] for logs in self.journals.values() if response_id in logs]
        assert len(found) <= 1, f"{response_id} is in several journals"
        return found[0] if found else None

    def make_well(self) -> None:
        """No more trouble: all workers come back and finish, all clients read."""
        self.trouble = 0.0
        for worker in self.workers.values():
            worker.loss = 0.0
        until = max(self.due.values(), default=self.now) + 5.0 + SETTINGS.worker_wait_s + SETTINGS.open_wait_s
        while self.now < until and (self.due or self.waiting()):
            self.step()
            for frontend, client in self.waiting():
                frontend.deliver(client, Drained())
            if not self.due:
                for worker in self.workers.values():
                    worker.work(to_the_end=True)

    def waiting(self) -> list[tuple[FakeFrontend, Client]]:
        """All whose session goes on."""
        everybody = [(frontend, each) for frontend in self.frontends.values() for each in frontend.clients.values()]
        return [(frontend, client) for frontend, client in everybody if not client.ended]

    def check_loss(self, client: Client) -> None:
        """Nobody may be told of a loss who could have read the response."""
        log = self.log(client.session.response_id)
        assert log is not None
        assert self.now - log.readable_at > 0.8 * SETTINGS.worker_wait_s, f"{client} was lost at {self.now}: {log}"

    def check(self, client: Client) -> None:
        response_id = client.session.response_id
        log = self.log(response_id)
        assert client.ended, f"{client} hangs"
        assert client.refusal is None or not client.data
        if client.refusal is None and not client.gone and not client.lost:
            assert log is not None
            assert log.closed or not client.wish.to_the_end
            if client.wish.stream:
                assert client.data == stream_of(log.records, client.wish)
        elif client.wish.stream and not client.lost and log is not None:
            assert stream_of(log.records, client.wish).startswith(client.data)


@pytest.mark.parametrize("outage_s", [10.0, 90.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_reader_loses_repeats_or_waits_for_ever(seed: int, outage_s: float) -> None:
    simulation = Simulation(seed, outage_s)
    for _ in range(STEPS):
        simulation.move()
    simulation.make_well()
    assert [client for client in simulation.sought if client.refusal and client.refusal.status == 404] == []
    for frontend in simulation.frontends.values():
        for client in frontend.clients.values():
            simulation.check(client)
        assert "0 readers, 0 of them unplaced" in repr(frontend)
