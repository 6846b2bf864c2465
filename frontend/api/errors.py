"""The API's errors: what an HTTP error answer says, and which status it has (spec: "Errors").

`ApiError` is the frontend's one exception for "answer this request with an error". It knows nothing of aiohttp.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from protocol.records import ErrorDetail

RETRY_AFTER_S: Final = 2
"""What `Retry-After` says when a worker is absent or full: about as long as a worker's loss takes to be noticed."""
QUEUE_FULL: Final = "queue_full"
"""The code of what the workers have no room for: theirs, and ours."""

_STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found": 404,
    "idempotency_error": 409,
    "too_many_requests": 429,
    "server_error": 500,
}
_STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "model_not_found": 404,
    "engine_unavailable": 503,
    "engine_lost": 503,
    "overloaded": 503,
}
"""Codes that decide the status before their type does."""


class ApiError(Exception):
    """An error answer: HTTP `status`, the four fields of the API's error object, and extra HTTP `headers`."""

    def __init__(self, status: int, detail: ErrorDetail, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail.message)
        self.status = status
        self.type = detail.type
        self.code = detail.code
        self.message = detail.message
        self.param = detail.param
        self.headers: Mapping[str, str] = headers or {}

    def body(self) -> bytes:
        """The answer's JSON body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """400: the request is wrong at `param` (a path such as `input[0].content`)."""
    return _client_error(400, code, message, param)


def unsupported(param: str, message: str) -> ApiError:
    """400: the API knows this, but this server does not serve it."""
    return invalid(param, message, "unsupported_parameter")


def response_not_found(response_id: str) -> ApiError:
    """404: no worker has this response."""
    message = f"Response with id '{response_id}' not found."
    return _client_error(404, "response_not_found", message, "response_id")


def previous_response_not_found(response_id: str) -> ApiError:
    """404: there is no stored response to continue."""
    message = f"Previous response with id '{response_id}' not found."
    return _client_error(404, "previous_response_not_found", message, "previous_response_id")


def conversation_not_found(conversation_id: str, param: str = "conversation_id") -> ApiError:
    """404: there is no such conversation."""
    message = f"Conversation with id '{conversation_id}' not found."
    return _client_error(404, "conversation_not_found", message, param)


def item_not_found(item_id: str, param: str = "item_id") -> ApiError:
    """404: there is no such item."""
    return _client_error(404, "item_not_found", f"Item with id '{item_id}' not found.", param)


def conflict(param: str, code: str, message: str, retry_after_s: int = RETRY_AFTER_S) -> ApiError:
    """409: it can't be done now, because of something else that is going on."""
    detail = ErrorDetail("invalid_request_error", code, message, param)
    return ApiError(409, detail, {"Retry-After": str(retry_after_s)})


def replay_gone(response_id: str) -> ApiError:
    """410: the response is stored, and its stream isn't any more."""
    message = f"The stream of response '{response_id}' is not kept any more; retrieve the response without 'stream'."
    return _client_error(410, "replay_expired", message, "stream")


def model_not_found(model: str, served: list[str]) -> ApiError:
    """404: no worker serves this model."""
    message = f"The model '{model}' does not exist. Served here: {', '.join(served) or 'none yet'}."
    return _client_error(404, "model_not_found", message, "model")


def path_not_found(method: str, path: str) -> ApiError:
    """404: no such endpoint."""
    return _client_error(404, "unknown_url", f"Unknown request URL: {method} {path}.")


def method_not_allowed(method: str, path: str, allowed: list[str]) -> ApiError:
    """405: the endpoint exists, for other methods."""
    methods = ", ".join(allowed)
    message = f"{method} is not allowed on {path}; allowed: {methods}."
    detail = ErrorDetail("invalid_request_error", "method_not_allowed", message)
    return ApiError(405, detail, {"Allow": methods})


def body_too_large(bytes_max: int) -> ApiError:
    """413: the body is over the frontend's limit."""
    message = f"The request body is larger than the {bytes_max:,} bytes this server accepts."
    return _client_error(413, "request_too_large", message)


def unsupported_media_type(content_type: str) -> ApiError:
    """415: the body is not announced as JSON."""
    message = f"The request body must be JSON (Content-Type: application/json), not '{content_type}'."
    return _client_error(415, "unsupported_media_type", message)


def idempotency_mismatch() -> ApiError:
    """409: the `Idempotency-Key` was used before, with another body."""
    message = "This Idempotency-Key was used before with a different request body; use a new key."
    return ApiError(409, ErrorDetail("idempotency_error", "idempotency_mismatch", message))


def not_in_background() -> ApiError:
    """400: only what runs in the background can be cancelled."""
    return invalid("response_id", "Cannot cancel a synchronous response.", "invalid_request")


def unauthorized(message: str) -> ApiError:
    """401: no API key was given, or none that is valid."""
    detail = ErrorDetail("authentication_error", "invalid_api_key", message)
    return ApiError(401, detail, {"WWW-Authenticate": "Bearer"})


def forbidden(message: str) -> ApiError:
    """403: the API key is valid, and not meant for this."""
    return ApiError(403, ErrorDetail("permission_error", "forbidden", message))


def rate_limited(message: str, retry_after_s: int) -> ApiError:
    """429: the key has done as much as it may for now."""
    detail = ErrorDetail("too_many_requests", "rate_limit_exceeded", message)
    return ApiError(429, detail, {"Retry-After": str(retry_after_s)})


def queue_full(model: str, retry_after_s: int) -> ApiError:
    """429: as many requests wait for the model as its workers take."""
    message = f"Too many requests wait for the model '{model}' already. Please try again in {retry_after_s}s."
    return ApiError(429, ErrorDetail("too_many_requests", QUEUE_FULL, message), {"Retry-After": str(retry_after_s)})


def unavailable(message: str, code: str = "engine_unavailable", retry_after_s: int = RETRY_AFTER_S) -> ApiError:
    """503: nothing is wrong with the request; no worker can take it now."""
    return ApiError(503, ErrorDetail("server_error", code, message), {"Retry-After": str(retry_after_s)})


def internal(request_id: str) -> ApiError:
    """500: our fault; the details are in the log under `request_id`."""
    message = f"The server failed while handling this request (request id {request_id})."
    return ApiError(500, ErrorDetail("server_error", "internal_error", message))


def from_detail(detail: ErrorDetail) -> ApiError:
    """The HTTP answer to a worker's error; a type this version does not know counts as the server's fault."""
    status = _STATUS_OF_CODE.get(detail.code) or _STATUS_OF_TYPE.get(detail.type, 500)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else None
    return ApiError(status, detail, headers)


def _client_error(status: int, code: str, message: str, param: str | None = None) -> ApiError:
    return ApiError(status, ErrorDetail("invalid_request_error", code, message, param))
