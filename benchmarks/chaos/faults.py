"""The schedule of faults: which process suffers what, from a seed. Pure: knows no process and no clock."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Target(StrEnum):
    """What a fault hits; each belongs to one service, a frontend or a worker."""

    SERVING = "frontend serving process"
    ARBITER = "frontend arbiter"
    FRONTEND = "whole frontend"
    ACTOR = "worker actor"
    SUPERVISOR = "worker supervisor"
    WORKER = "whole worker"

    @property
    def of_frontend(self) -> bool:
        """Whether it is part of a frontend; else it is part of a worker."""
        return self in (Target.SERVING, Target.ARBITER, Target.FRONTEND)


class Action(StrEnum):
    """What happens to it. What ends by it is started again: by its parent, or else by the benchmark."""

    KILL = "SIGKILL"
    PAUSE = "SIGSTOP, later SIGCONT"
    TERMINATE = "SIGTERM"
    HANG_UP = "SIGHUP"


PAUSE_S: Final = (0.5, 6.0)
"""The shortest and the longest pause; one longer than a watchdog's patience is a death, which is SIGKILL's to show."""


@dataclass(frozen=True)
class Fault:
    """One fault, on service number `number` of the target's kind."""

    target: Target
    action: Action
    number: int
    pause_s: float = 0.0


Kind = tuple[Target, Action]

KINDS: Final = [(target, action) for target in Target for action in Action]


def plan(seed: int, frontends: int, workers: int, kinds: Sequence[Kind] = KINDS) -> Iterator[Fault]:
    """Faults without end, the same for the same arguments.

    All kinds are shuffled and gone through, again and again, so that even a short run has many of them. Which service
    is hit is chance.
    """
    chance = random.Random(seed)
    pairs = list(kinds)
    while True:
        chance.shuffle(pairs)
        for target, action in pairs:
            number = chance.randrange(frontends if target.of_frontend else workers)
            yield Fault(target, action, number, chance.uniform(*PAUSE_S) if action is Action.PAUSE else 0.0)


def is_allowed(number: int, healthy: Sequence[bool]) -> bool:
    """Whether service `number` may be hit: another of its kind is healthy, so that somebody is left to go on."""
    return any(well for other, well in enumerate(healthy) if other != number)
