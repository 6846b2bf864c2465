"""Prompts go in a few a step, in their order, and none is held back for long; in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from engine_worker.engines.vllm.prefills import COMPUTED_MIN, HOLD_S, TOKENS_MAX, TOKENS_PER_STREAM, Prefills
from tests import virtual

THIRD = TOKENS_MAX // 3


class Burst:
    """Prompts that come at once, and which of them are in."""

    def __init__(self, *tokens: int) -> None:
        self.prefills = Prefills()
        self.admitted: list[int] = []
        self.tasks = [asyncio.create_task(self._admit(number, each)) for number, each in enumerate(tokens)]

    async def _admit(self, number: int, tokens: int) -> None:
        await self.prefills.admit(tokens, turns=len(self.admitted))
        self.admitted.append(number)

    async def after_step(self, tokens: int = 0, cached: int = 0, running: int = 0) -> list[int]:
        """Those that are in after one more step, which began prompts of so many tokens; so many streams run."""
        self.prefills.stepped(tokens, cached, running)
        return await self.now()

    async def now(self) -> list[int]:
        """Those that are in."""
        for _ in range(3):
            await asyncio.sleep(0)
        return self.admitted


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run it on a loop whose clock leaps."""

    async def main() -> None:
        await test()

    def run() -> None:
        virtual.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@in_virtual_time
async def test_those_of_a_burst_go_in_in_portions_one_a_step() -> None:
    burst = Burst(*[THIRD] * 8)
    assert await burst.now() == [0, 1, 2]
    assert await burst.after_step() == [0, 1, 2, 3, 4, 5]
    assert await burst.after_step() == list(range(8))
    await burst.prefills.admit(1, turns=0)


@in_virtual_time
async def test_a_prompt_longer_than_a_portion_goes_in_alone_and_holds_up_nobody_for_ever() -> None:
    burst = Burst(THIRD, 5 * TOKENS_MAX, THIRD, THIRD)
    assert await burst.now() == [0]
    assert await burst.after_step() == [0, 1]
    assert await burst.after_step() == [0, 1, 2, 3]


@in_virtual_time
async def test_what_the_cache_has_does_not_count_once_it_is_seen_to() -> None:
    burst = Burst(*[THIRD] * 16)
    assert await burst.now() == [0, 1, 2]
    assert await burst.after_step(tokens=3 * THIRD, cached=3 * THIRD) == list(range(9))
    assert await burst.after_step(tokens=6 * THIRD, cached=0) == list(range(13))
    assert await burst.after_step(tokens=0) == list(range(16))


@in_virtual_time
async def test_a_step_grows_no_further_than_so_much_however_well_the_cache_did() -> None:
    burst = Burst()
    for _ in range(20):
        await burst.after_step(tokens=100, cached=100)
    tasks = [asyncio.create_task(burst.prefills.admit(TOKENS_MAX, turns=0)) for _ in range(20)]
    await burst.now()
    assert sum(task.done() for task in tasks) == 1 / COMPUTED_MIN
    for _ in range(3):
        await burst.after_step(tokens=TOKENS_MAX)
    await asyncio.gather(*tasks)


@in_virtual_time
async def test_portions_grow_with_the_streams_that_each_of_them_holds_up() -> None:
    streams = TOKENS_MAX // TOKENS_PER_STREAM + 1  # as many as double a portion
    burst = Burst(*[THIRD] * 16)
    assert await burst.now() == [0, 1, 2]
    assert await burst.after_step(running=streams) == list(range(9))
    assert await burst.after_step(running=0) == list(range(12))
    assert await burst.after_step(running=streams) == list(range(16))


@in_virtual_time
async def test_streams_that_have_ended_since_the_last_step_count_for_nothing() -> None:
    burst = Burst()
    await burst.after_step(running=1000)
    tasks = [asyncio.create_task(burst.prefills.admit(THIRD, turns)) for turns in range(8)]
    await burst.now()
    assert sum(task.done() for task in tasks) == 3
    for _ in range(3):
        await burst.after_step()
    await asyncio.gather(*tasks)


@in_virtual_time
async def test_without_steps_none_is_held_for_longer_than_its_time() -> None:
    burst = Burst(*[TOKENS_MAX] * 4)
    assert await burst.now() == [0]
    await asyncio.sleep(HOLD_S - 0.01)
    assert await burst.now() == [0]
    await asyncio.sleep(0.02)
    assert await burst.now() == [0, 1, 2, 3]
    assert "0 prompts held" in repr(burst.prefills)


@in_virtual_time
async def test_one_that_is_given_up_is_held_no_more_and_those_behind_it_go_on() -> None:
    burst = Burst(*[TOKENS_MAX] * 4)
    await burst.now()
    burst.tasks[1].cancel()
    assert await burst.now() == [0]
    assert await burst.after_step() == [0, 2]
    burst.tasks[3].cancel()
    with pytest.raises(asyncio.CancelledError):
        await burst.tasks[3]
    assert await burst.after_step() == [0, 2]
    assert "0 prompts held" in repr(burst.prefills)
