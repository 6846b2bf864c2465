"""What the scheduler says, kept true when it says nothing."""

from types import SimpleNamespace

import msgspec

from engine_worker.engines.interface import EngineLoad
from engine_worker.engines.vllm.load import LoadReading


def stats(running: int, kv_use: float) -> SimpleNamespace:
    prefix = SimpleNamespace(queries=10, hits=4)
    return SimpleNamespace(num_running_reqs=running, kv_cache_usage=kv_use, prefix_cache_stats=prefix)


def load(steps: int, **fields: float) -> EngineLoad:
    """After so many steps, each of which looked 10 tokens up in the prefix cache and found 4."""
    return msgspec.structs.replace(EngineLoad(step=steps, prefix_queries=10 * steps, prefix_hits=4 * steps), **fields)


def test_turns_that_do_not_run_wait() -> None:
    reading = LoadReading()
    reading.record(stats(2, 0.25), None)
    assert reading.load(turns=5) == load(1, running=2, waiting=3, kv_use=0.25, signs=1)


def test_nothing_runs_without_turns_though_no_step_said_so() -> None:
    reading = LoadReading()
    reading.record(stats(2, 0.25), None)
    assert reading.load(turns=1) == load(1, running=1, waiting=0, kv_use=0.25, signs=1)
    assert reading.load(turns=0) == load(1, signs=1)


def test_several_engines_are_added_up() -> None:
    reading = LoadReading(engines=2)
    reading.record(stats(2, 0.25), None, engine_idx=0)
    reading.record(stats(3, 0.5), None, engine_idx=1)
    reading.record(None, None, engine_idx=1)
    assert reading.load(turns=6) == load(2, running=5, waiting=1, kv_use=0.5, signs=1)


def test_one_engine_that_is_silent_is_not_hidden_by_the_others() -> None:
    reading = LoadReading(engines=2)
    for _ in range(10):
        reading.record(stats(2, 0.25), None, engine_idx=0)
    assert reading.load(turns=4).signs == 0
    reading.record(stats(2, 0.25), None, engine_idx=1)
    assert reading.load(turns=4).signs == 1


def test_an_answer_is_a_sign_of_life_as_a_step_is() -> None:
    reading = LoadReading()
    reading.answered()
    reading.record(stats(1, 0.25), None)
    assert reading.load(turns=1).signs == 2
