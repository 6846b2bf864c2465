"""What a worker keeps in mind: responses, frontends, and the readers that join them. Plain records, no rules.

A `Reader` stands in its peer's and in its response's table at once; `engine_worker.publishing` alone adds and removes
it. A live `Response` stands in its owner's table; `engine_worker.ownership` alone changes that.
"""

import enum
from dataclasses import dataclass, field

from engine_worker.engines.interface import TurnPrepared
from engine_worker.logs import ResponseLog


class Pace(enum.Enum):
    """How a reader is served: with each flush; in slices, since it is behind; or not until it attaches again."""

    LIVE = enum.auto()
    REPLAY = enum.auto()
    PAUSED = enum.auto()


@dataclass(eq=False, slots=True)
class Peer:
    """A frontend that said Hello; `sent` counts the messages meant for it since its Welcome. Times in seconds.

    `received` counts its commands to this incarnation as it does itself, `confirmed` those of which none was lost.
    `speaks_to_another`: it addressed an earlier incarnation, so that its Welcome is on its way to it, or was lost.
    """

    address: bytes
    frontend_id: str
    heard_at: float
    welcomed_at: float = 0.0
    sent: int = 0
    received: int = 0
    confirmed: int = -1
    speaks_to_another: bool = False
    readers: dict[int, "Reader"] = field(default_factory=dict)
    owned: dict[str, "Response"] = field(default_factory=dict)

    def reads(self, response: "Response") -> bool:
        """Whether one of this frontend's readers is on the response."""
        return any(reader.peer is self for reader in response.readers)


@dataclass(eq=False, slots=True)
class Response:
    """A response on this worker: its log, when that last grew, since when no client waits for it (None: one does), who
    drives it at which epoch, who reads it, which turn is its last, and whether that
    runs.

    Its journal takes `journal_bytes` (0: it has none), on a disk or not (`volatile`). `interrupted` is set while its
    turn waits for an engine to go on in, after the one that it ran in has died.
    """

    log: ResponseLog
    recorded_at: float
    clientless_since: float | None
    volatile: bool = False
    journal_bytes: int = 0
    interrupted: TurnPrepared | None = None
    owner: Peer | None = None
    epoch: int = 0
    turn: int = 0
    readers: dict["Reader", None] = field(default_factory=dict)
    turn_running: bool = True
    cancel_requested: bool = False
    delete_requested: bool = False
    unstored: bool = False
    released: bool = False
    background: bool = False

    @property
    def response_id(self) -> str:
        return self.log.response_id

    @property
    def can_be_cancelled(self) -> bool:
        """Whether its turn runs and nobody has asked for its end yet."""
        return self.turn_running and not self.cancel_requested and not self.log.closed

    def is_deserted(self, now: float, grace_s: float) -> bool:
        """Whether no client has waited for it for the whole grace; one in the background needs none."""
        since = self.clientless_since
        return since is not None and not self.background and now - since >= grace_s

    @property
    def has_client(self) -> bool:
        """Whether a client waits behind any reader, on whichever frontend."""
        return any(reader.client for reader in self.readers)


@dataclass(eq=False, slots=True)
class Reader:
    """A frontend's cursor on a response: `next` is the offset of the first record it has not been sent."""

    peer: Peer
    number: int
    response: Response
    next: int
    client: bool
    pace: Pace = Pace.REPLAY

    @property
    def behind(self) -> bool:
        return self.next < len(self.response.log)
