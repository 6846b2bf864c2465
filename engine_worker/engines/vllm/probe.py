"""Asks a silent vLLM whether it lives: it does not notice by itself that EngineCore or a worker below stands still."""

import asyncio
from typing import Any

from engine_worker.engines.interface import EngineLoad
from engine_worker.engines.vllm.load import LoadReading


class Probe:
    """Asks `llm` (an AsyncLLM) while it has work and gave no sign of life since the last look; an answer is one.

    EngineCore answers between two steps, also when it has nothing to step. There is one question at most at a time, so
    a core that stands still finds no more than one when it goes on.
    """

    def __init__(self, llm: Any, reading: LoadReading) -> None:
        self._llm = llm
        self._reading = reading
        self._signs = 0
        self._question: asyncio.Task[None] | None = None

    def look(self, load: EngineLoad) -> None:
        """To be called with each heartbeat, on the event loop."""
        silent = load.signs == self._signs
        self._signs = load.signs
        if silent and load.running + load.waiting > 0 and self._question is None:
            self._question = asyncio.create_task(self._ask())
            self._question.add_done_callback(self._asked)

    async def _ask(self) -> None:
        await self._llm.is_paused()  # Any cheap question would do; this one each engine has to answer.
        self._reading.answered()

    def _asked(self, question: asyncio.Task[None]) -> None:
        self._question = None
        if not question.cancelled():
            question.exception()  # vLLM is dead, of which others tell: it is no answer, and that is all.

    async def close(self) -> None:
        """Wait for no answer any more."""
        if self._question is not None:
            self._question.cancel()
            await asyncio.gather(self._question, return_exceptions=True)
