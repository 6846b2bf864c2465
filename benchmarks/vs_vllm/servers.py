"""The two servers, on one engine's flags, and which of their processes serve.

Both stay loaded beside each other, and the one that is not measured is idle: a start takes half a minute, and runs that
alternate within seconds see the same machine. Idle, each takes about a hundredth of a core.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import psutil

from benchmarks.deployment import START_DEADLINE_S, Deployment, Process, free_port, ready, status_of, wait_until
from engine_worker.engines.vllm.defaults import DEMO_MODEL, MEDIA_CONNECTOR, default_environment, default_flags, on_cpu

HOLDFAST: Final = "holdfast"
VLLM: Final = "vllm"

_ENGINE: Final = "EngineCore"
_PARSER_FLAGS: Final = ("--tool-call-parser", "--reasoning-parser")
_KV_BYTES: Final = 2**29
"""Room for 128 streams to their ends. The demo model has half of it by default: the last of them were preempted there,
and computed anew in a step of up to 1.3 s, in which all others waited."""
_PRODUCTION: Final = ("--disable-uvicorn-access-log",)
"""vLLM's server logs no request by default; its access log is a line a request, which nobody wants under load."""


class Server(NamedTuple):
    """A server that answers at `port`. `serving` are its processes outside the engine, by role, `engine` the others."""

    port: int
    serving: dict[str, list[psutil.Process]]
    engine: list[psutil.Process]


def engine_flags(given: Sequence[str], parsers: bool) -> list[str]:
    """What both engines are started with: ours as its defaults have it, but without parsers where so wished."""
    if given:
        flags = list(given)
    else:
        # Named, the demo model is a model like any other, whose flags all stand here.
        flags = [*default_flags((), on_cpu()), "--max-model-len", "4096", "--kv-cache-memory-bytes", str(_KV_BYTES)]
        assert str(DEMO_MODEL) in flags
    return flags if parsers else _without(flags, _PARSER_FLAGS)


def vllm_flags(flags: Sequence[str]) -> list[str]:
    """The same for vLLM's own server: with what ours adds to them, and with tool calls where they can be parsed."""
    calls = ["--enable-auto-tool-choice"] if "--tool-call-parser" in flags else []
    return [*default_flags(flags, on_cpu()), *flags, *calls, *_PRODUCTION]


def _without(flags: Sequence[str], names: Sequence[str]) -> list[str]:
    dropped = {place + offset for place, flag in enumerate(flags) if flag in names for offset in (0, 1)}
    return [flag for place, flag in enumerate(flags) if place not in dropped]


@contextmanager
def started(
    deployment: Deployment, names: Sequence[str], flags: Sequence[str], more_vllm_flags: Sequence[str]
) -> Iterator[dict[str, Server]]:
    """The named servers, ready; they have ended when it returns. One starts after the other, as GPU memory wants it."""
    deployment.environment = {**_environment(), **deployment.environment}
    starts = {
        HOLDFAST: lambda: _start_holdfast(deployment, flags),
        VLLM: lambda: _start_vllm(deployment, [*vllm_flags(flags), *more_vllm_flags]),
    }
    with deployment:
        yield {name: starts[name]() for name in names}


def _environment() -> Mapping[str, str]:
    """The engine's variables for both servers, but for what is registered in our worker only."""
    variables = default_environment((), on_cpu())
    return {name: value for name, value in variables.items() if value != MEDIA_CONNECTOR}


def _start_holdfast(deployment: Deployment, flags: Sequence[str]) -> Server:
    worker = deployment.worker(*flags)
    frontend, url = deployment.frontend()
    ready(url, deployment)
    serving, engine = _split(worker, "supervisor", "actor")
    served, _ = _split(frontend, "arbiter", "frontend")
    return Server(_port(url), {**served, **serving}, engine)


def _start_vllm(deployment: Deployment, flags: Sequence[str]) -> Server:
    port = free_port()
    module = "vllm.entrypoints.openai.api_server"
    address = ("--host", "127.0.0.1", "--port", str(port))
    process = deployment.start(sys.executable, "-W", "ignore", "-m", module, *flags, *address)
    url = f"http://127.0.0.1:{port}/health"
    wait_until(lambda: process.has_ended or status_of(url) == 200, START_DEADLINE_S, "vLLM's server is ready")
    if process.has_ended:
        raise RuntimeError(f"vLLM's server has ended\n{deployment.logs()}")
    serving, engine = _split(process, "API server", "other")
    return Server(port, serving, engine)


def _split(
    root: Process, root_role: str, child_role: str
) -> tuple[dict[str, list[psutil.Process]], list[psutil.Process]]:
    """The processes of this tree that serve, by role, and those of the engine: EngineCore and all below it."""
    engine = {process for core in root.descendants(_ENGINE) for process in (core, *core.children(recursive=True))}
    serving = [process for process in root.descendants("") if process not in engine]
    # multiprocessing's tracker of shared memory does nothing, and is nothing of ours.
    roles = {root_role: [psutil.Process(root.pid)]}
    roles[child_role] = [each for each in serving if "resource_tracker" not in " ".join(each.cmdline())]
    return {role: processes for role, processes in roles.items() if processes}, sorted(
        engine, key=lambda each: each.pid
    )


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port
