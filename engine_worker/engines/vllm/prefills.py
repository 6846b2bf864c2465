"""Prompts are let into the engine a few a step, where vLLM doesn't cut them up (chunked prefill, which a CPU lacks).

A step takes all prompts that wait. Those of a burst of requests would be one long step: nobody gets a first token
before its end, and no stream that runs goes on. In portions they take as long together, and most have theirs sooner.
But each portion is a gap in every stream that runs, so portions grow with these: most of a burst is in with the third.

What the prefix cache holds of a prompt takes no time, and counts for nothing. How much that is of the next prompts
nobody knows before they are in; it is taken to be as much as of the last ones.
"""

import asyncio
from typing import Final

TOKENS_MAX: Final = 512
"""Prompt tokens to be computed in a step without running streams, unless one prompt is longer. Of 128, 256 and 512 the
one with which 128 requests at once to the demo model had their first tokens soonest, and then the shortest gaps."""
TOKENS_PER_STREAM: Final = 48
"""And so many more for each stream that runs. Of 0, 24 and 48 the one with which 128 requests at once had the shortest
gaps (p99), and still had their first tokens sooner than all in one step."""
COMPUTED_MIN: Final = 1 / 8
"""The least share of prompts that is taken to be computed: a step grows no further where they turn out to be new."""
HOLD_S: Final = 0.5
"""For how long a prompt is held back at most: what the engine has no room for waits inside it, and counts there."""


class Prefills:
    """Belongs to the running event loop. `stepped` is to be called after every step of the engine."""

    def __init__(self) -> None:
        self._since_step = 0  # tokens
        self._running = 0  # streams
        self._computed = 1.0  # share of the last prompts
        self._held: dict[asyncio.Future[None], int] = {}

    def __repr__(self) -> str:
        return f"<Prefills: {self._since_step} tokens since the last step, {len(self._held)} prompts held>"

    async def admit(self, tokens: int, turns: int) -> None:
        """Return when a prompt of so many tokens may be queued; the first to come is the first to go.

        So many `turns` are with the engine now: no step follows the end of the last one, to say that it runs no more.
        """
        self._running = min(self._running, turns)
        if not self._held and self._has_room_for(tokens):
            self._since_step += tokens
            return
        loop = asyncio.get_running_loop()
        admission = loop.create_future()
        self._held[admission] = tokens
        timer = loop.call_later(HOLD_S, self._admit_first)
        try:
            await admission
        finally:
            timer.cancel()
            self._held.pop(admission, None)

    def stepped(self, tokens: int, cached: int, running: int) -> None:
        """The engine has taken in what it was given, and will now take in more.

        The step began prompts of so many tokens, and had so many of these in its cache; so many streams run.
        """
        self._since_step = 0
        self._running = running
        if tokens:
            self._computed = max(COMPUTED_MIN, (self._computed + 1 - cached / tokens) / 2)
        while self._held and self._has_room_for(next(iter(self._held.values()))):
            self._admit_first()

    def _has_room_for(self, tokens: int) -> bool:
        tokens_max = TOKENS_MAX + self._running * TOKENS_PER_STREAM
        return not self._since_step or (self._since_step + tokens) * self._computed <= tokens_max

    def _admit_first(self) -> None:
        if self._held:
            first = next(iter(self._held))
            self._since_step += self._held.pop(first)
            if not first.done():  # else its turn was given up, of which it is about to hear
                first.set_result(None)
