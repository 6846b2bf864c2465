"""Bad requests: each is refused in the API's error shape, names the parameter, and the server goes on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from protocol.codec import decode_record
from protocol.records import Opened
from tests.frontend.served import FINISHED, Frontend, events, served, text
from tests.frontend.standin import StandIn

JSON = {"Content-Type": "application/json"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
BAD_SCHEMA = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "nonsense"}}}
ABSENT = "resp_" + "0" * 32


async def refused(frontend: Frontend, method: str, path: str, **request: Any) -> tuple[int, dict[str, Any], Any]:
    """The answer's status, error and headers; its shape is checked here."""
    async with frontend.client.request(method, frontend.url + path, **request) as answer:
        body = await answer.json()
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    assert answer.headers["x-request-id"]
    return answer.status, body["error"], answer.headers


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{not json", None),
        (b"[]", None),
        (b'"text"', None),
        (b"{}", "input"),
        (b'{"model": "holdfast-demo"}', "input"),
        (b'{"model": 5, "input": "hi"}', "model"),
        (b'{"model": "holdfast-demo", "input": 5}', "input"),
    ],
)
async def test_broken_bodies(frontend: Frontend, body: bytes, param: str | None) -> None:
    status, error, _ = await refused(frontend, "POST", "/v1/responses", data=body, headers=JSON)
    assert status == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"] in (param, "model" if param == "input" else param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temprature": 1}, "temprature"),
        ({"temperature": -1}, "temperature"),
        ({"max_output_tokens": 1}, "max_output_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"text": BAD_SCHEMA}, "text.format.schema"),
        ({"background": True, "store": False}, "background"),
        ({"previous_response_id": ABSENT, "conversation": "conv_1"}, "previous_response_id"),
    ],
)
async def test_bad_fields_are_named(frontend: Frontend, fields: dict[str, Any], param: str) -> None:
    body = {"model": "holdfast-demo", "input": "hi", **fields}
    status, error, _ = await refused(frontend, "POST", "/v1/responses", json=body)
    assert status == 400
    assert error["param"].startswith(param)


async def test_unknown_fields_may_be_ignored_by_setting(worker: StandIn, tmp_path: Path) -> None:
    async with (
        served(tmp_path, unknown_fields="ignore") as frontend,
        frontend.create(stream=True, temprature=1) as stream,
    ):
        assert stream.status == 200
        assert worker.logs


