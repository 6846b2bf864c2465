"""Who is told by webhook, as configuration says it: the settings for the whole server, the keys file for one key."""

import base64
import binascii
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

WebhookEvent = Literal["response.completed", "response.failed", "response.incomplete", "response.cancelled"]
WEBHOOK_EVENTS: Final[tuple[WebhookEvent, ...]] = get_args(WebhookEvent)

_SECRET_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = range(24, 65)
"""How long a signing key may be, by Standard Webhooks."""


class WebhookEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who wants to be told of which events. Raises `ValueError` for what can't be one, in words without the secret.

    `secret` is one or several of `whsec_...`, separated by spaces. All of them sign, so that a receiver can go over to
    a new one at its leisure.
    """

    url: str
    secret: str
    events: tuple[WebhookEvent, ...] = WEBHOOK_EVENTS

    def __post_init__(self) -> None:
        url = urlsplit(self.url)
        if url.scheme not in ("http", "https") or not url.hostname or url.port == 0:
            raise ValueError("a webhook's URL must begin with https:// or http:// and name a host")
        if not self.secrets or not all(map(_is_secret, self.secrets)):
            raise ValueError(
                "a webhook's secret must be 'whsec_' and the base64 of 24 to 64 random bytes, as of "
                'echo "whsec_$(head -c 32 /dev/urandom | base64)"'
            )

    def __repr__(self) -> str:
        return f"<WebhookEndpoint at {self.host}>"

    @property
    def host(self) -> str:
        """What of the URL may be logged: the rest can hold secrets."""
        return urlsplit(self.url).hostname or ""

    @property
    def secrets(self) -> list[str]:
        """Each secret by itself."""
        return self.secret.split()


def webhook_endpoint(url: str, secret: str, events: str) -> WebhookEndpoint | None:
    """An endpoint from three settings, `events` separated by commas (all, when empty); None when no URL is given.

    Raises `ValueError`, as `WebhookEndpoint` does.
    """
    if not url:
        return None
    chosen = tuple(name.strip() for name in events.split(",") if name.strip())
    try:
        return WebhookEndpoint(url, secret, msgspec.convert(chosen or WEBHOOK_EVENTS, tuple[WebhookEvent, ...]))
    except msgspec.ValidationError:
        raise ValueError(f"a webhook's events are some of: {', '.join(WEBHOOK_EVENTS)}") from None


def _is_secret(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error:
        return False
    return text.startswith(_SECRET_PREFIX) and len(key) in _SECRET_BYTES
