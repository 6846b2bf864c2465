"""What goes into the actor and what comes out of it: one union each, the whole of its dealings visible at once."""

from typing import Literal

import msgspec

from engine_worker.engines.interface import EngineLoad, Turn, TurnRecord
from engine_worker.journal import Journal
from protocol.commands import Addressed
from protocol.records import ErrorDetail
from protocol.reports import ModelCard, Report


class _Item(msgspec.Struct, frozen=True, gc=False):
    """Base of everything below: short-lived and free of cycles."""


class Recovered(_Item, frozen=True):
    """The journals that an earlier process left behind; the first input of all. `unix_time` is in seconds."""

    journals: tuple[Journal, ...]
    unix_time: float


class TookOver(_Item, frozen=True):
    """Journals that the dead worker named `worker` left behind, which are this worker's from now on; its lock is held
    until the effects of this are carried out. With the last of them, the incarnation whose they were: `dead`."""

    worker: str
    journals: tuple[Journal, ...]
    unix_time: float
    dead: str = ""


class JournalFailed(_Item, frozen=True):
    """A `WriteJournal` did not happen, and the journal is no more; `reason` is the system's."""

    response_id: str
    reason: str


class JournalSynced(_Item, frozen=True):
    """A `SyncJournal` is done: the disk has the response's journal."""

    response_id: str


class Emitted(_Item, frozen=True):
    """The engine handed over the next records of some turns, each with its response's id: all of one burst, as an
    engine step brings it. They are published at once."""

    records: tuple[tuple[str, TurnRecord], ...]


class FlushDue(_Item, frozen=True):
    """The burst of input that asked for `FlushSoon` is over."""


class ReplayDue(_Item, frozen=True):
    """The time asked for by `ReplayIn` has come."""


class Received(_Item, frozen=True):
    """A command came in from the frontend whose routing id is `sender`."""

    sender: bytes
    addressed: Addressed


class SendFailed(_Item, frozen=True):
    """A `Send` did not happen: `full` when the frontend's queue has no room, else it is not there any more."""

    address: bytes
    report: Report
    full: bool


class TurnQueued(_Item, frozen=True):
    """`StartTurn` succeeded: the prompt is rendered and queued."""

    response_id: str


class TurnRefused(_Item, frozen=True):
    """`StartTurn` failed; nothing was queued."""

    response_id: str
    error: ErrorDetail


class EngineReady(_Item, frozen=True):
    """The engine is built and takes turns for these models."""

    models: tuple[ModelCard, ...]


class Ticked(_Item, frozen=True):
    """`heartbeat_interval_s` has passed: time to look at every timer. `unix_time` is in seconds."""

    load: EngineLoad
    unix_time: float


class DrainRequested(_Item, frozen=True):
    """Take no new work, let live responses finish for `drain_s`, then stop."""


class StopRequested(_Item, frozen=True):
    """Stop now: whoever runs this worker is in a hurry."""

    reason: str


class EngineFailed(_Item, frozen=True):
    """The engine is dead and this worker ends; `load` is what the engine was doing when it was last heard of."""

    reason: str
    load: EngineLoad


Input = (
    Recovered
    | TookOver
    | JournalFailed
    | JournalSynced
    | Emitted
    | FlushDue
    | ReplayDue
    | Received
    | SendFailed
    | TurnQueued
    | TurnRefused
    | EngineReady
    | Ticked
    | DrainRequested
    | StopRequested
    | EngineFailed
)


class Send(_Item, frozen=True):
    """Queue a report for the frontend with this routing id; a failure comes back next as `SendFailed`."""

    address: bytes
    report: Report


class WriteJournal(_Item, frozen=True):
    """Append these entries to the response's journal, before anything that comes after this is done.

    `volatile`: it is kept where no disk is. `first`: begin it. `last`: nothing more will be written to it. What can't
    be appended to is removed at once, for it must not tell less than readers were told; then comes `JournalFailed`.
    """

    response_id: str
    entries: bytes
    volatile: bool
    first: bool
    last: bool


class SyncJournal(_Item, frozen=True):
    """Have the disk keep the response's journal as it is now; then comes `JournalSynced`, or `JournalFailed`."""

    response_id: str
    volatile: bool


class UnlinkJournal(_Item, frozen=True):
    """Remove the response's journal; there may be none."""

    response_id: str
    volatile: bool


class RecordFailed(_Item, frozen=True):
    """A record that the engine handed over could not be taken in, by a fault of our own; the others were."""

    response_id: str
    error: Exception


class StartTurn(_Item, frozen=True):
    """Have the engine render and queue this turn; the answer comes back as `TurnQueued` or `TurnRefused`."""

    turn: Turn


class AbortTurn(_Item, frozen=True):
    """Have the engine end this response's turn early."""

    response_id: str


class FlushSoon(_Item, frozen=True):
    """Give `FlushDue` once whatever is at hand has been handled."""


class ReplayIn(_Item, frozen=True):
    """Give `ReplayDue` after so many seconds."""

    delay_s: float


class EngineHangs(_Item, frozen=True):
    """The engine hangs, for this reason: it is to end as one that died."""

    reason: str


class Note(_Item, frozen=True):
    """Tell the operator."""

    level: Literal["debug", "info", "warning"]
    text: str


class Stop(_Item, frozen=True):
    """It is over: every frontend has been told."""

    reason: str


Effect = (
    Send
    | WriteJournal
    | SyncJournal
    | UnlinkJournal
    | RecordFailed
    | StartTurn
    | AbortTurn
    | FlushSoon
    | ReplayIn
    | EngineHangs
    | Note
    | Stop
)
