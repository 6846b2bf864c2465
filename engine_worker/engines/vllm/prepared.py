"""What the journal keeps of a rendered turn, so that a resume renders nothing: the `state` of a `TurnPrepared`."""

import msgspec
from vllm.sampling_params import SamplingParams

from engine_worker.engines.vllm.replay import not_resumable
from engine_worker.engines.vllm.request import Json


class PreparedTurn(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A rendered turn but for its prompt's token ids (compare `rendering.RenderedTurn`).

    `request` is vLLM's request as rendering changed it, as JSON and without its input. `text_only` is false for a
    prompt that is more than its token ids; such a turn can't be resumed.
    """

    fingerprint: str
    sampling: SamplingParams
    request: bytes
    parser_options: Json
    cache_salt: str | None
    priority: int
    text_only: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PreparedTurn).decode


def encode_prepared(prepared: PreparedTurn) -> bytes:
    """The `state` of a `TurnPrepared`."""
    return _encode(prepared)


def decode_prepared(state: bytes, fingerprint: str) -> PreparedTurn:
    """Read a `state`. Raises `TurnRejected` where an engine of this `fingerprint` can't go on with that turn."""
    try:
        prepared = _decode(state)
    except msgspec.DecodeError as error:
        raise not_resumable("it was prepared by an engine of another kind") from error
    if prepared.fingerprint != fingerprint:
        raise not_resumable("the model, its template, its parsers or vLLM are not the ones it began with")
    if not prepared.text_only:
        raise not_resumable("its prompt is more than text")
    return prepared
