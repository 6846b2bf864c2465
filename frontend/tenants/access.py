"""The gate as aiohttp sees it: what a request must show, which tenant it is from then on, what its answer says.

Whoever adds an endpoint that makes the model work wraps that work in `admitted`; one that reads or changes an object
compares `request[TENANT]` with the object's, and answers 404 to another's.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from frontend.tenants.gate import Gate
from frontend.tenants.key_file import Key

GATE: Final = web.AppKey("gate", Gate)
KEY: Final = web.RequestKey("key", Key)
"""The key that a request has shown; absent where none was asked for."""
TENANT: Final = web.RequestKey("tenant", str)
"""Whose objects a request may see; the empty name where no key is asked for."""

METRICS_PATH: Final = "/metrics"
_OPEN_PATHS: Final = "/health/"
"""Whoever watches this process needs no key."""


async def with_gate(app: web.Application) -> AsyncIterator[None]:
    """Close the gate at the application's end."""
    yield
    app[GATE].close()


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say whose request this is. Raises `ApiError` (401) where it shows no key that holds."""
    request[TENANT] = ""
    if not _is_open(request):
        key = request.app[GATE].key_for(_secret(request))
        if key is not None:
            request[KEY], request[TENANT] = key, key.tenant
    return await handler(request)


def _is_open(request: web.Request) -> bool:
    resource = request.match_info.route.resource
    if resource is None:
        return False
    if resource.canonical == METRICS_PATH:
        return request.app[GATE].metrics_open
    return resource.canonical.startswith(_OPEN_PATHS)


def key_name(request: web.Request) -> str:
    """The name of the key that a request has shown; empty where none was asked for."""
    key = request.get(KEY)
    return "" if key is None else key.name


def admitted(
    request: web.Request, *, streams: int = 1, requests: int = 0, tokens: int = 0
) -> AbstractContextManager[None]:
    """Let a request that makes the model work, or holds a stream, in for a block; see `Gate.admitted`."""
    return request.app[GATE].admitted(request.get(KEY), streams=streams, requests=requests, tokens=tokens)


def rate_headers(request: web.Request) -> dict[str, str]:
    """What the answer to this request says of its key's limits."""
    return request.app[GATE].headers(request.get(KEY))


def _secret(request: web.Request) -> str | None:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    return request.headers.get("api-key")  # Azure's way
