"""Who is let into this process, and how much of it: the keys that hold, and what all processes count for them."""

import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from frontend.api.errors import unauthorized, unavailable
from frontend.config import Settings
from frontend.messages import Charge
from frontend.tenants.counters import key_id
from frontend.tenants.key_file import BadKeyFile, Key, KeyRing, read_keys
from frontend.tenants.limits import KeyLimits, rate_headers, refusal
from frontend.tenants.shared import SharedCounters
from frontend.webhook_endpoints import WebhookEndpoint

logger = logging.getLogger(__name__)

_FREE: Final = nullcontext()
"""For whom nothing is counted."""


def keys_path(settings: Settings) -> Path:
    """Where the keys are."""
    return Path(settings.keys_file or settings.data_dir / "keys.json")


def why_not_serve(settings: Settings) -> str | None:
    """Why this frontend must not start: its keys can't be read, or without any whoever reaches it would be let in."""
    path = keys_path(settings)
    try:
        read_keys(path, settings.keys_max)
    except FileNotFoundError:
        if settings.allow_open or _is_own_host(settings.host) is not False:
            return None
        return (
            f"there is no keys file {path}, so whoever reaches {settings.host} would be let in. Make a key"
            " (python -m frontend.keys create NAME), listen on 127.0.0.1, or say --allow-open true"
        )
    except BadKeyFile as error:
        return str(error)
    return None


def _is_own_host(host: str) -> bool | None:
    """Whether only processes of this host reach what listens at `host`; None when there is no such address (now)."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return None
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


EVERYBODY: Final = "*"
"""As the setting `metrics_key`: whoever reaches us may read the metrics."""


class Gate:
    """One process's. `close` it. `clock` gives seconds, and the same ones to all processes of the host."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.metrics_open = settings.metrics_key == EVERYBODY
        self._clock = clock
        open_without = settings.allow_open or _is_own_host(settings.host) is True
        self._ring = KeyRing(keys_path(settings), settings.keys_max, clock, open_without=open_without)
        self._counters = SharedCounters(settings.run_dir / "limits", settings.keys_max)

    def __repr__(self) -> str:
        return f"<Gate {self._ring} {self._counters}>"

    def close(self) -> None:
        """Count no more."""
        self._counters.close()

    def key_for(self, secret: str | None) -> Key | None:
        """The key of a request that shows this secret; None when it needs none. Raises `ApiError` (401, 503)."""
        self._ring.look()
        if not self._ring.required:
            return None
        if self._ring.problem is not None:
            raise unavailable("This server's API keys can't be read at present.", "keys_unavailable")
        if secret is None:
            raise unauthorized(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using"
                " Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            )
        key = self._ring.find(secret)
        if key is None:
            raise unauthorized("Incorrect API key provided.")
        return key

    def webhooks(self, tenant: str) -> Mapping[str, WebhookEndpoint]:
        """Who of a tenant wants to know how background responses end, by name."""
        self._ring.look()
        return self._ring.webhooks(tenant)

    def admitted(
        self, key: Key | None, *, streams: int = 1, requests: int = 0, tokens: int = 0
    ) -> AbstractContextManager[None]:
        """Count so many requests of this key, and until the end of the block so many streams and tokens as in progress.

        No more tokens than the limit are reserved, so that a single request is always possible. Raises `ApiError`
        (429; 503 where it can't be counted).

        A request is counted before it is decided upon, and taken back when it is refused: of two processes that decide
        at the same time at least one sees both. So never more than the limit is let in.
        """
        if key is None or not key.limits or not streams:
            return _FREE
        return self._admitted(key, key.limits, streams, requests, tokens)

    @contextmanager
    def _admitted(self, key: Key, limits: KeyLimits, streams: int, requests: int, tokens: int) -> Iterator[None]:
        reserved = min(tokens, limits.tokens_per_minute or 0)
        ident, now = key_id(key.name), self._clock()
        with _counting():
            own = self._counters.own(ident, self._ring.ids)
            own.hold(ident, streams, reserved)
            own.count_request(ident, int(now), requests)
        try:
            with _counting():
                error = refusal(limits, self._counters.used(ident, int(now)), now)
            if error is not None:
                own.count_request(ident, int(now), -requests)
                raise error
            yield
        finally:
            own.hold(ident, -streams, -reserved)

    def charge(self, charge: Charge) -> None:
        """Charge a finished turn's tokens to the key that asked for it; to be told once."""
        key = self._ring.named(charge.key)
        if key is None or key.limits.tokens_per_minute is None:
            return
        ident = key_id(key.name)
        try:
            own = self._counters.own(ident, self._ring.ids)
        except OSError:
            logger.exception("response %s: its tokens are not charged to its key", charge.response_id)
        else:
            own.count_tokens(ident, int(self._clock()), charge.usage.input_tokens + charge.usage.output_tokens)

    def headers(self, key: Key | None) -> dict[str, str]:
        """What an answer to this key says of its limits."""
        if key is None or not key.limits:
            return {}
        now = self._clock()
        try:
            used = self._counters.used(key_id(key.name), int(now))
        except OSError:
            return {}
        return rate_headers(key.limits, used, now)


@contextmanager
def _counting() -> Iterator[None]:
    """Say what it means for a request when the counters fail."""
    try:
        yield
    except OSError as error:
        logger.exception("the counters of API keys failed")
        raise unavailable("This server can't count requests at present.", "overloaded") from error
