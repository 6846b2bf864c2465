"""Error answers: their body, their status, and what becomes of a worker's error."""

import json

import pytest

from frontend.api import errors
from protocol.records import ErrorDetail


def test_the_body_has_the_apis_four_fields() -> None:
    error = errors.invalid("input[0]", "Wrong.", "invalid_type")
    assert json.loads(error.body()) == {
        "error": {"message": "Wrong.", "type": "invalid_request_error", "param": "input[0]", "code": "invalid_type"}
    }


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        ("invalid_request_error", "context_length_exceeded", 400),
        ("invalid_request_error", "model_not_found", 404),
        ("idempotency_error", "idempotency_mismatch", 409),
        ("too_many_requests", "queue_full", 429),
        ("server_error", "engine_failed", 500),
        ("server_error", "engine_unavailable", 503),
        ("server_error", "engine_lost", 503),
        ("server_error", "overloaded", 503),
        ("an_error_of_a_later_version", "new", 500),
    ],
)
def test_a_workers_error_has_its_status(kind: str, code: str, status: int) -> None:
    error = errors.from_detail(ErrorDetail(kind, code, "Why.", "input"))
    assert (error.status, error.type, error.code, error.message, error.param) == (status, kind, code, "Why.", "input")
    assert ("Retry-After" in error.headers) == (status in (429, 503))


def test_a_wrong_method_names_the_right_ones() -> None:
    error = errors.method_not_allowed("PUT", "/v1/responses", ["POST"])
    assert (error.status, error.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (errors.response_not_found("resp_1"), 404, "resp_1"),
        (errors.model_not_found("gpt-9", ["holdfast-demo", "gpt-4o-mini"]), 404, "holdfast-demo, gpt-4o-mini"),
        (errors.path_not_found("GET", "/v2"), 404, "GET /v2"),
        (errors.body_too_large(1_000_000), 413, "1,000,000"),
        (errors.unsupported_media_type("text/plain"), 415, "application/json"),
        (errors.idempotency_mismatch(), 409, "Idempotency-Key"),
        (errors.unavailable("The model is loading."), 503, "loading"),
        (errors.internal("req_1"), 500, "req_1"),
    ],
)
def test_a_message_says_what_to_do_or_where_to_look(error: errors.ApiError, status: int, words: str) -> None:
    assert error.status == status
    assert words in error.message
