"""Seeded random lives of a worker: frontends that come, stall, vanish and lie, an engine that takes its time.

Invariants are checked after every input by the `World`. Here every reader's bytes are compared besides with what was
ever read of that response, and at the end everyone behaves, everything closes, and all have read the same.
"""

import random

import pytest

from engine_worker.mailbox import TurnQueued, TurnRefused
from protocol.commands import Attach, Hello, Pause
from protocol.records import Closed, ErrorDetail, TurnStarted
from tests.engine_worker.invariants import check_log
from tests.engine_worker.moves import Moves
from tests.engine_worker.world import World

SEEDS = range(40)
MOVES = 150


class Simulation(Moves[World]):
    """The life of one worker, and whatever its frontends do to it."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        world = World(
            start_turns=False,
            log_bytes_max=chance.choice([4000, 20_000, 10**9]),
            responses_max=chance.choice([3, 10, 1000]),
            batch_records_max=chance.choice([2, 10, 1000]),
            disconnect_grace_s=chance.choice([1, 10, 1000]),
            resume_window_s=chance.choice([2, 1000]),
            progress_interval_s=5,
        )
        super().__init__(chance, world)
        self.names = 0
        self.history: dict[str, list[bytes]] = {}
        self.starting: set[str] = set()
        self.reading: dict[tuple[str, int], str] = {}
        for _ in range(3):
            self.newcomer()

    def move(self) -> None:
        """Something happens; then all that was read must fit what was read before."""
        moves = [self.open, self.attach, self.detach, self.pause, self.close, self.abort, self.release, self.step]
        moves += [self.step, self.step, self.answer, self.finish, self.wait, self.trouble, self.recover, self.newcomer]
        self.chance.choice(moves)()
        self.end_what_was_aborted()
        self.compare()

    def newcomer(self) -> None:
        if len(self.world.frontends) < 5:
            self.names += 1
            self.world.frontend(f"f{self.names}")

    def open(self) -> None:
        frontend, reader = self.someone(), self.chance.randrange(4)
        new = f"r{len(self.responses)}"
        response_id = self.chance.choice([new, new, self.some_response()])
        if response_id == new:
            self.responses.append(new)
        self.reading[frontend.name, reader] = response_id
        self.world.open(frontend, response_id, reader, request=self.chance.choice([b"{}"] * 9 + [b"[]"]))
        for turn in self.world.turns:
            self.starting.add(turn.response_id)
            self.forget(turn.response_id, but=(frontend.name, reader))
        self.world.turns.clear()

    def answer(self) -> None:
        for response_id in sorted(self.starting):
            if self.chance.random() < 0.8:
                self.world.emit(response_id, TurnStarted(0, 1))
                self.world.give(TurnQueued(response_id))
                self.playing.add(response_id)
            else:
                self.world.give(TurnRefused(response_id, ErrorDetail("server_error", "no", "no")))
        self.starting.clear()

    def attach(self) -> None:
        frontend, reader, response_id = self.someone(), self.chance.randrange(4), self.some_response()
        known = len(self.history.get(response_id, ()))
        self.reading[frontend.name, reader] = response_id
        offset = self.chance.randint(0, known)
        self.world.attach(frontend, response_id, reader, offset, client=self.chance.random() < 0.7)

    def pause(self) -> None:
        self.world.say(self.someone(), Pause(self.chance.randrange(4)))

    def close(self) -> None:
        self.world.close(self.someone(), self.some_response(), epoch=self.chance.randint(0, 3))

    def release(self) -> None:
        self.world.release(self.someone(), self.some_response(), epoch=self.chance.randint(0, 3))

    def step(self) -> None:
        for response_id in sorted(self.playing):
            self.world.step(response_id, "x" * self.chance.choice([1, 5, 300]))

    def trouble(self) -> None:
        frontend = self.someone()
        match self.chance.randrange(5):
            case 0:
                frontend.queue_full = True
            case 1:
                self.world.silent.add(frontend.name)
            case 2 if len(self.world.frontends) > 1:
                del self.world.frontends[frontend.name.encode()]
            case 3:
                self.world.sleep_through(self.chance.choice([2, 50]))
            case _:
                self.world.say(frontend, Hello(99, frontend.name), incarnation=self.chance.choice(["", "old"]))
                self.world.say(frontend, Attach(0, self.some_response(), 0, True), incarnation="old")

    def recover(self) -> None:
        for frontend in self.world.frontends.values():
            frontend.queue_full = False
        self.world.silent.clear()

    def forget(self, response_id: str, but: tuple[str, int]) -> None:
        """The id had a log before, which was dropped: what begins now is another response."""
        self.history.pop(response_id, None)
        self.playing.discard(response_id)
        self.reading = {who: what for who, what in self.reading.items() if what != response_id or who == but}

    def compare(self) -> None:
        """Logs only grow, and whatever a reader was ever sent stands in them."""
        responses = self.world.actor._responses
        for response in (*responses.live.values(), *responses.closed.values()):
            check_log(response)
            records = [bytes(raw) for raw in response.log.slice(0, 10**9, 10**9)]
            known = self.history.get(response.response_id, [])
            assert records[: len(known)] == known
            self.history[response.response_id] = records
        for frontend in self.world.frontends.values():
            for reader, read in frontend.reads.items():
                response_id = self.reading.get((frontend.name, reader))
                if read and response_id is not None:
                    start, history = frontend.starts[reader], self.history[response_id]
                    if responses.get(response_id) is None:
                        history += read[len(history) - start :]  # Its last records went out just before it was dropped.
                    assert read == history[start : start + len(read)]

    def come_to_an_end(self) -> None:
        """All trouble is over: every response that lives is finished, closed by its owner, and read to its end."""
        world = self.world
        self.recover()
        world.advance(3)
        self.answer()
        world.advance(1)
        for response_id in sorted(self.playing):
            self.end(response_id)
        for number, response in enumerate(tuple(world.actor._responses.live.values()), start=100):
            response_id = response.response_id
            for frontend in world.frontends.values():
                world.attach(frontend, response_id, number)
            owner = world.frontends[response.owner.address] if response.owner else None
            assert owner is not None, "nobody drives it"
            world.close(owner, response_id, response.epoch)
            logs = [frontend.log(number) for frontend in world.frontends.values()]
            assert isinstance(logs[0][-1], Closed)
            assert all(log == logs[0] for log in logs)
        assert not world.actor._responses.live
        self.compare()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_logs_grow_readers_agree_and_responses_end(seed: int) -> None:
    simulation = Simulation(seed)
    for _ in range(MOVES):
        simulation.move()
    simulation.come_to_an_end()
