"""One seeded life of a whole deployment: workers, frontends, clients and the store, under whatever chance brings.

First there is trouble for a while, then none: everybody is back, and all must come to its end. What is promised is
checked by the `Witness` as it is said, and by `check_end`.
"""

import random
from collections.abc import Callable, Sequence

import msgspec

from engine_worker.config import Settings as WorkerSettings
from frontend.config import Settings as FrontendSettings
from frontend.wish import Wish
from protocol.codec import decode_record, encode_record
from protocol.records import Closed, OwnerGranted
from tests.engine_worker.invariants import check
from tests.frontend.fake_frontend import stream_of
from tests.simulation.directory import Directory
from tests.simulation.frontend import FrontendProcess
from tests.simulation.scene import Scene
from tests.simulation.store import Store
from tests.simulation.timeline import Timeline
from tests.simulation.visitor import Deleter, Visitor
from tests.simulation.wire import Wire
from tests.simulation.witness import Log, Witness
from tests.simulation.worker import WorkerProcess

TROUBLE_S = 15.0
"""How long chance has its way."""
STEP_S = 0.25
"""Between two moves of chance."""
END_S = 200.0
"""By when all has come to its end once the trouble is over."""
OUTAGE_S = 4.0
RESPONSES_MAX = 6
WHOLE = Wish(stream=True)


FRONTEND_SETTINGS = FrontendSettings(
    heartbeat_interval_s=1.0, worker_lost_after_s=4.0, lookup_wait_s=4.0, store_wait_s=2.0
)


def worker_settings(chance: random.Random) -> WorkerSettings:
    """Those of all workers: patient or not, with room for whole logs in a message, and for a queue, or not."""
    return WorkerSettings(
        heartbeat_interval_s=1.0,
        frontend_lost_after_s=4.0,
        disconnect_grace_s=chance.choice([5.0, 1000.0]),
        resume_window_s=1000.0,
        progress_interval_s=5.0,
        drain_s=chance.choice([0.0, 3.0]),
        engine_hang_after_s=5.0,
        journal_wait_s=1.0,
        engine_deaths_max=chance.choice([2, 1000]),
        worker_deaths_max=chance.choice([4, 1000]),
        batch_records_max=chance.choice([2, 1000]),
        replay_interval_s=0.01,
        queue_requests_max=chance.choice([1, 2, 3, 1000]),
    )


