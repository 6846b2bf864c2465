"""The API keys of a deployment: one private JSON file, written by `python -m frontend.keys`, read by every frontend.

Only SHA-256 hashes are kept. A slow hash (argon2, bcrypt) protects what people choose; these secrets are 256 random
bits, which nobody guesses at any speed, and a fast hash costs a request a microsecond. A secret is found by its hash in
a dictionary: what a lookup's time could tell is about hashes, which nobody can choose their way through.
"""

import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from frontend.tenants.counters import key_id
from frontend.tenants.limits import KeyLimits
from frontend.webhook_endpoints import WebhookEndpoint

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S: Final = 1.0
"""A change of the file is noticed by the first request after so long."""

Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]


class BadKeyFile(Exception):
    """The keys file can't be read or written, or is none; the message names it."""


class Key(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One API key. `name` is unique in the file, `sha256` is the secret's, in hexadecimal; times in Unix seconds.

    `webhook` is told how background responses of the key's tenant ended; its secret signs, so it stands here as it is.
    """

    name: Name
    tenant: Name
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    created_at: int
    limits: KeyLimits = KeyLimits()
    webhook: WebhookEndpoint | None = None


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def read_keys(path: Path, keys_max: int) -> list[Key]:
    """The keys in the file, `keys_max` at most. Raises `FileNotFoundError` where there is none, and `BadKeyFile`."""
    try:
        keys = msgspec.json.decode(path.read_bytes(), type=list[Key])
    except FileNotFoundError:
        raise
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadKeyFile(f"the keys file {path} can't be read: {error}") from error
    if len({key.name for key in keys}) < len(keys):
        raise BadKeyFile(f"the keys file {path} has two keys of one name")
    if len(keys) > keys_max:
        raise BadKeyFile(f"the keys file {path} has {len(keys)} keys; --keys-max is {keys_max}")
    return keys


@contextmanager
def edited_keys(path: Path, keys_max: int) -> Iterator[list[Key]]:
    """The keys to be changed in the block; replaces the file at its end, whole or not at all. Raises `BadKeyFile`.

    Edits wait for each other. Frontends take no part in that lock: they only ever read a file that is whole.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(path.parent / f".{path.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = read_keys(path, keys_max) if path.exists() else []
            yield keys
            _replace(path, msgspec.json.format(msgspec.json.encode(keys)))
    except OSError as error:
        raise BadKeyFile(f"the keys file {path} can't be written: {error}") from error


def _replace(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as fresh:  # mode 0600
        try:
            fresh.write(content)
            fresh.flush()
            os.fsync(fresh.fileno())
            os.replace(fresh.name, path)
        except OSError:
            os.unlink(fresh.name)
            raise


class KeyRing:
    """The keys that hold now, for a process that serves: the file is looked at by requests, at most once a second.

    `ids`: all keys as counters know them. `required`: whether a request must show a key. Where there is no file none is
    asked for if `open_without`; a file without keys lets nobody in. A file that can't be read any more changes nothing;
    where it never could, `problem` says why.
    """

    def __init__(self, path: Path, keys_max: int, clock: Callable[[], float], *, open_without: bool) -> None:
        self._path = path
        self._clock = clock
        self._keys_max = keys_max
        self._open_without = open_without
        self.ids: frozenset[int] = frozenset()
        self.required = True
        self.problem: str | None = None
        self._by_name: dict[str, Key] = {}
        self._by_digest: dict[str, Key] = {}
        self._seen = _stamp(path)
        self._looked_at = clock()
        self._load()

    def __repr__(self) -> str:
        return f"<KeyRing {self._path}: {len(self._by_name)} keys{'' if self.required else ', open'}>"

    def find(self, secret: str) -> Key | None:
        """The key of this secret."""
        return self._by_digest.get(digest(secret))

    def named(self, name: str) -> Key | None:
        """The key of this name."""
        return self._by_name.get(name)

    def webhooks(self, tenant: str) -> dict[str, WebhookEndpoint]:
        """The endpoints of a tenant's keys, by a name that stays."""
        keys = self._by_name.values()
        return {f"key:{key.name}": key.webhook for key in keys if key.tenant == tenant and key.webhook is not None}

    def look(self) -> None:
        """Read the file again if it has changed since the last look, which was long enough ago."""
        now = self._clock()
        if now - self._looked_at < LOOK_INTERVAL_S:
            return
        self._looked_at = now
        seen = _stamp(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        self._load()
        logger.info("%d API keys", len(self._by_name))

    def _load(self) -> None:
        keys: list[Key] = []
        required = True
        try:
            keys = read_keys(self._path, self._keys_max)
        except FileNotFoundError:
            required = not self._open_without
        except BadKeyFile as error:
            logger.error("%s; the keys known so far stay", error)
            self.problem = self.problem if self._by_name else str(error)
            return
        self.required, self.problem = required, None
        self.ids = frozenset(key_id(key.name) for key in keys)
        self._by_name = {key.name: key for key in keys}
        self._by_digest = {key.sha256: key for key in keys}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with the file, None where it is absent."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
