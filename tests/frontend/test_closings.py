"""Every order of a response's end, its cancelling, its deletion and its adoption: store and stream agree, and nothing
brings a deleted one back.

The worker's actor, the sessions, the closings and the store are the real ones; when each of them gets on is the test's.
"""

import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from frontend.closing import Closing
from frontend.config import Settings
from frontend.finished import as_kept, to_keep
from frontend.messages import Again, ClosingEffect, Keep, Leave, Say, SessionEffect, Verdict
from frontend.projection import Projection
from frontend.session import Session
from frontend.sse import Event
from frontend.store.errors import ReplayGone
from frontend.store.finishing import Deleted
from frontend.store.responses import NewBackground, ResponseRow
from frontend.store.store import Store
from frontend.wish import Wish
from protocol.codec import decode_record
from protocol.commands import Attach, Close, Command, Detach
from protocol.records import Closed, Record, TurnFinished, Usage
from protocol.reports import Attached, Batch, Offered, Records, Unknown
from tests.engine_worker.world import UNIX_TIME, Frontend, World
from tests.frontend.served import empty_database

pytestmark = pytest.mark.slow

SESSION, CLOSING, OBSERVER = 1, 2, 9
"""Reader numbers."""
REQUEST: Final = b'{"model":"m","input":"x","background":true}'
ORDERS_MAX: Final = 120
"""So many orders of each kind are gone through, by chance; all of them where they are fewer."""


class Owner:
    """A frontend that drives the response. It hears at once what is new; it stores, and says `Close`, when it may."""

    def __init__(self, world: World, store: Store, name: str, response_id: str, clock: int) -> None:
        self.clock = clock
        self.world, self.store, self.response_id = world, store, response_id
        self.frontend: Frontend = world.frontend(name)
        self.session = Session(SESSION, response_id, name, Wish())
        self.closing: Closing | None = None
        self.response: dict[str, Any] = {}
        self.to_store: list[tuple[bytes, ...]] = []
        self.to_close: list[Command] = []
        self._read = 0

    def hear(self) -> bool:
        """Take in what has come; whether anything has."""
        fresh, self._read = self.frontend.reports[self._read :], len(self.frontend.reports)
        for report in fresh:
            match report:
                case Records(batches=batches):
                    for batch in batches:
                        self._deliver(batch.reader, batch)
                case Attached():
                    self._deliver(report.reader, report)
                case Offered():
                    self._deliver(SESSION, Again())
                case _:
                    pass
        return bool(fresh)

    def _deliver(self, reader: int, message: Attached | Batch | Again) -> None:
        if reader == SESSION:
            self._carry_out(self.session.handle(message, self.world.now))
        elif reader == CLOSING and self.closing is not None:
            self._carry_out(self.closing.handle(message))

    def _carry_out(self, effects: list[SessionEffect] | list[ClosingEffect]) -> None:
        for effect in effects:
            match effect:
                case Verdict():
                    self._end(effect)
                case Keep(records=records):
                    self.to_store.append(records)
                case Say(command=Attach() as command):
                    self.frontend.begin(command.reader, command.from_offset)
                    self.world.say(self.frontend, command)
                case Say(command=Close() as command):
                    self.to_close.append(command)
                case Say(command=command):
                    self.world.say(self.frontend, command)
                case Leave(reader=reader):
                    self.world.say(self.frontend, Detach(reader))
                case _:
                    pass

    def _end(self, verdict: Verdict) -> None:
        """As the shell does it."""
        projection = self.session.projection
        closed = verdict.closed or Closed(verdict.status, self.clock, verdict.error)
        if not projection.is_stored and verdict.closed is None:
            self.to_close.append(Close(self.response_id, verdict.epoch, closed.status, closed.at, closed.error))
            return
        if self.closing is not None and self.closing.epoch >= verdict.epoch:
            return
        in_log = verdict.closed is not None
        self.closing = Closing(CLOSING, self.response_id, verdict.epoch, closed, in_log=in_log)
        self.response = projection.response() if in_log else projection.response_closed(closed)
        self._carry_out(self.closing.handle(Again()))

    async def store_it(self) -> None:
        """The store is asked, and answers."""
        while self.to_store:
            assert self.closing is not None
            closing, records = self.closing, self.to_store.pop()
            finished = to_keep(records, closing.closed, closing.epoch, self.response)
            answer = await self.store.responses.finish(finished)
            self._carry_out(closing.handle(as_kept(answer, closing.closed)))

    def close_it(self) -> None:
        """The worker hears `Close`."""
        while self.to_close:
            self.world.say(self.frontend, self.to_close.pop())


