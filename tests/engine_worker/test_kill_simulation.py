"""Seeded random lives of workers that are killed between any two effects, or in the middle of a write, again and again.

After each death the same worker comes back, or another one takes over. What any reader was ever sent never changes,
though every process says other words; nothing that a frontend was told of is lost; and at the end everything closes,
and all have read the same.
"""

import random

import pytest

from engine_worker.mailbox import Effect, EngineReady, TurnQueued, TurnRefused, UnlinkJournal, WriteJournal
from engine_worker.outbox import Outbox
from protocol.commands import Attach
from protocol.records import Closed, ErrorDetail, TurnStarted
from protocol.reports import Attached, Report, Took
from tests.engine_worker.invariants import check_log
from tests.engine_worker.moves import Moves
from tests.engine_worker.world import MODEL, PREPARED, Frontend, World

SEEDS = range(60)
MOVES = 120
QUIET_EFFECTS_MAX = 100
"""Effects carried out between two kills, at most."""


class Killed(Exception):
    """The process is no more."""


class MortalWorld(World):
    """A world whose worker is killed before the effect that `kill_in` counts down to; a write may be cut short."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.kill_in = 10**9
        self.told: set[str] = set()
        """Responses that some frontend was told of, and that have a journal."""
        super().__init__(
            start_turns=False,
            disconnect_grace_s=chance.choice([3, 1000]),
            resume_window_s=chance.choice([2, 1000]),
            batch_records_max=chance.choice([2, 1000]),
            journal_bytes_max=chance.choice([3000, 10**9]),
            engine_deaths_max=chance.choice([3, 1000]),
            worker_deaths_max=chance.choice([3, 1000]),
            journal_wait_s=1,
        )

    def _carry_out(self, effect: Effect) -> None:
        self.kill_in -= 1
        if self.kill_in < 0:
            self._cut_short(effect)
            raise Killed
        super()._carry_out(effect)
        if isinstance(effect, WriteJournal | UnlinkJournal):
            self.told = {response_id for response_id in self.told if self._is_journaled(response_id)}

    def _is_journaled(self, response_id: str) -> bool:
        return (response_id, False) in self.journals or (response_id, True) in self.journals

    def _cut_short(self, effect: Effect) -> None:
        if isinstance(effect, WriteJournal) and not self.disk_full:
            name = effect.response_id, effect.volatile
            part = effect.entries[: self.chance.randrange(len(effect.entries) + 1)]
            self.journals[name] = self.journals.get(name, b"") + part

    def _deliver(self, address: bytes, report: Report) -> None:
        if isinstance(report, Attached) and (peer := self.actor._frontends.get(address)) is not None:
            response = peer.readers[report.reader].response
            if self._is_journaled(response.response_id):
                self.told.add(response.response_id)
        super()._deliver(address, report)


class Lives(Moves[MortalWorld]):
    """The lives of one worker after another. Frontends do as the product's do: after a Welcome, or when they are told
    who has a response now, they attach where they were."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        super().__init__(chance, MortalWorld(chance))
        self.names = 0
        self.words = 0
        self.reading: dict[tuple[str, int], str] = {}
        self.witnessed: dict[str, dict[int, bytes]] = {}
        self.starting: dict[str, bool] = {}  # Whether the turn is to be resumed.
        self.deaths = 0
        self.takeovers = 0
        for _ in range(3):
            self.newcomer()
        self.plan_death()

    def plan_death(self) -> None:
        self.world.kill_in = self.chance.randrange(QUIET_EFFECTS_MAX)

    def move(self) -> None:
        """Something happens; the worker may die of it."""
        moves = [self.open, self.open, self.attach, self.detach, self.close, self.close, self.abort, self.release]
        moves += [self.step, self.step, self.step, self.answer, self.finish, self.wait, self.newcomer, self.disk]
        if self.chance.random() < 0.1:
            moves = [self.lose_engine, self.stop]
        try:
            self.chance.choice(moves)()
            self.end_what_was_aborted()
        except Killed:
            self.rise()
        self.witness()

    def rise(self) -> None:
        """The next process: it has all that anybody was told of, and frontends find it."""
        self.deaths += 1
        world = self.world
        world.kill_in, world.disk_full = 10**9, False
        self.starting.clear()
        self.playing.clear()
        self.witness()
        if self.chance.random() < 0.5:
            self.come_back()
        else:
            self.be_taken_over()
        for response_id in world.told:
            assert world.actor._responses.get(response_id) is not None, "a frontend was told of it, and it is lost"
        self.take_turns()
        self.plan_death()

    def come_back(self) -> None:
        """The same worker reads its journals."""
        self.world.restart(ready=False)
        for frontend in self.world.frontends.values():
            self.world.hello(frontend)
            self.attach_again(frontend, set(self.responses))
        self.world.give(EngineReady((MODEL,)))

    def be_taken_over(self) -> None:
        """Another worker, which is ready, known to all and busy with a response of its own, is given the journals."""
        self.takeovers += 1
        world = self.world
        left, told = world.journals, set(world.told)
        world.journals = {}
        world.restart()
        for frontend in world.frontends.values():
            world.hello(frontend)
        self.open()
        self.answer(engine_lives=True)
        known = {frontend.name: len(frontend.got(Took)) for frontend in world.frontends.values()}
        world.take_over(left)
        world.told |= told
        for frontend in world.frontends.values():
            took = frontend.got(Took)[known[frontend.name] :]
            here = {response_id for report in took for response_id in report.response_ids}
            assert told <= here, "a frontend is not told where a response is"
            self.attach_again(frontend, here)

    def attach_again(self, frontend: Frontend, responses: set[str]) -> None:
        """Each reader of one of these responses goes on where it was."""
        for (name, reader), response_id in self.reading.items():
            if name == frontend.name and response_id in responses:
                next_offset = frontend.starts[reader] + len(frontend.reads[reader])
                self.world.say(frontend, Attach(reader, response_id, next_offset, True))

    def take_turns(self) -> None:
        for turn in self.world.turns:
            self.starting[turn.response_id] = turn.resume is not None
        self.world.turns.clear()

    def witness(self) -> None:
        """What a reader was sent at an offset is what every reader was ever sent there."""
        for frontend in self.world.frontends.values():
            for reader, read in frontend.reads.items():
                seen = self.witnessed.setdefault(self.reading[frontend.name, reader], {})
                for offset, raw in enumerate(read, frontend.starts[reader]):
                    assert seen.setdefault(offset, raw) == raw, "what a reader saw has changed"

    # ---- moves -------------------------------------------------------------------------------------------------------

    def newcomer(self) -> None:
        if len(self.world.frontends) == 4:
            gone = self.someone()
            self.witness()
            del self.world.frontends[gone.name.encode()]
        self.names += 1
        self.world.frontend(f"f{self.names}")

    def open(self) -> None:
        frontend, reader = self.someone(), self.chance.randrange(4)
        self.responses.append(f"r{len(self.responses)}")
        self.reading[frontend.name, reader] = self.responses[-1]
        request = self.chance.choice([b"{}", b'{"store":false}'])
        self.world.open(frontend, self.responses[-1], reader, request)
        self.take_turns()

    def lose_engine(self) -> None:
        self.world.lose_engine(waiting=self.chance.randrange(4))
        self.rise()

    def stop(self) -> None:
        self.world.stop()
        self.rise()

    def answer(self, *, engine_lives: bool = False) -> None:
        for response_id, resumes in list(self.starting.items()):
            del self.starting[response_id]
            if not engine_lives and self.chance.random() < 0.05:
                self.world.give(TurnRefused(response_id, ErrorDetail("server_error", "engine_unavailable", "no")))
                self.lose_engine()
                return
            if self.chance.random() < 0.1:
                self.world.give(TurnRefused(response_id, ErrorDetail("server_error", "no", "no")))
                continue
            if not resumes:
                self.world.emit(response_id, PREPARED)
                self.world.emit(response_id, TurnStarted(0, 1))
            self.playing.add(response_id)
            self.world.give(TurnQueued(response_id))

    def attach(self) -> None:
        frontend, reader, response_id = self.someone(), self.chance.randrange(4), self.some_response()
        known = len(self.witnessed.get(response_id, ()))
        self.reading[frontend.name, reader] = response_id
        self.world.attach(frontend, response_id, reader, self.chance.randint(0, known))

    def close(self) -> None:
        response = self.world.actor._responses.live.get(self.some_response())
        if response is not None and response.owner is not None and not response.turn_running:
            frontend = self.world.frontends.get(response.owner.address)
            if frontend is not None:
                self.world.close(frontend, response.response_id, response.epoch)

    def release(self) -> None:
        self.world.release(self.someone(), self.some_response(), epoch=self.chance.randint(1, 3))

    def step(self) -> None:
        for response_id in sorted(self.playing):
            self.words += 1
            self.world.step(response_id, f"{self.words}" * self.chance.choice([1, 20]))

    def disk(self) -> None:
        self.world.disk_full = self.chance.random() < 0.2

    def come_to_an_end(self) -> None:
        """No more deaths: every response that lives is finished, closed by its owner, and read to its end by all."""
        world = self.world
        world.kill_in, world.disk_full = 10**9, False
        world.advance(4)
        self.answer(engine_lives=True)
        self.end_what_was_aborted()
        for response_id in sorted(self.playing):
            self.end(response_id)
        for number, response in enumerate(tuple(world.actor._responses.live.values()), start=100):
            for frontend in world.frontends.values():
                self.reading[frontend.name, number] = response.response_id
                world.attach(frontend, response.response_id, number)
            assert response.owner is not None, "nobody drives it"
            world.close(world.frontends[response.owner.address], response.response_id, response.epoch)
            logs = [frontend.log(number) for frontend in world.frontends.values()]
            assert isinstance(logs[0][-1], Closed)
            assert all(log == logs[0] for log in logs)
            check_log(response)
        self.witness()
        assert not world.actor._responses.live


def live(seed: int) -> Lives:
    lives = Lives(seed)
    for _ in range(MOVES):
        lives.move()
    lives.come_to_an_end()
    return lives


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_dies_when_what_was_seen_stays_and_what_was_accepted_ends(seed: int) -> None:
    lives = live(seed)
    assert lives.deaths > lives.takeovers > 0


def test_a_worker_that_tells_before_it_journals_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(outbox: Outbox) -> list[Effect]:
        effects, outbox._effects = outbox._effects, []
        return sorted(effects, key=lambda effect: isinstance(effect, WriteJournal))

    monkeypatch.setattr(Outbox, "take", late)
    with pytest.raises(AssertionError, match=r"has changed|is lost"):
        _ = [live(seed) for seed in SEEDS]
