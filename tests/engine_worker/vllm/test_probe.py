"""When vLLM is asked whether it lives, and what its answer is worth."""

import asyncio
import itertools

import pytest

from engine_worker.engines.interface import EngineLoad
from engine_worker.engines.vllm.load import LoadReading
from engine_worker.engines.vllm.probe import Probe


class Core:
    """Stands in for AsyncLLM: answers when the test lets it, or dies."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def is_paused(self) -> bool:
        self.asked += 1
        return await asyncio.shield(self.answers)


@pytest.fixture
async def core() -> Core:
    return Core()


class Watched:
    """A probe of that core, looked at with each heartbeat while so many turns run."""

    def __init__(self, core: Core) -> None:
        self.reading = LoadReading()
        self.probe = Probe(core, self.reading)

    async def beat(self, turns: int = 1) -> EngineLoad:
        load = self.reading.load(turns)
        self.probe.look(load)
        for _ in range(5):
            await asyncio.sleep(0)
        return load


async def test_a_silent_engine_with_work_is_asked_once_until_it_answers(core: Core) -> None:
    watched = Watched(core)
    for _ in range(10):
        assert (await watched.beat()).signs == 0
    assert core.asked == 1
    core.answers.set_result(False)
    await asyncio.sleep(0)
    assert [(await watched.beat()).signs for _ in range(3)][-1] > 0


async def test_an_engine_that_lives_goes_on_showing_it_without_a_step(core: Core) -> None:
    core.answers.set_result(False)
    watched = Watched(core)
    signs = [(await watched.beat()).signs for _ in range(10)]
    assert signs[-1] >= 4
    assert max(later - earlier for earlier, later in itertools.pairwise(signs)) == 1


async def test_an_engine_that_steps_or_idles_is_not_asked(core: Core) -> None:
    watched = Watched(core)
    for _ in range(5):
        await watched.beat(turns=0)
    for _ in range(5):
        watched.reading.answered()  # As a step counts, too.
        await watched.beat()
    assert core.asked == 0


async def test_an_engine_that_died_has_not_answered(core: Core) -> None:
    core.answers.set_exception(RuntimeError("EngineCore is dead"))
    watched = Watched(core)
    for _ in range(5):
        assert (await watched.beat()).signs == 0
    assert core.asked > 1


async def test_a_question_without_an_answer_ends_with_the_engine(core: Core) -> None:
    watched = Watched(core)
    await watched.beat()
    await watched.probe.close()
    assert not core.answers.done()
    assert watched.probe._question is None