class Case:
    """One response in the background, which A owns; B is another frontend."""

    def __init__(self, store: Store, response_id: str) -> None:
        self.store, self.response_id = store, response_id
        self.world = World()
        self.a = Owner(self.world, store, "A", response_id, UNIX_TIME)
        self.b = Owner(self.world, store, "B", response_id, UNIX_TIME + 7)
        self.owners = {"A": self.a, "B": self.b}
        self.a_is_lost = self.deleted = False

    async def begin(self) -> None:
        self.world.open(self.a.frontend, self.response_id, SESSION, REQUEST, background=True)
        self.world.step(self.response_id)
        row = NewBackground(
            response_id=self.response_id,
            tenant="",
            created_at=UNIX_TIME,
            model="m",
            response=b"{}",
            opened=b"opened",
            epoch=1,
        )
        await self.store.responses.insert_background(row)
        self.hear()

    def hear(self) -> None:
        """All that is on the way arrives; a frontend that is lost hears no more."""
        while (not self.a_is_lost and self.a.hear()) | self.b.hear():
            pass

    async def do(self, step: str) -> None:
        """Let this happen, where it can."""
        match step.split(" ", 1):
            case ["finish"]:
                aborted = self.response_id in self.world.aborted
                self.world.emit(self.response_id, TurnFinished("aborted" if aborted else "stop", Usage()))
            case [name, "stores"]:
                await self.owners[name].store_it()
            case [name, "closes"]:
                self.world.hello(self.owners[name].frontend)  # A may have been lost: it is back with what it has to say
                self.owners[name].close_it()
            case ["A", "is lost"]:
                self.a_is_lost = True
                self.world.silent.add("A")
                self.world.advance(2 * self.world.settings.frontend_lost_after_s)
            case ["cancel"]:
                self.world.abort(self.b.frontend, self.response_id)
            case ["delete", "in the store"]:
                self.deleted = await self.store.responses.delete("", self.response_id, UNIX_TIME, live=True)
            case ["delete", "at the worker"]:
                self.world.delete(self.b.frontend, self.response_id)
            case _:
                raise AssertionError(step)
        self.hear()

    async def end(self) -> None:
        """What is under way comes to its end."""
        for _ in range(3):
            for step in ("A stores", "A closes", "B stores", "B closes"):
                await self.do(step)
            self.world.advance(self.world.settings.heartbeat_interval_s)
            self.hear()

    def events(self) -> list[Event] | None:
        """What a client would see now; None when the worker does not know it."""
        self.world.attach(self.b.frontend, self.response_id, OBSERVER)
        if self.b.frontend.got(Unknown):
            return None
        return folded(self.b.frontend.log(OBSERVER))

    async def check(self) -> None:
        row, seen = await self.store.responses.get("", self.response_id), self.events()
        kept = [decode_record(record) async for record in self._replay()]
        if self.deleted:
            assert isinstance(row, Deleted)
            assert seen is None
            assert kept == []
            return
        assert isinstance(row, ResponseRow)
        assert row.closed is not None
        assert [isinstance(record, Closed) for record in kept].count(True) == 1
        assert folded(kept) == seen
        assert row.response in seen[-1].body

    async def _replay(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.store.replay.read("", self.response_id):
                for record in chunk:
                    yield record
        except ReplayGone:
            return


def folded(records: list[Record]) -> list[Event]:
    projection = Projection()
    return [event for record in records for event in projection.apply(record)]


def orders(*chains: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every order of all these steps in which each chain keeps its own."""
    left = [chain for chain in chains if chain]
    if not left:
        yield ()
    for index, chain in enumerate(left):
        for rest in orders(*left[:index], chain[1:], *left[index + 1 :]):
            yield (chain[0], *rest)


A: Final = ("finish", "A stores", "A closes")
CANCEL: Final = ("cancel",)
DELETE: Final = ("delete in the store", "delete at the worker")
ADOPTION: Final = ("A is lost", "B stores", "B closes")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    tmp_path.chmod(0o700)
    (tmp_path / "holdfast.db").write_bytes(empty_database())
    store = Store(Settings(data_dir=tmp_path, store_wait_s=30.0))
    yield store
    await store.close()


@pytest.mark.parametrize(
    "chains",
    [
        (A, CANCEL),
        (A, DELETE),
        (A, CANCEL, DELETE),
        (A, ADOPTION),
        (A, CANCEL, ADOPTION),
        (A, DELETE, ADOPTION),
        (A, CANCEL, DELETE, ADOPTION),
    ],
    ids=["cancel", "delete", "cancel-delete", "adopt", "cancel-adopt", "delete-adopt", "cancel-delete-adopt"],
)
async def test_store_and_stream_agree_and_nothing_deleted_comes_back(
    store: Store, chains: tuple[tuple[str, ...], ...]
) -> None:
    every = list(orders(*chains))
    chosen = random.Random(1).sample(every, ORDERS_MAX) if len(every) > ORDERS_MAX else every
    for number, order in enumerate(chosen):
        case = Case(store, f"resp_{number:032x}")
        try:
            await case.begin()
            for step in order:
                await case.do(step)
                if case.deleted:
                    assert isinstance(await store.responses.get("", case.response_id), Deleted)
            await case.end()
            await case.check()
        except AssertionError as error:
            error.add_note(f"order: {order}")
            raise
