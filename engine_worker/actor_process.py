"""The actor process: started by the supervisor in a session of its own, and gone when the supervisor is.

It runs the worker's shell on one event loop, with the engine chosen by `--engine`; the engine's own processes join its
process group, which is how whoever ends this process can end them too. Once the engine is loaded, the event loop shows
the supervisor that it turns.
"""

import asyncio
import contextlib
import gc
import logging
import os
import select
import signal
import sys
import threading
import time

import uvloop

from engine_worker.config import EXIT_CANT_LISTEN, EXIT_NO_JOURNAL, ActorSettings, engine_arguments
from engine_worker.diagnostics import log_to_stderr
from engine_worker.engines.interface import Engine, OnDead
from engine_worker.journal_files import JournalUnavailable
from engine_worker.shell import Worker
from engine_worker.supervisor import BEAT, beat_interval_s
from protocol.channel import CannotBind
from protocol.curve_files import BadCurveKeys
from protocol.settings import read_settings

logger = logging.getLogger("engine_worker.actor_process")  # Not `__name__`: it runs as `__main__`.

_LAST_WORDS_S = 1.0
"""What the worker gets to tell its frontends that it ends, once its supervisor is gone."""


def main() -> None:
    """Run the worker that the command line describes, and end the process with its exit code."""
    settings, rest = read_settings(ActorSettings, sys.argv[1:], environment={})
    log_to_stderr(settings.worker, settings.log_lines_max)
    exit_code = uvloop.run(_serve(settings, engine_arguments(settings, rest)))
    logging.shutdown()
    # Not `sys.exit`: an engine that is still being built in its thread would keep the interpreter from ending.
    os._exit(exit_code)


async def _serve(settings: ActorSettings, arguments: list[str]) -> int:
    loop, supervisor = asyncio.get_running_loop(), _hold(settings.supervisor)

    def build(loop: asyncio.AbstractEventLoop, on_dead: OnDead) -> Engine:
        engine = _build_engine(settings, arguments, loop, on_dead)
        gc.freeze()  # What is there now stays: to go through all of it takes half a second, in which no stream goes on.
        if supervisor is not None:  # The first beat is before all that the worker does with its engine.
            loop.call_soon_threadsafe(_beat, supervisor, loop, beat_interval_s(settings))
        return engine

    try:
        worker = Worker(settings, settings.worker, build)
    except JournalUnavailable as error:
        logger.error("%s", error)
        return EXIT_NO_JOURNAL
    except BadCurveKeys as error:
        logger.error("%s", error)
        return EXIT_CANT_LISTEN
    loop.add_signal_handler(signal.SIGTERM, worker.drain)
    loop.add_signal_handler(signal.SIGINT, worker.drain)
    watch = threading.Thread(target=_end_with, args=(supervisor, loop, worker), name="supervisor", daemon=True)
    watch.start()
    logger.info("loading: engine %s, incarnation %s", settings.engine, worker.incarnation)
    try:
        return await worker.run()
    except CannotBind as error:
        logger.error("%s", error)
        return EXIT_CANT_LISTEN


def _build_engine(
    settings: ActorSettings, arguments: list[str], loop: asyncio.AbstractEventLoop, on_dead: OnDead
) -> Engine:
    """Build the engine the settings name; imported only here, since vLLM's import alone takes many seconds."""
    match settings.engine:
        case "vllm":
            from engine_worker.engines.vllm import build
        case "scripted":
            from engine_worker.engines.scripted import build
    return build(arguments, loop, on_dead)


def _hold(supervisor: int) -> int | None:
    """A file descriptor of the supervisor, or None when it is gone: its number may be another's by now."""
    with contextlib.suppress(ProcessLookupError):
        held = os.pidfd_open(supervisor)
        if os.getppid() == supervisor:
            return held
    return None


def _beat(supervisor: int, loop: asyncio.AbstractEventLoop, interval_s: float) -> None:
    """Show the supervisor that the loop turns, now and every `interval_s`."""
    with contextlib.suppress(ProcessLookupError):  # It is gone, which ends this process anyway.
        signal.pidfd_send_signal(supervisor, BEAT)
    loop.call_later(interval_s, _beat, supervisor, loop, interval_s)


def _end_with(supervisor: int | None, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    """Wait for the supervisor's end, then end this process group; runs in a thread, so that a hung loop ends too."""
    if supervisor is not None:
        select.select([supervisor], [], [])
    logger.error("the supervisor is gone; ending")
    with contextlib.suppress(RuntimeError):  # The loop is closed: the worker has ended already.
        loop.call_soon_threadsafe(worker.stop, "its supervisor is gone")
    time.sleep(_LAST_WORDS_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
