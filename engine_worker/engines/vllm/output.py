"""What one step of the engine brought one turn: of vLLM's RequestOutput, what a turn needs."""

from collections.abc import Sequence
from typing import Any, Self

import msgspec
from vllm.outputs import RequestOutput


class Output(msgspec.Struct, frozen=True, gc=False):
    """`text` and tokens are those that are new; so are `logprobs`, a mapping for each token, where they were asked for.

    `finish_reason` is vLLM's word for it, and None until the turn has ended; `cached_tokens` are the prompt's.
    """

    token_ids: Sequence[int]
    text: str
    logprobs: Any
    finish_reason: str | None
    cached_tokens: int

    @classmethod
    def of(cls, output: RequestOutput) -> Self:
        """What is in vLLM's own object, of a request for one answer in deltas."""
        completion = output.outputs[0]
        return cls(
            token_ids=completion.token_ids,
            text=completion.text,
            logprobs=completion.logprobs,
            finish_reason=completion.finish_reason,
            cached_tokens=output.num_cached_tokens or 0,
        )
