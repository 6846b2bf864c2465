"""Directories that nobody else may look into: mode 0700, and ours."""

import os
import stat
from pathlib import Path


class NotPrivate(Exception):
    """The directory can't be made, or isn't this user's alone; the message says which, and what would help."""


def make_private(path: Path, what: str) -> None:
    """Make the directory (and those above it) if it is absent, and see that it is ours alone. Raises `NotPrivate`.

    `what` names it in the message, such as "run directory".
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise NotPrivate(f"the {what} {path} can't be made: {error.strerror}") from error
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise NotPrivate(f"the {what} {path} must be yours alone (chmod 700 {path}), or choose another")
