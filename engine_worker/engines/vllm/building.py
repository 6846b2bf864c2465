"""Starts vLLM as the flags say, and makes an engine of it."""

import asyncio
import os
import time
from collections.abc import Sequence
from multiprocessing import active_children

from vllm.config import VllmConfig
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM

from engine_worker.engines.interface import OnDead
from engine_worker.engines.vllm.children import part_signals
from engine_worker.engines.vllm.defaults import WORKER_START_METHOD, on_cpu
from engine_worker.engines.vllm.engine import StartedVllm, VllmEngine
from engine_worker.engines.vllm.fingerprint import fingerprint
from engine_worker.engines.vllm.flags import EngineFlags, parse_flags
from engine_worker.engines.vllm.images import guard_images
from engine_worker.engines.vllm.internals import check_parts, check_version, shut_down
from engine_worker.engines.vllm.request import Serving
from engine_worker.engines.vllm.resuming import check_resuming_parts, configure, prepare_workers
from protocol.records import SamplingDefaults
from protocol.reports import ModelCard


def build_engine(arguments: Sequence[str], loop: asyncio.AbstractEventLoop, on_dead: OnDead) -> VllmEngine:
    """Start vLLM (see `engine_worker.engines.vllm.build`)."""
    check_version()
    flags = parse_flags(arguments)
    guard_images(flags.outgoing_allow)
    others = active_children()
    llm = _start_vllm(flags)
    try:
        check_parts(llm)
        check_resuming_parts(llm)
        children = [child for child in active_children() if child not in others]
        started = StartedVllm(llm, _online_renderer(llm, flags), children, fingerprint(llm.vllm_config, flags))
        return asyncio.run_coroutine_threadsafe(_engine(started, flags, on_dead), loop).result()
    except BaseException:
        shut_down(llm)
        raise


def _start_vllm(flags: EngineFlags) -> AsyncLLM:
    part_signals()
    start_method = os.environ.get(WORKER_START_METHOD)
    config: VllmConfig = flags.engine_args.create_engine_config(UsageContext.OPENAI_API_SERVER)
    configure(config)
    if on_cpu():
        # Making the configuration has set it to "spawn", with which each child imports vLLM anew: 20 s instead of 3.
        os.environ[WORKER_START_METHOD] = start_method or "fork"
    return AsyncLLM.from_vllm_config(config, usage_context=UsageContext.OPENAI_API_SERVER)


def _online_renderer(llm: AsyncLLM, flags: EngineFlags) -> OnlineRenderer:
    online = OnlineRenderer(
        llm.model_config,
        llm.renderer,
        request_logger=None,
        chat_template=flags.chat_template,
        chat_template_content_format="auto",
        enable_auto_tools=flags.tool_call_parser is not None,
        tool_parser=flags.tool_call_parser,
        reasoning_parser=llm.vllm_config.structured_outputs_config.reasoning_parser or None,
    )
    online.warmup()
    return online


async def _engine(started: StartedVllm, flags: EngineFlags, on_dead: OnDead) -> VllmEngine:
    """Make the engine, on the loop it will live on."""
    llm, always_reasons = started.llm, started.online.use_harmony
    serving = Serving(
        reasoning_effort=flags.reasoning_effort or (None if always_reasons else "none"),
        can_skip_reasoning=not always_reasons,
        tool_calls=flags.tool_call_parser is not None,
        priorities=llm.vllm_config.scheduler_config.policy == "priority",
    )
    name, *aliases = flags.names
    recommended = llm.model_config.get_diff_sampling_param()
    sampling = SamplingDefaults(recommended.get("temperature", 1.0), recommended.get("top_p", 1.0))
    model = ModelCard(name, tuple(aliases), llm.model_config.max_model_len, int(time.time()), sampling)
    engine = VllmEngine(started, serving, model, on_dead)
    await prepare_workers(llm)
    await llm.get_supported_tasks()  # asked for now, so that the first request needn't wait for the answer
    return engine
