"""The rules of this code base that a linter doesn't know: lengths, who may import what, pure cores, honest locks."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = sorted(
    path for package in ("protocol", "frontend", "engine_worker") for path in ROOT.glob(f"{package}/**/*.py")
)
OTHERS = sorted(path for folder in ("tests", "benchmarks") for path in ROOT.glob(f"{folder}/**/*.py"))

FUNCTION_LINES_MAX = 60

ENGINE = ("vllm", "torch", "transformers")
FORBIDDEN_IMPORTS = [
    # (what no module may import, those that may: paths or folders)
    (("frontend",), ("frontend/",)),
    (("engine_worker",), ("engine_worker/",)),
    (("tests", "benchmarks"), ()),
    # messages; keys and who may come in; vLLM's own outputs
    (("zmq",), ("protocol/channel.py", "protocol/curve.py", "engine_worker/engines/vllm/")),
    (ENGINE, ("engine_worker/engines/", "engine_worker/demo_model/")),
]

# Everything else is a core: it decides, and knows no loop, socket, clock, chance or disk.
SHELLS = (
    *"protocol/channel.py protocol/curve.py protocol/curve_files.py protocol/curve_keys.py".split(),
    *"protocol/outgoing.py protocol/settings.py".split(),
    *"frontend/__main__.py frontend/arbiter.py frontend/app.py frontend/answers.py frontend/parameters.py".split(),
    *"frontend/response_endpoints.py frontend/conversation_endpoints.py frontend/model_endpoints.py".split(),
    *"frontend/closings.py frontend/contexts.py frontend/replaying.py frontend/resolving.py".split(),
    *"frontend/links.py frontend/reading.py frontend/store/ frontend/delivering.py frontend/sweeping.py".split(),
    *"frontend/keys.py frontend/tenants/key_file.py frontend/tenants/shared.py".split(),
    *"frontend/tenants/gate.py frontend/tenants/access.py".split(),
    *"frontend/process_files.py frontend/metrics/files.py frontend/metrics/counting.py".split(),
    *"frontend/metrics/watch.py frontend/metrics/endpoint.py".split(),
    *"engine_worker/__main__.py engine_worker/supervisor.py".split(),
    *"engine_worker/process_group.py engine_worker/slot.py engine_worker/scratch.py".split(),
    "engine_worker/diagnostics.py",
    *"engine_worker/journal_dirs.py engine_worker/journal_files.py protocol/private_dir.py".split(),
    *"engine_worker/locks.py engine_worker/takeover.py".split(),
    *"engine_worker/actor_process.py engine_worker/shell.py engine_worker/bursts.py".split(),
    *"engine_worker/engines/ engine_worker/demo_model/".split(),
)
IMPURE = (
    *"aiohttp asyncio gunicorn socket uvloop".split(),
    *"logging os signal subprocess threading".split(),
    *"datetime random secrets time uuid".split(),
)


@cache
def syntax(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(), str(path))


def name(path: Path) -> str:
    """The path as the tables above write it."""
    return path.relative_to(ROOT).as_posix()


def imports(path: Path, roots: tuple[str, ...]) -> Iterator[str]:
    """`file:line: module` for each import below one of `roots`, inside functions too."""
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        yield from (f"{name(path)}:{node.lineno}: {module}" for module in modules if module.split(".")[0] in roots)


@pytest.mark.parametrize(("files", "lines_max"), [(PRODUCT, 350), (OTHERS, 500)], ids=["product", "others"])
def test_files_are_short(files: list[Path], lines_max: int) -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in files}
    assert {file: lines for file, lines in lengths.items() if lines > lines_max} == {}


def test_functions_fit_a_screen() -> None:
    functions = {
        f"{name(path)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for path in PRODUCT + OTHERS
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    }
    assert {function: lines for function, lines in functions.items() if lines > FUNCTION_LINES_MAX} == {}


def test_product_modules_say_what_they_own() -> None:
    assert [name(path) for path in PRODUCT if syntax(path).body and not ast.get_docstring(syntax(path))] == []


@pytest.mark.parametrize(("roots", "allowed"), FORBIDDEN_IMPORTS, ids=lambda value: "-".join(value))
def test_imports_point_one_way(roots: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    files = [path for path in PRODUCT if not name(path).startswith(allowed)]
    wrong = [found for path in files for found in imports(path, roots)]
    assert not wrong, "\n".join(wrong)


def test_cores_are_pure() -> None:
    cores = [path for path in PRODUCT if not name(path).startswith(SHELLS)]
    impure = [found for path in cores for found in imports(path, IMPURE)]
    assert not impure, "\n".join(impure)
    assert [shell for shell in SHELLS if not (ROOT / shell).exists()] == []


def test_nothing_is_left_to_do() -> None:
    unfinished = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|NotImplemented" r"Error)\b")
    texts = [*PRODUCT, *OTHERS, *ROOT.glob("*.*"), *ROOT.glob("docs/**/*.md")]
    lines = [(path, line) for path in texts if path.is_file() for line in path.read_text().splitlines()]
    found = [f"{name(path)}: {line.strip()}" for path, line in lines if unfinished.search(line)]
    assert not found, "\n".join(found)


def test_locks_pin_what_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    locks = [ROOT / "engine_worker/requirements-cpu.txt", ROOT / "tests/requirements.txt"]
    pinned = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", "\n".join(lock.read_text() for lock in locks), re.MULTILINE))
    assert {
        str(wish): pinned.get(wish.name) for wish in declared if pinned.get(wish.name, "") not in wish.specifier
    } == {}
