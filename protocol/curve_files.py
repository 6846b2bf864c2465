"""The files of keys for workers that are reached over TCP, and who may read them. What is done with them: `curve.py`.

All workers of a deployment share one key pair, which shows a frontend that it speaks with a worker; each host of
frontends has its own, which shows a worker that it speaks with a frontend. A directory has the files of a host:

    worker.key      secret; on the hosts of workers            frontend.key   secret; on the hosts of frontends
    authorized      `NAME PUBLIC_KEY` a line, the frontends    worker.pub     the workers' public key
                    that workers let in

Keys are 32 bytes in hexadecimal (http://curvezmq.org, Curve25519). `python -m protocol.curve_keys` makes them.
"""

import os
import re
import stat
from pathlib import Path
from typing import Final, NamedTuple

WORKER_SECRET: Final = "worker.key"
WORKER_PUBLIC: Final = "worker.pub"
FRONTEND_SECRET: Final = "frontend.key"
AUTHORIZED: Final = "authorized"

_KEY: Final = re.compile(r"[0-9a-f]{64}")
_ENTRY: Final = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([0-9a-f]{64})")


class BadCurveKeys(Exception):
    """A key file can't be used; the message names it and says why."""


class WorkerKeys(NamedTuple):
    """What a worker needs: its secret key (32 bytes), and the file of those whom it lets in."""

    secret: bytes
    authorized: Path


class FrontendKeys(NamedTuple):
    """What a frontend needs: its secret key and the workers' public one (32 bytes each)."""

    secret: bytes
    worker: bytes


def worker_keys(directory: Path, *, plain: bool) -> WorkerKeys | None:
    """A worker's keys; None where there are none and `plain` allows that. Raises `BadCurveKeys`."""
    path = directory / WORKER_SECRET
    return None if _is_plain(path, plain) else WorkerKeys(read_secret(path), directory / AUTHORIZED)


def frontend_keys(directory: Path, *, plain: bool) -> FrontendKeys | None:
    """A frontend's keys; None where there are none and `plain` allows that. Raises `BadCurveKeys`."""
    path = directory / FRONTEND_SECRET
    return None if _is_plain(path, plain) else FrontendKeys(read_secret(path), _read(directory / WORKER_PUBLIC))


def _is_plain(path: Path, plain: bool) -> bool:
    if path.exists():
        return False
    if plain:
        return True
    raise BadCurveKeys(
        f"tcp:// needs the key {path} (`python -m protocol.curve_keys`, --curve-dir): without it, everybody who reaches"
        " the port could read and write every response. --allow-plain-tcp true goes without"
    )


def read_secret(path: Path) -> bytes:
    """A secret key that nobody else can read. Raises `BadCurveKeys`.

    The file is ours alone, or root's and read by its group at most, which is how Kubernetes hands secrets out.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise BadCurveKeys(f"the key {path} can't be read: {error.strerror}") from error
    group_reads = stat.S_IRGRP if found.st_uid == 0 and os.getuid() != 0 else 0
    if found.st_uid not in (0, os.getuid()) or stat.S_IMODE(found.st_mode) & 0o077 & ~group_reads:
        raise BadCurveKeys(f"the key {path} can be read by others: it must be yours alone (chmod 600 {path})")
    return _read(path)


def read_authorized(path: Path) -> dict[bytes, str]:
    """The names of the frontends by their public keys. Raises `BadCurveKeys`."""
    try:
        return parse_authorized(path.read_text(), path)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadCurveKeys(f"the file {path} can't be read: {error}") from error


def parse_authorized(text: str, path: Path) -> dict[bytes, str]:
    """The names by public keys in a file's text; empty lines and those that begin with # say nothing."""
    names = {}
    for number, line in enumerate(text.splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            entry = _ENTRY.fullmatch(text)
            if entry is None:
                raise BadCurveKeys(f"line {number} of {path} is not `NAME PUBLIC_KEY`")
            names[bytes.fromhex(entry[2])] = entry[1]
    return names


def _read(path: Path) -> bytes:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadCurveKeys(f"the key {path} can't be read: {error}") from error
    if not _KEY.fullmatch(text):
        raise BadCurveKeys(f"{path} is no key: 64 hexadecimal digits")
    return bytes.fromhex(text)