async def test_unknown_model_is_404_and_says_what_is_served(frontend: Frontend) -> None:
    body = {"model": "gpt-9", "input": "hi"}
    status, error, _ = await refused(frontend, "POST", "/v1/responses", json=body)
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "holdfast-demo" in error["message"]
    status, error, _ = await refused(frontend, "GET", "/v1/models/gpt-9")
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_other_content_types_are_415(frontend: Frontend, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    data = b'{"model": "holdfast-demo", "input": "hi"}'
    skip = ["Content-Type"]
    status, error, _ = await refused(
        frontend, "POST", "/v1/responses", data=data, headers=headers, skip_auto_headers=skip
    )
    assert status == 415
    assert "application/json" in error["message"]


async def test_bodies_over_the_limit_are_413(worker: StandIn, tmp_path: Path) -> None:
    async def trickle() -> Any:
        for _ in range(11):
            yield b" " * 100

    async with served(tmp_path, body_bytes_max=1000) as frontend:
        status, error, _ = await refused(frontend, "POST", "/v1/responses", data=b" " * 1001, headers=JSON)
        assert (status, error["code"]) == (413, "request_too_large")
        status, error, _ = await refused(frontend, "POST", "/v1/responses", data=trickle(), headers=JSON)
        assert (status, error["code"]) == (413, "request_too_large")
        assert worker.logs == {}


async def test_20_mb_are_refused_before_they_are_read(frontend: Frontend) -> None:
    host, port = frontend.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: 20000000\r\n\r\n{")
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()


@pytest.mark.parametrize("cursor", ["-1", "one", "", "1.5", "1e3", "9" * 30])
async def test_starting_after_that_is_no_sequence_number(frontend: Frontend, worker: StandIn, cursor: str) -> None:
    path = f"/v1/responses/{ABSENT}?stream=true&starting_after={cursor}"
    status, error, _ = await refused(frontend, "GET", path)
    assert (status, error["param"]) == (400, "starting_after")
    assert worker.readers == {}


@pytest.mark.parametrize("parameter", ["stream", "event_ids", "ping"])
async def test_flags_are_true_or_false(frontend: Frontend, parameter: str) -> None:
    status, error, _ = await refused(frontend, "GET", f"/v1/responses/{ABSENT}?{parameter}=1")
    assert (status, error["param"]) == (400, parameter)


async def test_starting_after_without_stream(frontend: Frontend) -> None:
    status, error, _ = await refused(frontend, "GET", f"/v1/responses/{ABSENT}?starting_after=1")
    assert (status, error["param"]) == (400, "starting_after")


@pytest.mark.parametrize("response_id", [ABSENT, "resp_1", "nonsense", "resp_" + "a" * 3000])
@pytest.mark.parametrize("query", ["", "?stream=true", "?stream=true&starting_after=3"])
async def test_absent_responses_are_404(frontend: Frontend, response_id: str, query: str) -> None:
    status, error, _ = await refused(frontend, "GET", f"/v1/responses/{response_id}{query}")
    assert (status, error["param"]) == (404, "response_id")


async def test_paths_and_methods(frontend: Frontend) -> None:
    status, error, _ = await refused(frontend, "GET", "/v2/nothing")
    assert (status, error["code"]) == (404, "unknown_url")
    status, error, headers = await refused(frontend, "GET", "/v1/responses")
    assert (status, error["code"], headers["Allow"]) == (405, "method_not_allowed", "POST")
    status, error, headers = await refused(frontend, "PUT", f"/v1/responses/{ABSENT}")
    assert (status, error["code"], headers["Allow"]) == (405, "method_not_allowed", "DELETE, GET")


async def test_unknown_dialect_is_refused(frontend: Frontend) -> None:
    body = {"model": "holdfast-demo", "input": "hi"}
    headers = {"X-Responses-Dialect": "klingon"}
    status, error, _ = await refused(frontend, "POST", "/v1/responses", json=body, headers=headers)
    assert (status, error["param"]) == (400, "X-Responses-Dialect")


async def test_dialect_of_the_request_wins_over_the_setting(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, dialect="open-responses") as frontend:
        async with frontend.create(stream=True):
            await worker.next_response()
        async with frontend.create(stream=True, headers={"X-Responses-Dialect": "openai"}):
            await worker.next_response(1)
    opened = [decode_record(log.records[0]) for log in worker.logs.values()]
    assert [record.dialect for record in opened if isinstance(record, Opened)] == ["open-responses", "openai"]


async def test_tools_that_are_left_out_are_named_in_a_header(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True, tools=[TOOL, {"type": "web_search"}]) as stream:
        assert stream.headers["x-holdfast-omitted-tools"] == "web_search"
        worker.append(await worker.next_response(), FINISHED)
        await stream.read()
    async with frontend.create(stream=True, tools=[TOOL]) as stream:
        assert "x-holdfast-omitted-tools" not in stream.headers


async def test_sane_request_ids_are_kept_and_others_replaced(frontend: Frontend) -> None:
    for given, kept in [("abc-123", True), ("a" * 200, False), ("a b", False)]:
        async with frontend.client.get(frontend.url + "/health/live", headers={"x-request-id": given}) as answer:
            assert (answer.headers["x-request-id"] == given) is kept


async def test_server_goes_on_after_all_of_this(frontend: Frontend, worker: StandIn) -> None:
    await refused(frontend, "POST", "/v1/responses", data=b"{", headers=JSON)
    async with frontend.create(stream=True) as stream:
        worker.append(await worker.next_response(), text("Hello"), FINISHED)
        assert events(await stream.read())[-1]["type"] == "response.completed"


async def test_unexpected_errors_show_nothing_of_the_inside(
    frontend: Frontend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("secret plans")

    monkeypatch.setattr(frontend.links, "create", explode)
    body = {"model": "holdfast-demo", "input": "hi"}
    status, error, headers = await refused(frontend, "POST", "/v1/responses", json=body)
    assert (status, error["type"]) == (500, "server_error")
    assert "secret" not in str(error)
    assert headers["x-request-id"] in error["message"]
    assert headers["x-request-id"] in caplog.text
    assert "secret plans" in caplog.text
