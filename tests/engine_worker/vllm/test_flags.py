"""The engine's command line: any of vLLM's engine arguments, a few more, and no others."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine_worker.engines.vllm.defaults import DEMO_MODEL
from protocol.settings import BadSetting

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def parse() -> Callable[[Sequence[str]], Any]:
    from engine_worker.engines.vllm.flags import parse_flags  # imports vLLM, which takes seconds

    return parse_flags


def test_without_flags_it_is_the_demo_model(parse: Callable[[Sequence[str]], Any]) -> None:
    flags = parse([])
    assert flags.names == ("holdfast-demo", "gpt-4o-mini")
    assert flags.engine_args.model == str(DEMO_MODEL)
    assert flags.tool_call_parser == "hermes"
    assert flags.engine_args.reasoning_parser == "qwen3"
    assert flags.reasoning_effort is None
    assert flags.chat_template is None


def test_any_engine_argument_passes_through(parse: Callable[[Sequence[str]], Any]) -> None:
    arguments = "--max-model-len 2048 --tensor-parallel-size 2 --enable-lora --scheduling-policy priority".split()
    engine_args = parse(arguments).engine_args
    assert (engine_args.max_model_len, engine_args.tensor_parallel_size) == (2048, 2)
    assert (engine_args.enable_lora, engine_args.scheduling_policy) == (True, "priority")


def test_another_model_is_served_by_its_name(parse: Callable[[Sequence[str]], Any]) -> None:
    flags = parse(["--model", "some/model"])
    assert flags.names == ("some/model",)
    assert flags.tool_call_parser is None
    assert parse(["--model", "some/model", "--served-model-name", "a", "b"]).names == ("a", "b")


def test_a_chat_template_comes_from_a_file(parse: Callable[[Sequence[str]], Any], tmp_path: Path) -> None:
    (tmp_path / "template.jinja").write_text("{{ messages }}")
    assert parse(["--chat-template", str(tmp_path / "template.jinja")]).chat_template == "{{ messages }}"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--no-such-flag 1", "--no-such-flag"),
        ("--max-model-len many", "--max-model-len"),
        ("--tool-call-parser nobody", "nobody"),
        ("--outgoing-allow 10.0.0.1/8", "10.0.0.1/8"),
        ("--default-reasoning-effort much", "--default-reasoning-effort"),
        ("--chat-template /no/such/file.jinja", "/no/such/file.jinja"),
    ],
)
def test_a_wrong_flag_is_refused_by_name(parse: Callable[[Sequence[str]], Any], arguments: str, named: str) -> None:
    with pytest.raises(BadSetting, match=named):
        parse(arguments.split())
