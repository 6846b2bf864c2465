"""The response log: what may stand in it, and nothing else.

Theory of operation
    A live response *is* its log: records at offsets 0, 1, 2, ... appended by the one worker that hosts it and never
    changed. Everything a client sees, the SSE events, the JSON answer, the stored response, is a pure fold of these
    records, so any frontend that reads them from offset 0 rebuilds the same bytes. Therefore a record holds facts
    (what was asked, which tokens came, when) and no presentation (no event names, item ids or sequence numbers).

    Opened          offset 0, once: the request as it was accepted
    OwnerGranted    offset 1, and again whenever another frontend takes over
    TurnStarted     the prompt is rendered and queued; one engine run begins
    Step*           what one engine step brought: token ids, and the deltas the parsers made of them
    Progress*       a sign of life after a long silence
    TurnFinished    the engine run ended, with its reason and usage
    CancelRequested somebody asked for the end, or every client stayed away past the grace
    DeleteRequested it is to end and to be forgotten: whoever closes it does not store it
    Closed          exactly one, last: the outcome

Records are msgspec arrays with the tag first: compact, and fields can only ever be appended (with a default), which is
what lets version N read the logs of N-1.
"""

from typing import Literal

import msgspec

FOLD_VERSION = 1
"""Version of the rules that turn records into events; written into `Opened`, so that a log is folded as it began."""

Dialect = Literal["openai", "open-responses"]
FinishReason = Literal["stop", "length", "aborted", "error"]
Status = Literal["completed", "incomplete", "failed", "cancelled"]
CancelCause = Literal["client", "disconnected"]


class Wire(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """Base of everything that is sent: an immutable array on the wire, without cyclic-garbage-collector overhead."""


class ErrorDetail(Wire, frozen=True):
    """An error in the API's own terms (spec: "Errors").

    `type` is the API's error type and decides the HTTP status (`invalid_request_error` is the client's fault);
    `param` is the path of the offending request field, such as `input[0].content`.
    """

    type: str
    code: str
    message: str
    param: str | None = None


class Usage(Wire, frozen=True):
    """Token counts of one turn; `cached_tokens` are part of the input, `reasoning_tokens` part of the output."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


class TopLogprob(Wire, frozen=True):
    """One alternative token at a position, with its natural-log probability."""

    token: str
    logprob: float


class TokenLogprob(Wire, frozen=True):
    """The token chosen at a position, its natural-log probability, and the best alternatives, best first."""

    token: str
    logprob: float
    top: tuple[TopLogprob, ...] = ()


class TextDelta(Wire, frozen=True, tag="text"):
    """More of the answer's text; empty where it has begun, and there is nothing of it to show yet. `logprobs` holds one
    entry per token where the request asked for them."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(Wire, frozen=True, tag="reasoning"):
    """More of the model's reasoning; `ended` where it is known to be over before anything else has come."""

    text: str
    ended: bool = False


class ToolCallDelta(Wire, frozen=True, tag="tool"):
    """More of the turn's tool call number `index` (from 0): its `name` in the first delta, then argument text."""

    index: int
    name: str | None = None
    arguments: str = ""


Delta = TextDelta | ReasoningDelta | ToolCallDelta


class SamplingDefaults(Wire, frozen=True):
    """What a model is sampled with where the request does not say: its own recommendation, where it has one."""

    temperature: float = 1.0
    top_p: float = 1.0


class Opened(Wire, frozen=True, tag="opened"):
    """The request as accepted.

    `request` is the create body as JSON (validated, nulls removed); `created_at` is in whole Unix seconds, as the API
    gives it. `dialect` and `obfuscate` hold for every later reader of the response. `sampling` is the model's, as it
    was when the response began. Only `tenant` may see it, and its tokens are charged to the API key named `key`. A
    `background` response goes on without any client. Of the request's input the first `history_items` items are what
    was said before it, not its own.
    """

    response_id: str
    created_at: int
    request: bytes
    dialect: Dialect = "openai"
    obfuscate: bool = False
    fold_version: int = FOLD_VERSION
    sampling: SamplingDefaults = SamplingDefaults()
    tenant: str = ""
    background: bool = False
    history_items: int = 0
    key: str = ""
    asked: bytes = b""


class OwnerGranted(Wire, frozen=True, tag="owner"):
    """From here on `frontend_id` drives the response; commands of a lower `epoch` are refused."""

    frontend_id: str
    epoch: int


class TurnStarted(Wire, frozen=True, tag="turn"):
    """Engine run number `turn` (from 0) is queued with a prompt of `prompt_tokens` tokens."""

    turn: int
    prompt_tokens: int


class Step(Wire, frozen=True, tag="step"):
    """One engine step of this response: its token ids (also when no text came out of them) and their deltas."""

    token_ids: tuple[int, ...]
    deltas: tuple[Delta, ...] = ()


class Progress(Wire, frozen=True, tag="progress"):
    """Still at work after `progress_interval_s` without a record; `at` is in Unix seconds."""

    at: float


class TurnFinished(Wire, frozen=True, tag="finished"):
    """The engine run ended; `error` is set when and only when `reason` is `error`."""

    reason: FinishReason
    usage: Usage
    error: ErrorDetail | None = None


class CancelRequested(Wire, frozen=True, tag="cancel"):
    """The response is to end: a client asked, or all clients stayed away longer than the grace."""

    cause: CancelCause


class DeleteRequested(Wire, frozen=True, tag="delete"):
    """The response is to end, and nothing of it is to be kept."""


class Closed(Wire, frozen=True, tag="closed"):
    """The outcome; always the last record. `at` is in whole Unix seconds.

    `unstored`: it is to be stored, and the store failed for so long that readers were not kept waiting for it.
    """

    status: Status
    at: int
    error: ErrorDetail | None = None
    unstored: bool = False


Record = (
    Opened | OwnerGranted | TurnStarted | Step | Progress | TurnFinished | CancelRequested | DeleteRequested | Closed
)
