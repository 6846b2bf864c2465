"""What the engine is doing, from the statistics that vLLM's scheduler sends with every step, and whether it lives."""

from collections.abc import Callable
from typing import Any

from engine_worker.engines.interface import EngineLoad


class LoadReading:
    """Keeps the newest scheduler statistics and counts steps and signs of life. Stands in for vLLM's own logger of
    statistics.

    With data parallelism there are several `engines`; all of them together give a sign of life when each has, so that
    one that hangs is not hidden by the others. `on_step` is called after each step with the number of tokens of the
    prompts that it began, of those that the prefix cache had, and of requests that run.
    """

    def __init__(self, engines: int = 1, on_step: Callable[[int, int, int], None] | None = None) -> None:
        self._engines = engines
        self._on_step = on_step
        self._heard: set[int] = set()
        self._steps = 0
        self._signs = 0
        self._running: dict[int, int] = {}  # by engine
        self._kv_use: dict[int, float] = {}
        self._prefix_queries = 0
        self._prefix_hits = 0

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,  # noqa: ARG002 - vLLM passes these by name
        mm_cache_stats: Any = None,  # noqa: ARG002
        engine_idx: int = 0,
    ) -> None:
        """Called after each step, by vLLM or `PlainOutputs`, of engine number `engine_idx`."""
        if scheduler_stats is not None:
            self._steps += 1
            self._running[engine_idx] = scheduler_stats.num_running_reqs
            self._kv_use[engine_idx] = scheduler_stats.kv_cache_usage
            prefix = scheduler_stats.prefix_cache_stats
            queries, hits = (prefix.queries, prefix.hits) if prefix is not None else (0, 0)
            self._prefix_queries += queries
            self._prefix_hits += hits
            if self._on_step is not None:
                self._on_step(queries, hits, scheduler_stats.num_running_reqs)
            self._heard.add(engine_idx)
            if len(self._heard) == self._engines:
                self.answered()

    def answered(self) -> None:
        """Each of the engines has shown that it lives."""
        self._signs += 1
        self._heard.clear()

    def load(self, turns: int) -> EngineLoad:
        """The load with `turns` unfinished turns.

        No step follows the end of the last one, so that statistics alone would show it as running for ever.
        """
        running = min(sum(self._running.values()), turns)
        return EngineLoad(
            step=self._steps,
            running=running,
            waiting=turns - running,
            kv_use=max(self._kv_use.values(), default=0.0) if turns else 0.0,
            signs=self._signs,
            prefix_queries=self._prefix_queries,
            prefix_hits=self._prefix_hits,
        )
