"""Files that each belong to one process for its life: others read them, and see by a lock whether it lives.

A process keeps its own file locked (`flock`) as long as it lives; that lock is taken by nobody else but tried by all.
When it is free, its process is dead. So no lock is shared, and a process that is stopped or killed holds nobody up.
"""

import fcntl
import os
import secrets
from pathlib import Path


def create_locked(directory: Path, size: int) -> tuple[Path, int]:
    """Make a file of our own, locked and zeroed; returns its path and its descriptor. Raises `OSError`."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        path = directory / secrets.token_hex(8)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:  # otherwise somebody took it for a dead process's before we had locked it
                os.posix_fallocate(file, 0, size)  # without its blocks, a write when the disk is full would kill us
                return path, file
        except BlockingIOError:
            pass  # somebody tries whether it is locked
        except OSError:
            os.close(file)
            path.unlink(missing_ok=True)
            raise
        os.close(file)
        path.unlink(missing_ok=True)


def lock_if_free(file: int) -> bool:
    """Lock it, until it is closed, if its process is dead, or has not come to lock it.

    In the latter case that process finds out, and begins another file. Those who ask at the same time don't get into
    each other's way.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_free(file: int) -> bool:
    """Whether its process is dead; to be asked of a file that was begun by it, which it had locked before."""
    free = lock_if_free(file)
    if free:
        fcntl.flock(file, fcntl.LOCK_UN)
    return free
