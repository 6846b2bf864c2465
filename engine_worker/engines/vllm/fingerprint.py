"""Names all that the continuation of a turn depends on, so that an engine can tell whether it may go on with it."""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import torch
import vllm
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from vllm.config import VllmConfig

from engine_worker.engines.vllm.flags import EngineFlags


def fingerprint(config: VllmConfig, flags: EngineFlags) -> str:
    """A hash of the model's files, the template, the parsers, vLLM's version, and how the model is computed.

    Files count by name, size and time of change: reading the weights would take as long as loading them.
    """
    parts = blake2b(digest_size=16)
    for part in (*_software(), *_model(config), *_reading(config, flags)):
        parts.update(f"{part}\0".encode())
    return parts.hexdigest()


def _software() -> Iterator[object]:
    yield vllm.__version__
    yield torch.__version__


def _model(config: VllmConfig) -> Iterator[object]:
    model = config.model_config
    yield from (model.model, model.revision, model.dtype, model.quantization, model.max_model_len)
    yield from (config.cache_config.cache_dtype, config.device_config.device_type)
    yield from (config.parallel_config.tensor_parallel_size, config.parallel_config.pipeline_parallel_size)
    for path in sorted(_files(model.model, model.revision)):
        status = path.stat()
        yield from (path.name, status.st_size, status.st_mtime_ns)


def _files(model: str, revision: str | None) -> list[Path]:
    """The model's files; none where they are not on this machine."""
    folder = Path(model)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            return [folder] if folder.is_file() else []
    return [path for path in folder.iterdir() if path.is_file()]


def _reading(config: VllmConfig, flags: EngineFlags) -> Iterator[object]:
    """How prompts are made and outputs read and constrained."""
    yield from (flags.chat_template, flags.tool_call_parser)
    yield config.structured_outputs_config
