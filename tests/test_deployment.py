"""The files of docs/deployment, read by the programs that they are for."""

import copy
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from engine_worker.config import Settings as WorkerSettings
from frontend.config import Settings as FrontendSettings
from protocol.settings import PREFIX, read_settings

ROOT = Path(__file__).resolve().parents[1]
FILES = ROOT / "docs/deployment"
MODULES: dict[str, type[Any]] = {"frontend": FrontendSettings, "engine_worker": WorkerSettings}


def known(environment: dict[str, str]) -> None:
    """Both processes read these variables, and each is a setting of one of them."""
    names = {PREFIX + name.upper() for kind in MODULES.values() for name in kind.__struct_fields__}
    assert set(environment) - names == set()
    for kind in MODULES.values():
        read_settings(kind, [], environment)


# ---- systemd ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """What an operator gets by following the documentation, but with this interpreter."""
    shutil.copytree(FILES / "systemd", tmp_path, dirs_exist_ok=True)
    [command] = re.findall(r"^\.venv/bin/honcho (export .*)$", (ROOT / "docs/DEPLOYMENT.md").read_text(), re.MULTILINE)
    export = command.replace("-d /opt/holdfast", f"-d {ROOT}").replace("/etc/systemd/system", str(tmp_path))
    subprocess.run([Path(sys.executable).parent / "honcho", *shlex.split(export)], check=True, capture_output=True)
    for drop_in in tmp_path.glob("*.d/*.conf"):
        drop_in.write_text(drop_in.read_text().replace("/opt/holdfast/.venv/bin/python", sys.executable))
    return tmp_path


def complaints(units: Path) -> str:
    """What systemd has to say against them; it reads them as it would at the start of a host."""
    command = ["systemd-analyze", "verify", str(units / "holdfast.target"), *map(str, units.glob("*.service"))]
    found = subprocess.run(command, env={"SYSTEMD_UNIT_PATH": f"{units}:"}, capture_output=True, text=True, check=False)
    return found.stdout + found.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_units_and_every_drop_in(units: Path) -> None:
    assert len(list(units.glob("holdfast-*.service"))) == 6
    assert complaints(units) == ""
    drop_ins = list(units.glob("*.d/*.conf"))
    for drop_in in drop_ins:  # one that is not read could say anything: a name used twice hides the other file
        drop_in.write_text(drop_in.read_text() + "[Service]\nNoSuchSetting=1\n")
    found = complaints(units)
    assert all(f"{drop_in.parent.name}/{drop_in.name}" in found for drop_in in drop_ins), found


def test_the_environment_of_the_units_is_settings() -> None:
    lines = (FILES / "systemd/holdfast.env").read_text().splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    known({name: " ".join(shlex.split(value)) for name, value in pairs})


@pytest.mark.engine
@pytest.mark.filterwarnings("ignore")
def test_vllm_takes_the_documented_flags() -> None:
    from engine_worker.engines.vllm.flags import parse_flags  # imports vLLM, which takes seconds

    texts = [
        (ROOT / "docs/DEPLOYMENT.md").read_text(),
        *(path.read_text() for path in FILES.rglob("*.*") if path.is_file()),
    ]
    found = [flags for text in texts for flags in re.findall(r"HOLDFAST_ENGINE_ARGS[=:] ?[\"'](.*?)[\"']", text)]
    assert len(found) > 3
    for flags in found:
        parse_flags(["--model", "any/model", *shlex.split(flags)])


# ---- Kubernetes ------------------------------------------------------------------------------------------------------

VERSIONS = ("1.32", "1.37")
"""Of Kubernetes: the oldest and the newest whose schemas the manifests are checked against."""


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    files = sorted((FILES / "kubernetes").glob("*.yaml"))
    return [manifest for file in files for manifest in yaml.safe_load_all(file.read_text())]


def named(manifests: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    [found] = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field_of_the_manifests(manifests: list[dict[str, Any]], version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)
    wrong = copy.deepcopy(named(manifests, "StatefulSet", "holdfast-worker"))
    wrong["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_manifests_fit_together_and_to_the_settings(manifests: list[dict[str, Any]]) -> None:
    data = named(manifests, "ConfigMap", "holdfast")["data"]
    known(data)
    frontend, worker = settings_of("frontend", data), settings_of("engine_worker", data)
    assert frontend.workers == "holdfast-worker:5600"
    [port] = named(manifests, "Service", "holdfast-worker")["spec"]["ports"]
    assert worker.listen.endswith(f":{port['port']}")
    pods = {
        name: named(manifests, kind, name)["spec"]["template"]
        for kind, name in (("Deployment", "holdfast-frontend"), ("StatefulSet", "holdfast-worker"))
    }
    for manifest in manifests:
        spec = manifest.get("spec", {})
        selector = spec.get("selector", spec.get("podSelector"))
        if selector is not None:
            assert selector.get("matchLabels", selector) in [pod["metadata"]["labels"] for pod in pods.values()]
    of_frontend, of_worker = (pod["spec"] for pod in pods.values())
    [container] = of_frontend["containers"]
    assert container["ports"][0]["containerPort"] == frontend.port
    stops = container["lifecycle"]["preStop"]["sleep"]["seconds"] + frontend.drain_s + 5
    assert of_frontend["terminationGracePeriodSeconds"] > stops
    assert of_worker["terminationGracePeriodSeconds"] > worker.drain_s + worker.engine_close_s + 25
    assert [container["command"][1:] for pod in (of_frontend, of_worker) for container in pod["containers"]] == [
        ["-m", module] for module in MODULES
    ]


def settings_of(module: str, environment: dict[str, str]) -> Any:
    settings, _ = read_settings(MODULES[module], [], environment)
    return settings
