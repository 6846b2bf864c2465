"""The real engine with the demo model, in this process, started once for a module."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator

import pytest_asyncio

from engine_worker.engines.vllm import build
from tests.engine_worker.vllm.asking import Asker, Built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def built() -> AsyncIterator[Built]:
    longest_pause_s = 0.0

    async def measure_pauses() -> None:
        nonlocal longest_pause_s
        while True:
            before = time.process_time()
            await asyncio.sleep(0.1)
            longest_pause_s = max(longest_pause_s, time.process_time() - before)

    measuring = asyncio.create_task(measure_pauses())
    died: list[str] = []
    engine = await asyncio.to_thread(build, (), asyncio.get_running_loop(), died.append)
    measuring.cancel()
    yield Built(engine, longest_pause_s)
    await engine.close()
    assert died == []
    gc.collect()  # what vLLM leaves unclosed must not be found in the tests that follow, where warnings are errors


@pytest_asyncio.fixture(loop_scope="module")
async def ask(built: Built) -> Asker:
    return Asker(built.engine)
