"""vLLM is started so that it can resume, or not at all; and an engine is told from another."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.settings import BadSetting

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

OURS = "engine_worker.engines.vllm.resuming_core."


def configured(**changed: Any) -> tuple[str, str]:
    """The scheduler's and the worker's class, by name."""
    from engine_worker.engines.vllm.resuming import configure  # imports vLLM, which takes seconds

    scheduler = SimpleNamespace(scheduler_cls=changed.get("scheduler_cls"), async_scheduling=changed.get("ahead"))
    parallel = SimpleNamespace(worker_extension_cls=changed.get("worker_extension_cls", ""))
    runner = changed.get("second_runner", False)
    configure(SimpleNamespace(scheduler_config=scheduler, parallel_config=parallel, use_v2_model_runner=runner))
    return scheduler.scheduler_cls, parallel.worker_extension_cls


def test_classes_are_named_for_the_kind_of_scheduling() -> None:
    assert configured() == (f"{OURS}ResumingScheduler", f"{OURS}ResumingWorker")
    assert configured(ahead=True) == (f"{OURS}ResumingAsyncScheduler", f"{OURS}ResumingWorker")


@pytest.mark.parametrize("flag", ["scheduler_cls", "worker_extension_cls"])
def test_classes_of_the_users_own_are_refused(flag: str) -> None:
    with pytest.raises(BadSetting, match=flag.replace("_", "-")):
        configured(**{flag: "elsewhere.Class"})


def test_a_model_runner_that_can_not_resume_is_refused() -> None:
    from engine_worker.engines.vllm.internals import UnsupportedVllm

    with pytest.raises(UnsupportedVllm, match="VLLM_USE_V2_MODEL_RUNNER=0"):
        configured(second_runner=True)


def fingerprint_of(model: Path | str, **changed: Any) -> str:
    from engine_worker.engines.vllm.fingerprint import fingerprint
    from engine_worker.engines.vllm.flags import EngineFlags

    config = SimpleNamespace(
        model_config=SimpleNamespace(
            model=str(model),
            revision=None,
            dtype=changed.get("dtype", "float32"),
            quantization=None,
            max_model_len=4096,
        ),
        cache_config=SimpleNamespace(cache_dtype="auto"),
        device_config=SimpleNamespace(device_type="cpu"),
        parallel_config=SimpleNamespace(tensor_parallel_size=1, pipeline_parallel_size=1),
        structured_outputs_config="xgrammar",
    )
    parser, template = changed.get("parser", "hermes"), changed.get("template")
    return fingerprint(config, EngineFlags(None, ("demo",), parser, template, None))


def test_the_fingerprint_tells_engines_apart_that_would_go_on_in_other_ways(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    same = fingerprint_of(tmp_path)
    assert fingerprint_of(tmp_path) == same
    others = [fingerprint_of(tmp_path, **{part: "other"}) for part in ("dtype", "parser", "template")]
    (tmp_path / "tokenizer.json").write_text("{}")
    others.append(fingerprint_of(tmp_path))
    weights.write_bytes(b"more weights")
    others.append(fingerprint_of(tmp_path))
    others.append(fingerprint_of("nobody/nowhere"))
    assert len({same, *others}) == 1 + len(others)
