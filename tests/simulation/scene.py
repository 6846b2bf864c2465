"""What all parties of a simulation share."""

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine_worker.config import Settings as WorkerSettings
from frontend.config import Settings as FrontendSettings
from tests.simulation.directory import Directory
from tests.simulation.store import Store
from tests.simulation.timeline import Timeline, Trace
from tests.simulation.wire import Wire
from tests.simulation.witness import Witness

if TYPE_CHECKING:
    from tests.simulation.frontend import FrontendProcess
    from tests.simulation.worker import WorkerProcess


@dataclass
class Scene:
    """Time, the wire, the store, the journals by worker, and the processes that live now, by slot."""

    chance: random.Random
    timeline: Timeline
    wire: Wire
    store: Store
    witness: Witness
    trace: Trace
    worker_settings: WorkerSettings
    frontend_settings: FrontendSettings
    directories: dict[str, Directory]
    workers: "dict[str, WorkerProcess]" = field(default_factory=dict)
    frontends: "dict[str, FrontendProcess]" = field(default_factory=dict)

    def new_chance(self) -> random.Random:
        """One of its own for a party, so that what it does depends on nobody else's luck."""
        return random.Random(self.chance.random())

    def living_frontends(self) -> "list[FrontendProcess]":
        return [frontend for frontend in self.frontends.values() if frontend.alive]
