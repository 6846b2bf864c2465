"""The 10,000 lives take two cores a minute and a half: they are lived beside the other tests, on what these leave."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import pytest

from benchmarks.deployment import REPOSITORY

SEEDS: Final = 10_000
LONG_TEST: Final = "test_whatever_happens_every_promise_is_kept"


class Lives(NamedTuple):
    """They are over when `process` is; then `result` says how they went, if they did, and `output` has what it said."""

    process: "subprocess.Popen[bytes]"
    directory: "TemporaryDirectory[str]"
    result: Path
    output: Path


_LIVES: Final = pytest.StashKey[Lives]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin with them, where they are asked for."""
    if any(item.name == LONG_TEST for item in session.items) and not session.config.option.collectonly:
        directory = TemporaryDirectory(prefix="holdfast-")
        result, output = (Path(directory.name) / name for name in ("lives.json", "output"))
        command = [sys.executable, "-m", "tests.simulation", "--seeds", str(SEEDS), "--idle", "--result", str(result)]
        with output.open("wb") as sink:
            process = subprocess.Popen(command, cwd=REPOSITORY, stdout=sink, stderr=sink, start_new_session=True)
        session.config.stash[_LIVES] = Lives(process, directory, result, output)


def pytest_sessionfinish(session: pytest.Session) -> None:
    lives = session.config.stash.get(_LIVES, None)
    if lives is not None:
        if lives.process.poll() is None:
            os.killpg(lives.process.pid, signal.SIGKILL)
            lives.process.wait()
        lives.directory.cleanup()


@pytest.fixture
def lives(pytestconfig: pytest.Config) -> Lives:
    return pytestconfig.stash[_LIVES]
