"""A worker's place in the run directory: its name, its lock, its socket, and a note of the process group it runs.

    worker-0.lock          locked by the supervisor as long as it lives; holds the group of its actor
    worker-0.worker.sock   the actor's socket

The lock file stays when the worker ends: unlinking a file that others may be about to lock lets two of them in.
"""

import fcntl
import os
from pathlib import Path
from typing import Self

import msgspec

from engine_worker.process_group import Group
from protocol.private_dir import NotPrivate, make_private
from protocol.run_dir import worker_socket

SOCKET_PATH_BYTES_MAX = 107
"""What a Unix socket's address holds (man 7 unix), less the closing zero."""


class NoSlot(Exception):
    """There is no place for this worker in the run directory; the message says why and what would help."""


class Slot:
    """A locked slot. `claim` makes one; `release` gives it back, and so does the end of this process."""

    def __init__(self, name: str, socket: Path, lock: int) -> None:
        self.name = name
        self.socket = socket
        self._lock = lock

    @classmethod
    def claim(cls, run_dir: Path, workers_max: int) -> Self:
        """Lock the first free slot; makes the directory if need be. Raises `NoSlot`."""
        try:
            make_private(run_dir, "run directory")
        except NotPrivate as error:
            raise NoSlot(str(error)) from error
        for number in range(workers_max):
            name = f"worker-{number}"
            socket = worker_socket(run_dir, name)
            if len(os.fsencode(socket)) > SOCKET_PATH_BYTES_MAX:
                raise NoSlot(
                    f"the path {socket} is longer than the {SOCKET_PATH_BYTES_MAX} bytes that a socket's may have;"
                    " choose a shorter --run-dir"
                )
            lock = os.open(run_dir / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return cls(name, socket, lock)
        raise NoSlot(f"all {workers_max} workers that {run_dir} may have are running (--workers-max)")

    @property
    def group(self) -> Group | None:
        """The process group noted last; it may long be gone."""
        try:
            return msgspec.json.decode(os.pread(self._lock, 4096, 0), type=Group)
        except msgspec.MsgspecError:
            return None  # Nothing noted yet, or cut short by a crash: then its actor has seen our end by itself.

    def note(self, group: Group | None) -> None:
        """Note which process group runs in this slot, for the next supervisor should this one be killed."""
        os.ftruncate(self._lock, 0)
        if group is not None:
            os.pwrite(self._lock, msgspec.json.encode(group), 0)

    def release(self) -> None:
        """Remove what the worker left in the directory, and unlock."""
        self.socket.unlink(missing_ok=True)
        self.note(None)
        self._unlock()

    def _unlock(self) -> None:
        os.close(self._lock)
