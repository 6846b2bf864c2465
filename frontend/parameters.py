"""What a request says outside its JSON: query parameters and headers, each read or refused by name."""

import re
from hashlib import blake2b
from typing import Final, get_args

from aiohttp import web

from frontend.api.errors import body_too_large, invalid, unsupported_media_type
from frontend.api.request import Include
from frontend.store.pages import PageWish
from protocol.records import Dialect

_SEQUENCE_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_IDEMPOTENCY_KEY_CHARS_MAX: Final = 255
_PAGE_ITEMS_MAX: Final = 100


def flag(request: web.Request, name: str, *, default: bool) -> bool:
    """The query parameter `name`, which must be `true` or `false`. Raises `ApiError` (400)."""
    match request.query.get(name):
        case None:
            return default
        case "true":
            return True
        case "false":
            return False
        case text:
            raise invalid(name, f"{name} must be true or false, not '{text}'.")


def cursor(request: web.Request, *, stream: bool, event_ids: bool) -> int:
    """The last event the client has: -1 for none. Raises `ApiError` (400).

    With `event_ids` the header `Last-Event-ID`, by which a browser's EventSource resumes by itself, wins over
    `starting_after`, which is in the URL that the browser began with.
    """
    text = request.query.get("starting_after")
    if text is not None and not stream:
        raise invalid("starting_after", "starting_after needs stream=true.")
    if event_ids:
        text = request.headers.get("Last-Event-ID", text)
    if text is None:
        return -1
    if not _SEQUENCE_NUMBER.fullmatch(text):
        raise invalid("starting_after", f"starting_after must be a sequence number (0, 1, 2, ...), not '{text}'.")
    return int(text)


def dialect(request: web.Request, default: Dialect) -> Dialect:
    """The dialect of a create. Raises `ApiError` (400)."""
    text = request.headers.get("X-Responses-Dialect", default)
    for known in get_args(Dialect):
        if text == known:
            return known  # type: ignore[no-any-return] # one of the Literal's values
    raise invalid("X-Responses-Dialect", f"X-Responses-Dialect must be one of {', '.join(get_args(Dialect))}.")


def idempotency_key(request: web.Request) -> str | None:
    """The key under which a create is made once. Raises `ApiError` (400)."""
    key = request.headers.get("Idempotency-Key")
    if key is None or (0 < len(key) <= _IDEMPOTENCY_KEY_CHARS_MAX and key.isascii() and key.isprintable()):
        return key
    raise invalid("Idempotency-Key", "Idempotency-Key must be 1 to 255 printable ASCII characters.")


def keyed_response_id(key: str, tenant: str = "") -> str:
    """The id of the response that a tenant made under an `Idempotency-Key`: any frontend finds the same one.

    Neither of the two can hold a zero byte, so no two pairs hash the same text.
    """
    return "resp_" + blake2b(f"{tenant}\0{key}".encode()).hexdigest()[:32]


def include(request: web.Request) -> None:
    """See that what is to be included is something we know; all of it that we have is always there.

    Raises `ApiError` (400).
    """
    known = get_args(Include)
    for name in ("include", "include[]"):
        for value in request.query.getall(name, ()):
            if value not in known:
                raise invalid("include", f"include must be one of {', '.join(known)}, not '{value}'.")


def page(request: web.Request) -> PageWish:
    """Which page of a list is asked for. Raises `ApiError` (400)."""
    include(request)
    limit, order = request.query.get("limit", "20"), request.query.get("order", "desc")
    if not limit.isdecimal() or not 1 <= int(limit) <= _PAGE_ITEMS_MAX:
        raise invalid("limit", f"limit must be a whole number from 1 to {_PAGE_ITEMS_MAX}, not '{limit}'.")
    if order not in ("asc", "desc"):
        raise invalid("order", f"order must be asc or desc, not '{order}'.")
    after, before = request.query.get("after"), request.query.get("before")
    return PageWish(limit=int(limit), descending=order == "desc", after=after, before=before)


async def body_of(request: web.Request, bytes_max: int) -> bytes:
    """The body of a request that may have none; otherwise as `json_body`."""
    return await json_body(request, bytes_max) if request.body_exists else b""


async def json_body(request: web.Request, bytes_max: int) -> bytes:
    """The body of a request that says it is JSON. Raises `ApiError` (413, 415).

    `request.read` would keep it for as long as the answer streams, and `request.content_type` costs 800 bytes as long.
    """
    content_type = request.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise unsupported_media_type(content_type)
    if (request.content_length or 0) > bytes_max:
        raise body_too_large(bytes_max)
    body = b""
    async for chunk in request.content.iter_any():
        body = body + chunk if body else chunk
        if len(body) > bytes_max:
            raise body_too_large(bytes_max)
    return body
