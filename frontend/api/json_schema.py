"""Checks the JSON schemas that clients send, against the 2020-12 metaschema, before a worker spends time on them."""

from typing import Any, Final

import jsonschema_rs
import msgspec

from frontend.api.errors import invalid
from frontend.api.validation import joined

_MESSAGE_CHARACTERS_MAX: Final = 300
"""The validator's message repeats the offending part of the schema, which may be all of it."""


SCHEMA_BYTES_MAX: Final = 512 * 1024
"""A larger schema, or as much in all of a request's tools, keeps a worker from everything else for seconds while it is
made into a grammar. OpenAI's own bounds (5,000 properties, 120,000 characters of names and values) fit in it."""


def check_schema(schema: dict[str, Any], path: str) -> int:
    """Check the schema found at `path` of the body, and return its bytes. Raises `ApiError` that says what is wrong.

    `$schema` is allowed and not followed: whichever draft it names, the schema is read as 2020-12.
    """
    size = len(msgspec.json.encode(schema))
    check_size(size, path)
    body = {name: value for name, value in schema.items() if name != "$schema"}
    try:
        jsonschema_rs.meta.validate(body)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        where = path
        for step in getattr(error, "instance_path", ()):
            where = f"{where}[{step}]" if isinstance(step, int) else joined(where, step)
        reason = getattr(error, "message", str(error))[:_MESSAGE_CHARACTERS_MAX]
        raise invalid(path, f"Invalid JSON schema at '{where}': {reason}.", "invalid_json_schema") from error
    return size


def check_size(size: int, path: str) -> None:
    """Refuse schemas of more bytes than a worker can take at once. Raises `ApiError`."""
    if size > SCHEMA_BYTES_MAX:
        message = f"The JSON schemas at '{path}' take {size:,} bytes; this server accepts {SCHEMA_BYTES_MAX:,} at most."
        raise invalid(path, message, "json_schema_too_large")
