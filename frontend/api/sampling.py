"""How tokens are drawn and when generation ends: the API's fields, and vLLM's beyond it."""

from typing import Annotated, Any

from msgspec import Meta

from frontend.api.validation import ApiObject

_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
StopString = Annotated[str, Meta(min_length=1)]


class Sampling(ApiObject, frozen=True):
    """The sampling fields of a create request."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Fraction | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=16, le=_INT32_MAX)] | None = None


class ExtendedSampling(Sampling, frozen=True):
    """And vLLM's own fields, with vLLM's meaning (`vllm.SamplingParams`); the response echoes those that were sent."""

    top_k: Annotated[int, Meta(ge=-1, le=_INT32_MAX)] | None = None
    min_p: Fraction | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    seed: Annotated[int, Meta(ge=-_INT64_MAX - 1, le=_INT64_MAX)] | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=16)] | None = None
    ignore_eos: bool | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=_INT32_MAX)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    priority: Annotated[int, Meta(ge=-_INT32_MAX, le=_INT32_MAX)] | None = None
    cache_salt: Annotated[str, Meta(min_length=1)] | None = None
