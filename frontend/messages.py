"""What the two cores of a frontend are told and what they ask for: `Hosts`, one a process, `Session`, one a reader.

A core's `handle(message, now)` takes one of its inputs and returns effects; the shells (`links.py`, `reading.py`) make
the inputs of what happened and carry the effects out. Nothing here does anything.
"""

from collections.abc import Sequence

import msgspec

from frontend.api.errors import ApiError
from protocol.commands import Command, Open
from protocol.records import Closed, ErrorDetail, FinishReason, Usage
from protocol.records import Status as Outcome
from protocol.reports import Attached, Batch, Report


class _Message(msgspec.Struct, frozen=True, gc=False):
    """Base of all: an immutable value."""


# ---- told to Hosts ---------------------------------------------------------------------------------------------------


class Beat(_Message, frozen=True):
    """The timer: `sockets` are the names of the workers whose sockets stand in the run directory."""

    sockets: frozenset[str]


class Heard(_Message, frozen=True):
    """A worker's report came in."""

    worker: str
    report: Report


class Undelivered(_Message, frozen=True):
    """A `Send` could not be queued: no connection to that worker, or its queue is full."""

    worker: str
    command: Command


class Create(_Message, frozen=True):
    """A client wants this response of `model`; `joins` when it may exist already (an `Idempotency-Key`)."""

    open: Open
    model: str
    joins: bool = False


class Find(_Message, frozen=True):
    """A client wants to read this response, wherever it is; `client` as in `Attach`."""

    reader: int
    response_id: str
    client: bool


class Take(_Message, frozen=True):
    """`reader` was made for a response that `worker` offered."""

    reader: int
    response_id: str
    worker: str


class Say(_Message, frozen=True):
    """A session has something to say to the worker that hosts it, or to all while it is looked for; else dropped."""

    reader: int
    command: Command


class Leave(_Message, frozen=True):
    """The session of `reader` has ended."""

    reader: int


class Erase(_Message, frozen=True):
    """A client has deleted this response: whichever worker has it forgets it, also when nobody reads it any more."""

    response_id: str


HostsInput = Beat | Heard | Undelivered | Create | Find | Take | Say | Leave | Erase

# ---- asked for by Hosts ----------------------------------------------------------------------------------------------


class Connect(_Message, frozen=True):
    """Open a channel to this worker."""

    worker: str


class Disconnect(_Message, frozen=True):
    """Close the channel to this worker, whose socket is gone."""

    worker: str


class Send(_Message, frozen=True):
    """Queue a command for a worker; `Undelivered` says when that can't be done."""

    worker: str
    incarnation: str
    command: Command


class Deliver(_Message, frozen=True):
    """Hand this to the session of `reader`."""

    reader: int
    message: "Attached | Again | Refusal | Lost"


class Distribute(_Message, frozen=True):
    """Hand each batch to the session of its reader: one effect for all that a message brought."""

    batches: Sequence[Batch]


class Adopt(_Message, frozen=True):
    """Make a session without a client for a response that this frontend owns now, and `Take` it."""

    worker: str
    response_id: str


class Note(_Message, frozen=True):
    """Worth a line in the log."""

    text: str


HostsEffect = Connect | Disconnect | Send | Deliver | Distribute | Adopt | Note

# ---- told to a Session, besides the reports `Attached` and `Batch` ---------------------------------------------------


class Again(_Message, frozen=True):
    """The worker may have lost sight of this reader, or we some of its messages, or the log is with another worker now:
    attach again by offset."""


class Refusal(_Message, frozen=True):
    """There is nothing to read, for this reason."""

    error: ApiError


class Lost(_Message, frozen=True):
    """No worker has the log any more, and what was not read of it will never come."""

    error: ErrorDetail


class Overflow(_Message, frozen=True):
    """More is queued for the client than `stream_buffer_bytes_max`."""


class Drained(_Message, frozen=True):
    """The client has read what was queued."""


class ClientGone(_Message, frozen=True):
    """The client's connection is over; `others` when further readers of this frontend read the response."""

    others: bool


class Silence(_Message, frozen=True):
    """Nothing was written for `keepalive_interval_s`.

    `away_s`: for how long the worker has been silent, when it counts as lost. `queue_position`: the response's place in
    the worker's queue, when it has one. `loading`: the worker is there, and its engine is not. `looking`: the worker is
    there and does not have the response; others are asked for it.
    """

    away_s: float | None = None
    queue_position: int | None = None
    loading: bool = False
    looking: bool = False


class Stopping(_Message, frozen=True):
    """This frontend ends; the client is to resume on another."""


SessionInput = Attached | Batch | Again | Refusal | Lost | Overflow | Drained | ClientGone | Silence | Stopping

# ---- asked for by a Session, besides `Say` and `Leave` ---------------------------------------------------------------


class Refuse(_Message, frozen=True):
    """Answer the client with this error; nothing was written yet."""

    error: ApiError


class Begin(_Message, frozen=True):
    """The answer's status is 200: send the headers."""


class Write(_Message, frozen=True):
    """Send these bytes to the client, at once and in one piece."""

    data: bytes


class Verdict(_Message, frozen=True):
    """End the response as its owner: with this outcome at the present time, or as its log says already (`closed`)."""

    epoch: int
    status: Outcome
    error: ErrorDetail | None
    closed: Closed | None = None


class Charge(_Message, frozen=True):
    """A turn of the response, which this frontend owns, has finished: it is counted, and charged to the key if there
    is one."""

    response_id: str
    turn: int
    key: str
    model: str
    reason: FinishReason
    usage: Usage


class Started(_Message, frozen=True):
    """A response in the background, which this frontend owns, has brought something: it can't be run anew."""


class End(_Message, frozen=True):
    """The session is over; there is no more to write."""


SessionEffect = Say | Leave | Refuse | Begin | Write | Verdict | Charge | Started | End

# ---- told to a Closing, besides `Attached`, `Batch`, `Again`, `Refusal` and `Lost` ----------------------------------


class Kept(_Message, frozen=True):
    """The store has the response, closed like this: as was asked, or as an owner before us had it closed.

    Of a `deleted` one it has nothing, and never will; whichever worker has it is to forget it.
    """

    closed: Closed
    deleted: bool = False


class Overruled(_Message, frozen=True):
    """The store has heard of a later owner."""


class Unkept(_Message, frozen=True):
    """The store has failed for `store_wait_s`; it is asked again and again."""


ClosingInput = Attached | Batch | Again | Refusal | Lost | Kept | Overruled | Unkept

# ---- asked for by a Closing, besides `Say`, `Leave`, `Erase` and `End` -----------------------------------------------


class Keep(_Message, frozen=True):
    """Store the response, with these records of its log (encoded) and `Closed` after them where it isn't the last."""

    records: tuple[bytes, ...]


ClosingEffect = Say | Leave | Erase | Keep | End
