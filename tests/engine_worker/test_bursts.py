"""What is handed over in one go is told in one go; with `coalesce_s`, no more often than that."""

import asyncio

from engine_worker.bursts import Bursts
from protocol.records import Step
from tests import virtual


def times_of_bursts(coalesce_s: float, steps_at: list[float]) -> list[tuple[float, int]]:
    """When records of steps at these seconds, two of each, were told, and how many at a time."""
    told: list[tuple[float, int]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        def end() -> None:
            if records := bursts.take():
                told.append((round(loop.time(), 3), len(records)))

        bursts = Bursts(coalesce_s, end)
        for at in steps_at:
            await asyncio.sleep(at - loop.time())
            bursts.add("a", Step((1,)))
            bursts.add("b", Step((2,)))
        await asyncio.sleep(1)

    virtual.run(scenario())
    return told


def test_each_step_is_told_at_once() -> None:
    assert times_of_bursts(0.0, [1.0, 1.004, 1.008]) == [(1.0, 2), (1.004, 2), (1.008, 2)]


def test_steps_within_the_bound_are_told_together_and_the_first_at_once() -> None:
    steps_at = [1.0, 1.004, 1.008, 1.012, 2.0]
    assert times_of_bursts(0.010, steps_at) == [(1.0, 2), (1.010, 4), (1.020, 2), (2.0, 2)]


def test_steps_that_are_further_apart_than_the_bound_are_not_held_back() -> None:
    assert times_of_bursts(0.010, [1.0, 1.02, 1.04]) == [(1.0, 2), (1.02, 2), (1.04, 2)]


def test_what_was_taken_before_its_time_is_not_told_again() -> None:
    told = []

    async def scenario() -> None:
        bursts = Bursts(0.01, lambda: told.append(bursts.take()))
        bursts.add("a", Step((1,)))
        first = bursts.take()
        bursts.add("a", Step((2,)))
        await asyncio.sleep(1)
        told.append(first)

    virtual.run(scenario())
    assert [records for records in told if records] == [(("a", Step((2,))),), (("a", Step((1,))),)]
