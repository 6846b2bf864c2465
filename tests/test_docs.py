"""The README's settings tables against the settings themselves, and what the guides name against what there is."""

import re
from pathlib import Path

import msgspec
import pytest

from engine_worker.config import Settings as WorkerSettings
from frontend.config import Settings as FrontendSettings
from protocol.settings import PREFIX, describe

README = Path(__file__).resolve().parents[1] / "README.md"


def settings_table(kind: type[msgspec.Struct]) -> str:
    """The table the README must have for these settings, field by field."""
    rows = ["| Flag | Variable | Default | What |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        default = "" if field.default in ("", msgspec.NODEFAULT) else f"`{field.default}`"
        flag = field.name.replace("_", "-")
        rows.append(f"| `--{flag}` | `{PREFIX}{field.name.upper()}` | {default} | {describe(field)} |")
    return "\n".join(rows)


@pytest.mark.parametrize("kind", [FrontendSettings, WorkerSettings], ids=lambda kind: kind.__module__.split(".")[0])
def test_readme_lists_every_setting_as_it_is(kind: type[msgspec.Struct]) -> None:
    table = settings_table(kind)
    assert table in README.read_text(), f"README.md must have this table:\n\n{table}\n"


GUIDE = README.parent / "docs/DEPLOYMENT.md"
OTHERS_FLAGS = {
    "useradd": "--system --home-dir --shell",
    "systemctl": "--now",
    "docker, kubectl": "--target --from-file --from-literal",
    "ray": "--head --port --address --block",
    "vLLM": "--tensor-parallel-size --pipeline-parallel-size --distributed-executor-backend",
    "vLLM, but taken": "--scheduler-cls --worker-extension-cls",
}
"""Flags that the guide names, of other programs; whether vLLM has its own is asked in `test_deployment.py`."""


def test_deployment_guide_names_only_what_there_is() -> None:
    files = [path for path in (README.parent / "docs/deployment").rglob("*") if path.is_file()]
    settings = {field for kind in (FrontendSettings, WorkerSettings) for field in kind.__struct_fields__}
    named = {name for path in [GUIDE, *files] for name in re.findall(PREFIX + r"([A-Z_]*[A-Z])", path.read_text())}
    assert {name.lower() for name in named} - settings == set()
    others = {flag for flags in OTHERS_FLAGS.values() for flag in flags.split()}
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", GUIDE.read_text()))
    assert flags - others - {"--" + name.replace("_", "-") for name in settings} == set()


def test_links_of_the_deployment_guide_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", GUIDE.read_text())
    assert [link for link in links if not (GUIDE.parent / link).exists()] == []
    assert links
