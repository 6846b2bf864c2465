"""What may happen in any simulated life of a worker: moves that both simulations make."""

import random
from typing import Generic, TypeVar

from tests.engine_worker.world import Frontend, World

AnyWorld = TypeVar("AnyWorld", bound=World)


class Moves(Generic[AnyWorld]):
    """A world in which `chance` decides who does what next; `playing` are the turns that the engine runs."""

    def __init__(self, chance: random.Random, world: AnyWorld) -> None:
        self.chance = chance
        self.world = world
        self.responses: list[str] = []
        self.playing: set[str] = set()

    def someone(self) -> Frontend:
        return self.chance.choice(list(self.world.frontends.values()))

    def some_response(self) -> str:
        return self.chance.choice([*self.responses, "nothing"])

    def detach(self) -> None:
        self.world.detach(self.someone(), self.chance.randrange(4))

    def abort(self) -> None:
        self.world.abort(self.someone(), self.some_response())

    def finish(self) -> None:
        if self.playing:
            self.end(self.chance.choice(sorted(self.playing)))

    def wait(self) -> None:
        self.world.advance(self.chance.choice([0.5, 1, 3]))

    def end(self, response_id: str) -> None:
        self.playing.discard(response_id)
        self.world.finish(response_id)

    def end_what_was_aborted(self) -> None:
        aborted, self.world.aborted = self.world.aborted, []
        for response_id in aborted:
            if response_id in self.playing:
                self.end(response_id)
