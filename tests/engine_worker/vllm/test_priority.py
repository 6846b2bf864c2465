"""Service tiers and priorities on the real engine, started with vLLM's priority scheduling and one turn at a time."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from engine_worker.engines.interface import Engine, Resume, TurnRecord
from engine_worker.engines.vllm import build
from protocol.records import Step, TurnFinished
from tests.engine_worker.vllm.asking import Answer, Asker, turn
from tests.pace import DEADLINE_S

pytestmark = [
    pytest.mark.engine,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore"),  # vLLM and torch have warnings of their own
]

STORY = "Tell me a long story about a dragon."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Engine]:
    died: list[str] = []
    flags = "--scheduling-policy priority --max-num-seqs 1".split()
    engine = await asyncio.to_thread(build, flags, asyncio.get_running_loop(), died.append)
    yield engine
    await engine.close()
    assert died == []
    gc.collect()  # what vLLM leaves unclosed must not be found in the tests that follow, where warnings are errors


async def test_who_has_priority_overtakes_those_that_wait(engine: Engine) -> None:
    begun: list[str] = []
    ended, runs = asyncio.Event(), asyncio.Event()

    def emit(response_id: str, record: TurnRecord) -> None:
        if isinstance(record, Step) and response_id not in begun:
            begun.append(response_id)
            runs.set()
        if isinstance(record, TurnFinished) and len(begun) == 5:
            ended.set()

    first = turn(input=STORY, ignore_eos=True, max_output_tokens=2000)
    await engine.start_turn(first, emit)
    async with asyncio.timeout(DEADLINE_S):
        await runs.wait()
    flex, default, tier = (turn(service_tier=name, max_output_tokens=16) for name in ("flex", "default", "priority"))
    most = turn(priority=-5, max_output_tokens=16)
    for waits in (flex, default, tier, most):
        await engine.start_turn(waits, emit)
    engine.abort(first.response_id)
    async with asyncio.timeout(DEADLINE_S):
        await ended.wait()
    assert begun == [each.response_id for each in (first, most, tier, default, flex)]


async def test_a_turn_with_priority_is_resumed_as_any_other(engine: Engine) -> None:
    ask = Asker(engine)
    body: dict[str, Any] = {
        "input": STORY,
        "temperature": 2,
        "seed": 7,
        "max_output_tokens": 40,
        "service_tier": "priority",
    }
    whole = await ask(**body)
    assert whole.prepared.priority == -1
    after = await ask.run(replace(turn(**body), resume=Resume(whole.prepared, tuple(whole.steps[:15]))))
    assert Answer([*whole.records[:17], *after.records]).token_ids == whole.token_ids
