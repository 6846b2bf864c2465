"""The end of a child process is noticed, and its signals stay its own."""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess

import pytest

from engine_worker.engines.vllm.children import ChildWatch, part_signals


@pytest.fixture
def child() -> Iterator[BaseProcess]:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,), name="Child")
    process.start()
    yield process
    process.kill()
    process.join()


async def test_the_end_of_a_child_is_told(child: BaseProcess) -> None:
    ended = asyncio.Queue[str]()
    watch = ChildWatch([child], ended.put_nowait)
    child.kill()
    assert await ended.get() == "Child"
    watch.close()
    assert ended.empty()


async def test_a_closed_watch_tells_nothing(child: BaseProcess) -> None:
    ended = asyncio.Queue[str]()
    watch = ChildWatch([child], ended.put_nowait)
    watch.close()
    watch.close()
    child.kill()
    await asyncio.to_thread(child.join)
    assert ended.empty()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # newer Pythons warn of a fork beside threads
async def test_a_forked_child_keeps_its_signals_to_itself() -> None:
    heard: list[str] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, heard.append, "SIGUSR1")
    part_signals()
    forked = multiprocessing.get_context("fork").Process(target=_raise_and_exit)
    forked.start()
    await asyncio.to_thread(forked.join)
    assert forked.exitcode == 0
    assert heard == []
    os.kill(os.getpid(), signal.SIGUSR1)
    while not heard:
        await asyncio.sleep(0)
    loop.remove_signal_handler(signal.SIGUSR1)


def _raise_and_exit() -> None:
    signal.raise_signal(signal.SIGUSR1)
    os._exit(0)
