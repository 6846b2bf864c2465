"""What a frontend says to a worker: one union, read by one `match`.

Commands may be repeated: each states what should be so (this response exists, this reader is at that offset), never
what to change relative to before. All but `Hello` are addressed to one incarnation of the worker (`Addressed`), because
ZeroMQ hands what was queued for a dead process to its successor.
"""

from protocol.records import Dialect, ErrorDetail, Status, Wire


class Hello(Wire, frozen=True, tag="hello"):
    """The frontend's first words and, repeated every `heartbeat_interval_s`, its heartbeat.

    `version` is the protocol's; `frontend_id` names this process's life and equals its ZeroMQ routing id. `sent` counts
    the commands (other than this one) sent to the incarnation that this is addressed to, -1 where they are not counted:
    a worker that received fewer has the others said again (`Missed`).
    """

    version: int
    frontend_id: str
    sent: int = -1


class Open(Wire, frozen=True, tag="open"):
    """Create the response, own it, and read it from offset 0 as `reader`.

    Answered by `Attached` or `Rejected`. Where the response exists already with the same `asked` and, but under an
    `Idempotency-Key`, the same `request`, it is only read; else it is rejected with `idempotency_mismatch`.
    The fields from `request` to `asked` become those of `Opened`. `prompt_tokens` is an estimate, by which the worker
    bounds its queue; what was `accepted` before, and is to run again, no bound on the queue refuses.
    """

    reader: int
    response_id: str
    created_at: int
    request: bytes
    dialect: Dialect = "openai"
    obfuscate: bool = False
    tenant: str = ""
    background: bool = False
    history_items: int = 0
    key: str = ""
    asked: bytes = b""
    prompt_tokens: int = 0
    accepted: bool = False


class Attach(Wire, frozen=True, tag="attach"):
    """Read the response from `from_offset` on; answered by `Attached` or `Unknown`.

    `reader` is chosen by the frontend and unique among its readers; attaching a reader again moves it. `client` says
    that a client waits behind this reader, which keeps the grace timer from running.
    """

    reader: int
    response_id: str
    from_offset: int
    client: bool


class Pause(Wire, frozen=True, tag="pause"):
    """Send this reader nothing until it attaches again; its client is still there (a slow consumer)."""

    reader: int


class Detach(Wire, frozen=True, tag="detach"):
    """This reader is done."""

    reader: int


class Close(Wire, frozen=True, tag="close"):
    """The owner's verdict: append `Closed`. Refused when `epoch` is not the current one, or it is closed already.

    With `unstored` the log is kept, and offered to another frontend should the owner be lost, until `Stored`.
    """

    response_id: str
    epoch: int
    status: Status
    at: int
    error: ErrorDetail | None = None
    unstored: bool = False


class Stored(Wire, frozen=True, tag="stored"):
    """This response, which was closed `unstored`, is stored by now: its log is as any other closed one. The owner's."""

    response_id: str
    epoch: int


class Abort(Wire, frozen=True, tag="abort"):
    """A client asks for the end of this response. Any frontend may pass it on; a closed response ignores it."""

    response_id: str


class Delete(Wire, frozen=True, tag="delete"):
    """Forget this response: a live one ends first, as after `Abort`. Any frontend may pass it on."""

    response_id: str


class Release(Wire, frozen=True, tag="release"):
    """This closed response is stored: its log may go when nobody reads it. Only the last owner says so."""

    response_id: str
    epoch: int


Command = Hello | Open | Attach | Pause | Detach | Close | Abort | Delete | Stored | Release


class Addressed(Wire, frozen=True):
    """A command and the incarnation of the worker it was meant for (`""` in the first `Hello`, which asks for it)."""

    incarnation: str
    command: Command
