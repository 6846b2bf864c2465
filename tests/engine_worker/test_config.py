"""Settings cross to the actor process unchanged, and the engine's arguments come in order."""

from pathlib import Path

import msgspec

from engine_worker.config import ActorSettings, Settings, as_flags, engine_arguments
from protocol.settings import describe, read_settings


def test_settings_cross_to_the_actor_as_flags() -> None:
    settings = Settings(
        engine="scripted", model="--odd name", engine_args="--a 'b c' --d=e", run_dir=Path("/r/x y"), drain_s=0.25
    )
    flags = [*as_flags(settings), "--worker=worker-3", "--supervisor=42"]
    crossed, rest = read_settings(ActorSettings, [*flags, "--tensor-parallel-size", "2"], {"HOLDFAST_DRAIN_S": "9"})
    assert crossed == ActorSettings(worker="worker-3", supervisor=42, **msgspec.structs.asdict(settings))
    assert rest == ["--tensor-parallel-size", "2"]


def test_the_engine_gets_the_model_then_the_variables_arguments_then_the_command_lines() -> None:
    settings, rest = read_settings(
        Settings,
        ["--model", "m", "--max-model-len", "10", "--enforce-eager"],
        {"HOLDFAST_ENGINE_ARGS": "--served-model-name 'a b' --seed 1"},
    )
    assert engine_arguments(settings, rest) == [
        *["--model", "m", "--served-model-name", "a b", "--seed", "1"],
        *["--max-model-len", "10", "--enforce-eager"],
    ]
    assert engine_arguments(Settings(), []) == []


def test_only_an_engine_that_fetches_images_is_told_where_from() -> None:
    allowed = ["--outgoing-allow", "10.0.0.0/8"]
    assert engine_arguments(Settings(outgoing_allow="10.0.0.0/8"), ["--seed", "1"]) == [*allowed, "--seed", "1"]
    assert engine_arguments(Settings(outgoing_allow="10.0.0.0/8", engine="scripted"), []) == []


def test_every_setting_is_described() -> None:
    assert [field.name for field in msgspec.structs.fields(ActorSettings) if not describe(field)] == []
