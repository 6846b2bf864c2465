"""The vLLM engine: rendering, sampling and parsing by vLLM, in records of ours.

Theory of operation
    A turn passes through these rooms, once each:

    request.py    the accepted body -> what vLLM is asked for: items, tools, choice, sampling (pure)
    truncation.py which input items go when a prompt is too long (pure)
    rendering.py  chat template, tokens, grammar, sampling parameters and parser, by vLLM's own code
    prefills.py   lets its prompt in with the next step or a later one, where vLLM doesn't cut prompts up
    engine.py     queues the turn; its outputs (output.py) then come through a sink, as they are read
    turn.py       one turn's outputs -> Steps and the TurnFinished; with trimming.py and logprobs.py (pure)
    images.py     what images may be fetched from, within rendering
    rejection.py  vLLM's exceptions -> whose fault, which parameter

    A turn that another engine began (its `TurnPrepared`, by prepared.py, and its steps) passes through these instead:

    prepared.py   what was kept of it -> a rendered turn, if this engine's fingerprint (fingerprint.py) is the same
    resuming.py   queues it in vLLM with the output it has; in vLLM's own processes: resuming_core.py
    replay.py     what must come out again, unchanged, before it goes on in turn.py (pure)

    Not resumed, but refused: a prompt with images, speculative decoding, and log-probabilities when some belong to text
    that was still held back (a stop string or a character had begun), for those were never recorded.

    defaults.py and flags.py say how vLLM is started, building.py starts it, load.py reads what it is doing, probe.py
    asks whether it lives, output_socket.py reads its socket, plain_outputs.py takes what most of its messages are, and
    children.py looks after its processes. Every touch of a private part of vLLM is in internals.py, plain_outputs.py,
    resuming.py and resuming_core.py.

    Importing vLLM takes seconds, so this package can be imported without it: `build` does it, in the caller's thread.
"""

import asyncio
from collections.abc import Sequence

from engine_worker.engines.interface import Engine, OnDead


def build(arguments: Sequence[str], loop: asyncio.AbstractEventLoop, on_dead: OnDead) -> Engine:
    """Start vLLM with these command-line arguments (`flags.py`); blocks for seconds to minutes.

    To be called in a thread while `loop` runs; afterwards the engine belongs to `loop`. Raises
    `protocol.settings.BadSetting` for a wrong flag, `internals.UnsupportedVllm` for another version of vLLM, and
    whatever vLLM raises when a model can't be loaded.
    """
    # Not at the top: torch reads its environment when it is imported, and the import must not hold up the loop.
    from engine_worker.engines.vllm.defaults import prepare_environment

    prepare_environment(arguments)
    from engine_worker.engines.vllm.building import build_engine

    return build_engine(arguments, loop, on_dead)
