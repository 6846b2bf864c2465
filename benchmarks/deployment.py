"""Starts Holdfast's real processes for a test or a benchmark, finds them, and ends them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import psutil

REPOSITORY = Path(__file__).resolve().parents[1]
START_DEADLINE_S = 240.0
"""A model is loaded in it."""
STOP_DEADLINE_S = 90.0
"""A worker drains in it, and closes its engine."""
ANSWER_DEADLINE_S = 60.0
"""How long a health check may take, and what a process group leaves to be gone: a busy machine takes its time."""


_ports_given: set[int] = set()


def free_port() -> int:
    """A TCP port that nobody listens on now, and another one each time: two frontends could share one unnoticed."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _ports_given:
            _ports_given.add(port)
            return port


def wait_until(condition: Callable[[], object], deadline_s: float, what: str) -> None:
    """Poll until the condition holds; raises `AssertionError` with `what` past the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.02)


class Process:
    """One process that was started here, with its output in a file and its descendants at hand."""

    def __init__(self, name: str, command: Sequence[str], environment: dict[str, str], output: Path) -> None:
        self.name = name
        self.output = output
        with output.open("ab") as sink:
            self._popen = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=sink, stderr=sink, start_new_session=True
            )
        self.pid = self._popen.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._popen.poll() is not None

    def descendants(self, matching: str) -> list[psutil.Process]:
        """Living processes below this one whose command line or name contains `matching`."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                text = process.name() + " " + " ".join(process.cmdline())
                if matching in text and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def wait(self, deadline_s: float) -> int:
        """Wait for its end and return the exit code."""
        return self._popen.wait(deadline_s)

    def stop(self) -> int:
        """SIGTERM, wait for the end, and return the exit code; fails when anything of its tree stays behind."""
        tree = self._tree()
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        try:
            code = self._popen.wait(STOP_DEADLINE_S)
            _, alive = psutil.wait_procs(tree, timeout=ANSWER_DEADLINE_S)
            assert not alive, f"{self.name} left {[process.cmdline() for process in alive]} behind"
        finally:
            for process in tree:
                if process.is_running():
                    process.kill()
        return code

    def _tree(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


class Deployment:
    """Some frontends and workers over one run directory; `with` starts nothing and stops all that was started, after
    SIGTERM too. It belongs into the main thread."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.processes: list[Process] = []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
        tools = str(Path(sys.executable).parent)
        self.environment = inherited | {
            "PATH": f"{tools}:{inherited['PATH']}",
            "HOLDFAST_RUN_DIR": str(directory),
            "HOLDFAST_DATA_DIR": str(directory / "data"),
            "HOLDFAST_ACTOR_HANG_AFTER_S": "60",  # a busy machine may hold one up for longer than the default
            "HOLDFAST_JOURNAL_VOLATILE_DIR": str(directory / "volatile"),  # /dev/shm would keep what is left
            **{"HOLDFAST_" + name.upper(): value for name, value in settings.items()},
        }

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self.processes):
            process.stop()

    def start(self, *command: str, **settings: str) -> Process:
        """Start a command of this deployment, with further `HOLDFAST_*` settings of its own."""
        environment = self.environment | {"HOLDFAST_" + name.upper(): value for name, value in settings.items()}
        name = "-".join(command[-2:]).replace("/", "_")
        output = self.directory / f"{len(self.processes)}-{name}.log"
        process = Process(name, command, environment, output)
        self.processes.append(process)
        return process

    def frontend(self, port: int | None = None, **settings: str) -> tuple[Process, str]:
        """Start one frontend, on a port of its own unless told which; returns it and its base URL."""
        port = port or free_port()
        return self.start(sys.executable, "-m", "frontend", port=str(port), **settings), f"http://127.0.0.1:{port}"

    def worker(self, *flags: str, **settings: str) -> Process:
        """Start one engine worker."""
        return self.start(sys.executable, "-m", "engine_worker", *flags, **settings)

    def logs(self) -> str:
        """All output so far, for the message of a failure."""
        return "\n".join(f"== {each.name}\n{each.output.read_text()[-4000:]}" for each in self.processes)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """End as after Ctrl-C. Whoever ends a process group may tell a process twice; that must not end its cleaning up."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def journal_in_memory() -> Iterator[dict[str, str]]:
    """The setting that has journals of what is not stored where they are by default: in memory, where there is any to
    be had as files. The directory is one of its own."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-", dir=memory) as directory:
        yield {"journal_volatile_dir": directory}


def ready(url: str, deployment: Deployment, deadline_s: float = START_DEADLINE_S) -> None:
    """Wait until the frontend at `url` says that a worker is ready."""
    try:
        wait_until(lambda: status_of(url + "/health/ready") == 200, deadline_s, f"{url} ready")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{deployment.logs()}") from None


def status_of(url: str) -> int:
    """HTTP status of a GET, 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_DEADLINE_S) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
