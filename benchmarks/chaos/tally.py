"""What is counted in a run of the chaos benchmark."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from benchmarks.chaos.faults import Kind
from benchmarks.chaos.recording import Difference

EXAMPLES_MAX: Final = 20

Struck = Counter[Kind]


@dataclass(frozen=True)
class Sample:
    """What all processes of a deployment hold at one moment."""

    at_s: float
    processes: int
    rss_bytes: int
    files_open: int
    journals: int


@dataclass
class Tally:
    """All of it. Times are seconds."""

    streams: int = 0
    events: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    clients: Difference = field(default_factory=Difference)
    observers: Difference = field(default_factory=Difference)
    examples: list[str] = field(default_factory=list)
    """The first `EXAMPLES_MAX` streams that differed: which response, who read it, and where it began."""
    reconnects: Counter[str] = field(default_factory=Counter)
    """By what made them necessary."""
    open_gaps_s: list[float] = field(default_factory=list)
    """Between two arrivals of events at a client whose connection stayed open: the worker's faults show here."""
    broken_gaps_s: list[float] = field(default_factory=list)
    """Those with at least one reconnect in between: the frontends' faults, and the client's patience, show here."""
    answered_s: list[float] = field(default_factory=list)
    """From a client's first request after its connection broke to the head of a 200."""
    resumed_s: list[float] = field(default_factory=list)
    """From that request to the first new event."""

    faults: Struck = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    lags_s: list[float] = field(default_factory=list)
    """How late the load's own event loop was."""
    left: dict[str, int] = field(default_factory=dict)
    """What was more than there should be when all was over."""
