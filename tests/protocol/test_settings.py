"""Settings come from flags, then variables, then defaults, and a wrong one is named."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from protocol.settings import BadSetting, describe, read_settings


class Example(msgspec.Struct, frozen=True):
    """An example process."""

    wait_s: Annotated[float, msgspec.Meta(description="How long to wait.", ge=0)] = 1.5
    run_dir: Annotated[Path, msgspec.Meta(description="Where sockets are.")] = Path("run")
    mode: Annotated[Literal["refuse", "ignore"], msgspec.Meta(description="What to do.")] = "refuse"
    pings: Annotated[bool, msgspec.Meta(description="Whether to ping.")] = False


def test_flag_wins_over_variable_and_variable_over_default() -> None:
    environment = {"HOLDFAST_WAIT_S": "3", "HOLDFAST_MODE": "ignore", "PORT": "5000"}
    settings, rest = read_settings(Example, ["--wait-s", "2.5", "--pings", "true"], environment)
    assert settings == Example(wait_s=2.5, mode="ignore", pings=True)
    assert rest == []


def test_paths_are_paths_and_other_flags_are_left_over() -> None:
    settings, rest = read_settings(Example, ["--run-dir", "/x", "--dtype", "float32", "--wait"], {})
    assert settings.run_dir == Path("/x")
    assert rest == ["--dtype", "float32", "--wait"]


@pytest.mark.parametrize(
    ("flag", "value"), [("--wait-s", "soon"), ("--wait-s", "-1"), ("--mode", "x"), ("--pings", "maybe")]
)
def test_a_wrong_value_is_refused_by_name(flag: str, value: str) -> None:
    with pytest.raises(BadSetting, match=flag):
        read_settings(Example, [flag, value], {})


def test_help_describes_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_settings(Example, ["--help"], {})
    printed = " ".join(capsys.readouterr().out.split())
    for field in msgspec.structs.fields(Example):
        assert describe(field) in printed
