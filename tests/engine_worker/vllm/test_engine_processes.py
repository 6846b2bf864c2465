"""The real engine's processes: their sudden end, and what an engine that can't be built leaves behind."""

import asyncio
import multiprocessing
import os
import signal

import pytest

from engine_worker.engines.interface import TurnRecord, TurnRejected
from engine_worker.engines.vllm import build
from tests.engine_worker.vllm.asking import turn
from tests.pace import DEADLINE_S

pytestmark = [
    pytest.mark.engine,
    pytest.mark.filterwarnings("ignore"),  # vLLM and torch have warnings of their own
]
STORY = "Tell me a long story about a dragon."


async def test_the_death_of_the_engine_process_is_told_once() -> None:
    died: list[str] = []
    told = asyncio.Event()

    def on_dead(reason: str) -> None:
        died.append(reason)
        told.set()

    others = multiprocessing.active_children()
    engine = await asyncio.to_thread(build, (), asyncio.get_running_loop(), on_dead)
    try:
        records: list[TurnRecord] = []
        await engine.start_turn(turn(input=STORY), lambda _, record: records.append(record))
        (core,) = [child for child in multiprocessing.active_children() if child not in others]
        assert core.pid is not None
        os.kill(core.pid, signal.SIGKILL)
        await asyncio.wait_for(told.wait(), DEADLINE_S)
        before = len(records)
        with pytest.raises(TurnRejected) as rejected:
            await engine.start_turn(turn(), lambda _, record: records.append(record))
        assert rejected.value.error.code == "engine_unavailable"
    finally:
        await engine.close()
    assert len(records) == before
    assert len(died) == 1


async def test_an_engine_that_can_not_be_built_leaves_no_process() -> None:
    others = set(multiprocessing.active_children())
    arguments = ["--tool-call-parser", "jamba"]  # it wants tokens that the demo model's tokenizer does not have
    with pytest.raises(TypeError, match="tokenizer"):
        await asyncio.to_thread(build, arguments, asyncio.get_running_loop(), lambda _: None)
    assert set(multiprocessing.active_children()) == others
