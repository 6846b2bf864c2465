"""Streams of a real frontend, read from a stand-in worker: creating, resuming, observing, falling behind, leaving."""

import asyncio
import socket
from pathlib import Path

import msgspec
import pytest

from protocol.codec import encode_record
from protocol.commands import Attach, Close, Detach, Pause
from protocol.records import ErrorDetail, TurnFinished, Usage
from protocol.reports import Batch, Records
from tests.frontend.served import DONE, FINISHED, Frontend, blocks, events, read_until, served, text
from tests.frontend.standin import StandIn


async def finished_stream(frontend: Frontend, worker: StandIn, words: list[str]) -> tuple[str, bytes]:
    """Create a streamed response that says these words; returns its id and its bytes."""
    known = len(worker.logs)
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response(known)
        for word in words:
            worker.append(response_id, text(word))
        worker.append(response_id, FINISHED)
        return response_id, await stream.read()


async def test_create_streams_every_event_and_ends_with_done(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        assert stream.status == 200
        assert stream.headers["Content-Type"] == "text/event-stream"
        assert stream.headers["Cache-Control"] == "no-cache"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert stream.headers["x-response-id"] == response_id
        assert stream.headers["openai-processing-ms"].isdigit()
        await read_until(stream, b"response.in_progress")
        worker.append(response_id, text("Hello"))
        first = await read_until(stream, b"output_text.delta")
        worker.append(response_id, text(" world"), FINISHED)
        rest = await stream.read()
    assert b'"Hello"' in first
    assert b" world" not in first
    bodies = events(rest)
    assert rest.endswith(DONE)
    assert rest.count(DONE) == 1
    assert bodies[-1]["type"] == "response.completed"
    assert bodies[-1]["response"]["output"][0]["content"][0]["text"] == "Hello world"
    assert worker.commands(Close)[0].status == "completed"


async def test_each_event_names_its_type_and_counts_from_zero(frontend: Frontend, worker: StandIn) -> None:
    _, data = await finished_stream(frontend, worker, ["a", "b"])
    for block, body in zip(blocks(data), events(data), strict=False):
        name, _ = block.split(b"\n", 1)
        assert name == b"event: " + body["type"].encode()
    assert [body["sequence_number"] for body in events(data)] == list(range(len(events(data))))


async def test_what_one_message_brings_a_reader_in_pieces_is_written_in_its_order(
    frontend: Frontend, worker: StandIn
) -> None:
    async with frontend.create(stream=True) as stream, frontend.create(stream=True) as other:
        await worker.until(lambda: len(worker.logs) == 2)
        response_id, beside = worker.logs
        worker.append(response_id, text("a"))
        worker.append(beside, text("x"))
        await read_until(stream, b"output_text.delta")
        await read_until(other, b"output_text.delta")
        peer, begin = worker.peers[0], len(worker.logs[response_id].records)
        (number,), (number_beside,) = (
            [number for (_, number), reader in worker.readers.items() if reader.response_id == each]
            for each in (response_id, beside)
        )
        b, c, d, y = (msgspec.Raw(encode_record(text(word))) for word in "bcdy")
        pieces = [(number, begin, (b,)), (number_beside, begin, (y,)), (number, begin + 1, (c, d))]
        worker.send(peer, Records(tuple(Batch(*piece) for piece in pieces)))
        found = await read_until(stream, b'"d"')
        assert b'"y"' in await read_until(other, b'"y"')
    assert [body["delta"] for body in events(found)] == ["b", "c", "d"]


async def test_answer_without_stream_is_the_closed_response(frontend: Frontend, worker: StandIn) -> None:
    async def speak() -> None:
        worker.append(await worker.next_response(), text("Hello"), FINISHED)

    speaking = asyncio.ensure_future(speak())
    async with frontend.create() as answer:
        body = await answer.json()
    await speaking
    assert answer.status == 200
    assert body["status"] == "completed"
    assert body["id"] == answer.headers["x-response-id"]
    assert body["output"][0]["content"][0]["text"] == "Hello"


@pytest.mark.parametrize(
    ("reason", "status"), [("stop", "completed"), ("length", "incomplete"), ("aborted", "cancelled")]
)
async def test_the_owner_closes_by_the_turns_reason(
    frontend: Frontend, worker: StandIn, reason: str, status: str
) -> None:
    async with frontend.create(stream=True) as stream:
        finished = TurnFinished(reason, Usage(7, 0, 5, 0))  # type: ignore[arg-type] # one of the reasons
        worker.append(await worker.next_response(), text("Hello"), finished)
        data = await stream.read()
    assert events(data)[-1]["response"]["status"] == status
    assert [close.status for close in worker.commands(Close)] == [status]


async def test_failed_turn_is_an_http_error_without_stream_and_a_failed_event_with(
    frontend: Frontend, worker: StandIn
) -> None:
    error = ErrorDetail("server_error", "boiler", "The boiler burst.")

    async def fail(known: int) -> None:
        worker.append(await worker.next_response(known), TurnFinished("error", Usage(), error))

    failing = asyncio.ensure_future(fail(0))
    async with frontend.create() as answer:
        assert answer.status == 500
        assert (await answer.json())["error"]["message"] == "The boiler burst."
        assert answer.headers["x-response-id"] in worker.logs
    await failing
    failing = asyncio.ensure_future(fail(1))
    async with frontend.create(stream=True) as stream:
        data = await stream.read()
    await failing
    assert stream.status == 200
    assert [body["type"] for body in events(data)][-2:] == ["error", "response.failed"]
    assert data.endswith(DONE)


async def test_resume_from_each_event_is_the_tail_of_the_stream(frontend: Frontend, worker: StandIn) -> None:
    response_id, whole = await finished_stream(frontend, worker, ["one ", "two ", "three ", "four"])
    parts = blocks(whole)
    for cursor in range(len(parts) - 1):
        async with frontend.read(response_id, params={"stream": "true", "starting_after": cursor}) as stream:
            assert await stream.read() == b"".join(parts[cursor + 1 :])
    async with frontend.read(response_id, params={"stream": "true"}) as stream:
        assert await stream.read() == whole


async def test_resume_beyond_the_end_is_refused_by_name(frontend: Frontend, worker: StandIn) -> None:
    response_id, whole = await finished_stream(frontend, worker, ["one"])
    last = events(whole)[-1]["sequence_number"]
    async with frontend.read(response_id, params={"stream": "true", "starting_after": last + 1}) as answer:
        body = await answer.json()
    assert answer.status == 400
    assert body["error"]["param"] == "starting_after"
    assert str(last) in body["error"]["message"]


async def test_resume_at_the_end_of_a_live_response_waits_for_more(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        async with frontend.read(response_id, params={"stream": "true", "starting_after": "1"}) as tail:
            assert tail.status == 200
            worker.append(response_id, text("Hello"), FINISHED)
            assert await tail.read() == await stream.read()


async def test_two_observers_on_two_frontends_get_the_same_bytes(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path) as first, served(tmp_path) as second, first.create(stream=True) as stream:
        response_id = await worker.next_response()
        async with (
            first.read(response_id, params={"stream": "true"}) as here,
            second.read(response_id, params={"stream": "true"}) as there,
        ):
            for word in ("one", "two", "three"):
                worker.append(response_id, text(word))
            worker.append(response_id, FINISHED)
            original = await stream.read()
            assert await here.read() == original
            assert await there.read() == original


async def test_answer_of_a_running_response_is_as_it_is_now(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        worker.append(response_id, text("Hel"))
        await read_until(stream, b'"Hel"')
        async with frontend.read(response_id) as answer:
            body = await answer.json()
        assert body["status"] == "in_progress"
        assert body["output"][0]["content"][0]["text"] == "Hel"
        await worker.until(lambda: len(worker.readers_of(response_id)) == 1)  # an observer leaves nothing behind


async def test_event_ids_make_a_browser_resume_by_itself(frontend: Frontend, worker: StandIn) -> None:
    response_id, plain = await finished_stream(frontend, worker, ["one", "two"])
    params = {"stream": "true", "event_ids": "true"}
    async with frontend.read(response_id, params=params) as stream:
        whole = await stream.read()
    ids = [line for line in whole.split(b"\n") if line.startswith(b"id: ")]
    assert ids == [b"id: %d" % number for number in range(len(events(plain)))]
    assert b"id: " not in plain
    async with frontend.read(response_id, params=params, headers={"Last-Event-ID": "2"}) as stream:
        assert await stream.read() == b"".join(blocks(whole)[3:])


async def test_http_1_0_client_gets_the_stream_without_chunks(frontend: Frontend, worker: StandIn) -> None:
    response_id, whole = await finished_stream(frontend, worker, ["one"])
    host, port = frontend.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /v1/responses/%b?stream=true HTTP/1.0\r\n\r\n" % response_id.encode())
    head, body = (await reader.read()).split(b"\r\n\r\n", 1)
    writer.close()
    assert b"chunked" not in head
    assert body == whole


# ---- slow clients ----------------------------------------------------------------------------------------------------


async def test_slow_client_pauses_its_reader_and_misses_nothing(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, stream_buffer_bytes_max=20_000) as frontend, frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        host, port = frontend.url.removeprefix("http://").split(":")
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.connect((host, int(port)))
        slow.send(b"GET /v1/responses/%b?stream=true HTTP/1.0\r\n\r\n" % response_id.encode())
        await worker.until(lambda: len(worker.readers_of(response_id)) == 2)
        while not worker.commands(Pause):
            worker.append(response_id, text("x" * 10_000))
            await asyncio.sleep(0)
        for word in range(50):
            worker.append(response_id, text(f"word {word} " * 100))
        worker.append(response_id, FINISHED)
        whole = await stream.read()  # the quick one is not held up
        reader, writer = await asyncio.open_connection(sock=slow)
        _, body = (await reader.read()).split(b"\r\n\r\n", 1)
        writer.close()
    assert body == whole
    assert any(attach.from_offset > 0 for attach in worker.commands(Attach))


# ---- clients that leave ----------------------------------------------------------------------------------------------


async def test_owner_whose_client_leaves_reads_on_without_a_client_and_closes(
    frontend: Frontend, worker: StandIn
) -> None:
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        stream.close()
    await worker.until(lambda: [reader.client for reader in worker.readers_of(response_id)] == [False])
    worker.append(response_id, FINISHED)
    await worker.until(lambda: bool(worker.commands(Close)) and not worker.readers_of(response_id))


async def test_observer_who_leaves_is_detached(frontend: Frontend, worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path) as other, frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        async with other.read(response_id, params={"stream": "true"}) as observer:
            await worker.until(lambda: len(worker.readers_of(response_id)) == 2)
            observer.close()
        await worker.until(lambda: len(worker.readers_of(response_id)) == 1)
        assert len(worker.commands(Detach)) == 1
        worker.append(response_id, FINISHED)
        assert (await stream.read()).endswith(DONE)


async def test_client_of_a_plain_create_who_leaves_is_noticed(frontend: Frontend, worker: StandIn) -> None:
    async def create() -> None:
        async with frontend.create():
            pass

    creating = asyncio.ensure_future(create())
    response_id = await worker.next_response()
    creating.cancel()
    await worker.until(lambda: [reader.client for reader in worker.readers_of(response_id)] == [False])


async def test_response_offered_to_a_frontend_is_driven_to_its_end(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path) as first, served(tmp_path) as second:
        await worker.until(lambda: len(worker.peers) == 2)
        async with first.create(stream=True) as stream:
            response_id = await worker.next_response()
            await read_until(stream, b"response.in_progress")
            worker.offer(response_id, second.links.frontend_id.encode())
            await worker.until(lambda: len(worker.readers_of(response_id)) == 2)
            worker.append(response_id, FINISHED)
            assert (await stream.read()).endswith(DONE)
        closes = [(peer, command.epoch) for peer, command in worker.heard if isinstance(command, Close)]
        assert closes == [(second.links.frontend_id.encode(), 2)]
        await worker.until(lambda: not worker.readers_of(response_id))
