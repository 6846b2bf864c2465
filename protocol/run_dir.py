"""The run directory of one host: where frontends find the workers' sockets. Who may write there is not known here."""

from pathlib import Path

SOCKET_SUFFIX = ".worker.sock"


def worker_socket(run_dir: Path, worker: str) -> Path:
    """Where the worker named `worker` has its socket in this run directory."""
    return run_dir / (worker + SOCKET_SUFFIX)


def worker_endpoint(run_dir: Path, worker: str) -> str:
    """The `ipc://` endpoint of the worker named `worker` in this run directory."""
    return f"ipc://{worker_socket(run_dir, worker)}"


def workers_in(run_dir: Path) -> set[str]:
    """Names of the workers whose sockets stand in the run directory; empty when it does not exist yet."""
    return {path.name.removesuffix(SOCKET_SUFFIX) for path in run_dir.glob("*" + SOCKET_SUFFIX)}
