"""What a worker says to a frontend: one union, read by one `match`."""

from typing import Literal

import msgspec

from protocol.records import ErrorDetail, SamplingDefaults, Wire

Phase = Literal["loading", "ready", "draining"]

TOOK_IDS_MAX = 1_000
"""How many ids one `Took` names at most; a worker that took more sends several."""


class ModelCard(Wire, frozen=True):
    """A model the worker serves: its name, other names it answers to, and its context length in tokens."""

    name: str
    aliases: tuple[str, ...] = ()
    context_tokens: int = 0
    created_at: int = 0
    sampling: SamplingDefaults = SamplingDefaults()


class Welcome(Wire, frozen=True, tag="welcome"):
    """Answer to the first `Hello` from a frontend that this worker does not know, or no longer knows.

    The frontend counts messages from zero again, and attaches all its readers of this worker again.
    """

    worker: str
    incarnation: str
    version: int


class Refused(Wire, frozen=True, tag="refused"):
    """The peer speaks no version this worker speaks; `versions` are the ones it does."""

    message: str
    versions: tuple[int, ...]


class Stale(Wire, frozen=True, tag="stale"):
    """A command was meant for another incarnation and was not carried out; say `Hello` again."""

    incarnation: str


class Missed(Wire, frozen=True, tag="missed"):
    """Commands of this frontend were lost on their way (`Hello.sent`): say again all that should be so."""


class Attached(Wire, frozen=True, tag="attached"):
    """`reader` is attached; the log held `end` records at that moment, which follow in `Records`."""

    reader: int
    end: int


class Rejected(Wire, frozen=True, tag="rejected"):
    """The `Open` of `reader` created nothing; `error` says whose fault it was and which parameter's.

    `retry_after_s`: in how many seconds it may be tried again, with the code `queue_full`; otherwise 0.
    """

    reader: int
    error: ErrorDetail
    retry_after_s: int = 0


class Unknown(Wire, frozen=True, tag="unknown"):
    """The response `reader` asked for is not (or no longer) on this worker."""

    reader: int


class Batch(Wire, frozen=True):
    """Records of one response for one reader: encoded `Record`s, the first standing at `offset`."""

    reader: int
    offset: int
    records: tuple[msgspec.Raw, ...]


class Records(Wire, frozen=True, tag="records"):
    """All that one engine step (or one slice of a replay) brought for this frontend's readers."""

    batches: tuple[Batch, ...]


class Offered(Wire, frozen=True, tag="offered"):
    """This frontend owns the response from `epoch` on; repeated with every heartbeat until it attaches a reader."""

    response_id: str
    epoch: int


class Took(Wire, frozen=True, tag="took"):
    """These responses, which another worker hosted, are here now: at most `TOOK_IDS_MAX` ids a report.

    It goes to every frontend that the worker knows, and before the former host can answer anybody that they are
    unknown to it. A frontend that becomes acquainted later is not told: it asks every worker anyway.
    `dead`, in the last of them, is the incarnation that hosted them, which is no more: all that it left was named.
    """

    response_ids: tuple[str, ...]
    dead: str = ""


class QueuePlace(Wire, frozen=True):
    """How many requests must start before this reader's response does; 1 is next."""

    reader: int
    position: int


class Status(Wire, frozen=True, tag="status"):
    """The worker's heartbeat.

    `sent` counts the messages sent to this frontend since its `Welcome`, this one included: a frontend that received
    fewer has lost some (a full queue) and attaches its readers again. `step` counts engine steps; `kv_use` is the
    fraction (0 to 1) of the key-value cache in use; `log_bytes` what the response logs take, `journal_bytes` their
    journals. `prefix_queries` counts the prompt tokens looked up in the prefix cache, `prefix_hits` those it had.
    `retry_after_s` is 0 unless the worker's queue is full, and would not have run empty by the next heartbeats: as in
    `Rejected`, then.
    `confirmed` is the `sent` of the last `Hello` all of whose commands arrived, -1 if there was none.
    """

    phase: Phase
    sent: int
    step: int = 0
    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0
    log_bytes: int = 0
    models: tuple[ModelCard, ...] = ()
    queue: tuple[QueuePlace, ...] = ()
    retry_after_s: int = 0
    journal_bytes: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    confirmed: int = -1


class Goodbye(Wire, frozen=True, tag="goodbye"):
    """The worker ends now; its unfinished responses go on elsewhere, or when it is back. `reason` is for the log.

    `sent` is as in `Status`: a frontend that received fewer messages can't tell what became of an `Open` that it has
    seen no answer to. One that received all knows that nothing came of it.
    """

    reason: str
    sent: int = -1


Report = (
    Welcome | Refused | Stale | Missed | Attached | Rejected | Unknown | Records | Offered | Took | Status | Goodbye
)