class Simulation:
    """The whole of it; `trace` is given a line for whatever is worth one."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        chance = self.chance = random.Random(seed)
        self._trace = trace
        self.timeline = Timeline()
        self.store = Store(random.Random(chance.random()))
        self.witness = Witness(self.store)
        said = self.trace if trace is not None else None
        self.wire = Wire(self.timeline, random.Random(chance.random()), chance.choice([40, 500]), said)
        slots = [f"w{number}" for number in range(chance.choice([2, 2, 3]))]
        self.scene = Scene(
            chance,
            self.timeline,
            self.wire,
            self.store,
            self.witness,
            self.trace,
            worker_settings(chance),
            FRONTEND_SETTINGS,
            {name: Directory(name) for name in slots},
        )
        self.workers, self.frontends = self.scene.workers, self.scene.frontends
        self.lives = 0
        self.visitors: list[Visitor] = []
        self.deleters: list[Deleter] = []
        self.responses: list[str] = []
        self._paused: list[WorkerProcess | FrontendProcess] = []
        for name in slots:
            self.start_worker(name)
        for name in ("f0", "f1"):
            self.start_frontend(name)

    def trace(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.timeline.now - 100:8.3f}  {text}")

    # ---- processes ---------------------------------------------------------------------------------------------------

    def start_worker(self, slot: str) -> None:
        self.lives += 1
        worker = self.workers[slot] = WorkerProcess(slot, self.lives, self.scene, self._worker_ended)
        worker.start()

    def _worker_ended(self, worker: WorkerProcess) -> None:
        self.witness.count("worker lives")
        delay = self.chance.uniform(0.1, OUTAGE_S)
        self.timeline.after(delay, lambda: self.start_worker(worker.slot))

    def start_frontend(self, slot: str) -> None:
        self.lives += 1
        self.frontends[slot] = FrontendProcess(f"{slot}.{self.lives}", self.scene)

    # ---- what chance brings ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Its whole life."""
        self.timeline.run(self.timeline.now + 2.0)
        until = self.timeline.now + TROUBLE_S
        while self.timeline.now < until:
            self.move()
            self.timeline.run(self.timeline.now + STEP_S)
            self.check_step()
        self.make_well()
        self.check_end()

    def move(self) -> None:
        """Something happens, or nothing."""
        chance = self.chance.random()
        if chance < 0.25 and len(self.responses) < RESPONSES_MAX:
            self.create()
        elif chance < 0.40:
            self.visit()
        elif chance < 0.65:
            self.chance.choice(self.troubles())()
        for slot, frontend in list(self.frontends.items()):
            if not frontend.alive and self.chance.random() < 0.3:
                self.start_frontend(slot)

    def troubles(self) -> list[Callable[[], None]]:
        return [
            self.kill_worker,
            self.kill_worker,
            self.kill_frontend,
            self.pause,
            self.pause,
            self.drain_worker,
            self.stop_frontend,
            self.lose_engine,
            self.wire.break_one,
            self.wire.slow_one,
            self.store_trouble,
            self.delete,
            self.cancel,
        ]

    def create(self) -> None:
        response_id = f"resp_{len(self.responses):032x}"
        self.responses.append(response_id)
        store = self.chance.random() < 0.7
        background = store and self.chance.random() < 0.4
        fields = {"model": "demo", "input": "hi", "store": store, "background": background}
        request = msgspec.json.encode(fields)
        key = b"key" if self.chance.random() < 0.5 else None
        if key is not None:
            self.witness.keyed.add(response_id)
        self.visitors.append(Visitor(response_id, self.scene, request=request, key=key, background=background))
        self.witness.count("creates")

    def visit(self) -> None:
        """Another client reads a response; one that reads already leaves and comes back, or is slow."""
        waiting = [visitor for visitor in self.visitors if visitor.over is None]
        if waiting and self.chance.random() < 0.7:
            visitor = self.chance.choice(waiting)
            self.chance.choice([visitor.go, visitor.stall])()
        elif self.witness.logs and len(self.visitors) < 3 * RESPONSES_MAX:
            self.visitors.append(Visitor(self.chance.choice(sorted(self.witness.logs)), self.scene))

    def cancel(self) -> None:
        if self.visitors:
            self.witness.count("cancels")
            self.chance.choice(self.visitors).cancel()

    def delete(self) -> None:
        if self.witness.logs and self.chance.random() < 0.5:
            response_id = self.chance.choice(sorted(self.witness.logs))
            self.trace(f"{response_id} is to be deleted")
            self.deleters.append(Deleter(response_id, self.scene))

    def _some_worker(self) -> WorkerProcess | None:
        running = [worker for worker in self.workers.values() if worker.runs]
        return self.chance.choice(running) if running else None

    def kill_worker(self) -> None:
        worker = self._some_worker()
        if worker is not None:
            self.witness.count("workers killed")
            self._kill(worker)

    def kill_frontend(self) -> None:
        frontend = self.chance.choice(list(self.frontends.values()))
        if frontend.alive:
            self.witness.count("frontends killed")
            self._kill(frontend)

    def _kill(self, process: WorkerProcess | FrontendProcess) -> None:
        """At once, or in the midst of what it will do."""
        if self.chance.random() < 0.5:
            process.die()
        else:
            process.kill_in = self.chance.randrange(30)

    def pause(self) -> None:
        """As by SIGSTOP, for longer or shorter than the others' patience."""
        processes: list[WorkerProcess | FrontendProcess] = [*self.workers.values(), *self.frontends.values()]
        process = self.chance.choice(processes)
        if process.runs:
            self.witness.count("pauses")
            process.pause()
            self._paused.append(process)
            self.timeline.after(self.chance.uniform(0.5, 10.0), lambda: self._wake(process))

    def _wake(self, process: WorkerProcess | FrontendProcess) -> None:
        if process.paused:
            process.wake(timers_first=self.chance.random() < 0.5)

    def drain_worker(self) -> None:
        worker = self._some_worker()
        if worker is not None and self.wire.listens(worker.slot, worker):
            self.witness.count("drains")
            worker.run(worker.drain)

    def stop_frontend(self) -> None:
        frontend = self.chance.choice(list(self.frontends.values()))
        if frontend.runs:
            self.witness.count("frontends stopped")
            frontend.run(frontend.stop)

    def lose_engine(self) -> None:
        worker = self._some_worker()
        if worker is not None and worker.engine is not None:
            if self.chance.random() < 0.3:
                worker.engine.hangs = True
            else:
                self.witness.count("engine deaths")
                worker.run(worker.lose_engine)

    def store_trouble(self) -> None:
        """It is away for a while."""
        self.store.down = True
        self.witness.count("store outages")
        self.timeline.after(self.chance.uniform(0.5, 8.0), self._store_back)

    def _store_back(self) -> None:
        self.store.down = False

    # ---- promises ----------------------------------------------------------------------------------------------------

    def check_step(self) -> None:
        hosts: dict[str, str] = {}
        for worker in self.workers.values():
            if worker.alive:
                responses = worker.actor._responses
                for response_id in [*responses.live, *responses.closed, *responses.unstored]:
                    other = hosts.setdefault(response_id, worker.name)
                    if other != worker.name:
                        self.witness.runs_twice(response_id, other, worker.name)

    def make_well(self) -> None:
        """No more trouble: all goes on, comes back and comes to its end."""
        self.trace("all is well from here on")
        self.wire.make_well()
        for process in self._paused:
            self._wake(process)
        for worker in self.workers.values():
            worker.kill_in = -1
        for slot, frontend in list(self.frontends.items()):
            frontend.kill_in = -1
            if not frontend.alive:
                self.start_frontend(slot)
        until = self.timeline.now + END_S
        while self.timeline.now < until and self.unfinished():
            self.timeline.run(self.timeline.now + 1.0)
        assert not self.unfinished(), f"without an end: {self.unfinished()}"

    def unfinished(self) -> list[object]:
        """Whatever has not come to its end."""
        logs = self.witness.logs
        waiting: list[object] = [
            visitor for visitor in self.visitors if visitor.over is None and not logs[visitor.response_id].twice
        ]
        waiting += [deleter for deleter in self.deleters if not deleter.over]
        waiting += [
            response.log
            for worker in self.workers.values()
            for response in [*worker.actor._responses.live.values(), *worker.actor._responses.unstored.values()]
            if worker.alive and not self.witness.logs[response.response_id].twice
        ]
        waiting += [
            f"{response_id} on {worker.name}"
            for worker in self.workers.values()
            for response_id in self.witness.deleted
            if self.witness.logs[response_id].delete_requested and worker.actor._responses.get(response_id) is not None
        ]
        rows = self.store.rows
        waiting += [
            f"{response_id} in the background"
            for response_id in self.witness.background - self.witness.erased
            if not rows[response_id].closed and not rows[response_id].deleted and not logs[response_id].twice
        ]
        waiting += [worker for worker in self.workers.values() if not worker.ready or not worker.alive]
        if not any(log.twice for log in logs.values()):
            for frontend in self.scene.living_frontends():
                waiting += [frontend.closings] if len(frontend.closings) else []
                waiting += [frontend.hosts] if "<Placement 0 readers" not in repr(frontend.hosts) else []
        return waiting

    def check_end(self) -> None:
        """Stream, store and journals agree, and nothing is left behind."""
        for worker in self.workers.values():
            check(worker.actor)
        for visitor in self.visitors:
            self.check_visitor(visitor, self.witness.logs[visitor.response_id])
        for response_id in self.witness.deleted:
            self.check_deleted(response_id)
        for response_id, log in self.witness.logs.items():
            self.check_stored(response_id, log)

    def check_visitor(self, visitor: Visitor, log: Log) -> None:
        response_id = visitor.response_id
        if log.twice:
            return
        if visitor.over == "done":
            self.witness.count("streams done")
            whole = stream_of(log.records, WHOLE)
            row = self.store.rows.get(response_id)
            if response_id in self.witness.deleted | self.witness.erased:
                # It may have been forgotten before this client had all.
                assert visitor.data.count(b"event: response.created") == 1
                assert deltas(whole).startswith(deltas(visitor.data))
            elif row is not None and row.records and (log.closed is None or log.closed.unstored):
                # Nobody was sent its end but by the store, which may have it from an owner before.
                assert visitor.data in (whole, stream_of(list(row.records), WHOLE))
            else:
                assert visitor.data == whole, f"{visitor} did not read what others did"
        elif visitor.over is not None and visitor.over.startswith("429"):
            assert not log.records, f"{visitor}, and it runs"
            assert response_id not in self.store.rows, f"{visitor}, and it is stored"
        elif visitor.over is not None and visitor.over.startswith("404"):
            gone = response_id in self.witness.deleted | self.witness.erased or not log.records or not log.journaled
            assert gone or log.delete_requested, f"{visitor}: {log.closed} {log.stored}"

    def check_deleted(self, response_id: str) -> None:
        row = self.store.rows.get(response_id)
        assert row is not None
        assert row.deleted, f"{response_id} was deleted and is back"
        if self.witness.logs[response_id].delete_requested:
            for worker in self.workers.values():
                left = [name for name, _ in worker.own.files if name == response_id]
                assert not left, f"{response_id} was deleted, and its journal is on {worker.name}"

    def check_stored(self, response_id: str, log: Log) -> None:
        row = self.store.rows.get(response_id)
        if row is not None and row.records and not log.twice:
            kept, seen = without_owners(row.records[:-1]), without_owners(log.records)
            shorter = min(len(kept), len(seen))
            assert kept[:shorter] == seen[:shorter], f"{response_id} is stored as nobody saw it"
        if log.closed is None or not log.stored or log.delete_requested or log.twice:
            return
        assert row is not None, f"{response_id} is closed and was not stored"
        if not row.deleted:
            assert row.closed is not None
            if not log.closed.unstored:
                assert row.closed == encode_record(log.closed)
                # Of owners there may have been more since it was stored, and of these no client hears.
                assert stream_of(list(row.records), WHOLE) == stream_of(log.records, WHOLE)
            else:
                end = decode_record(row.closed)
                assert isinstance(end, Closed)
                assert (end.status, end.error) == (log.closed.status, log.closed.error)
                assert kept == without_owners(log.records[:-1])


def deltas(stream: bytes) -> bytes:
    """The stream up to where what it generated ends."""
    return stream.partition(b"event: response.output_text.done")[0].partition(b"event: error")[0]


def without_owners(records: Sequence[bytes]) -> list[bytes]:
    """The records that clients see something of."""
    return [raw for raw in records if not isinstance(decode_record(raw), OwnerGranted)]
