"""What clients of a real frontend see while workers start, hang, die, come back, say goodbye, or lose messages."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from frontend.config import Settings
from protocol.commands import Attach, Close, Open
from protocol.records import Closed, ErrorDetail
from protocol.reports import Stale
from tests.frontend.served import DONE, FINISHED, Frontend, events, read_until, served, text
from tests.frontend.standin import StandIn
from tests.pace import DEADLINE_S

pytestmark = pytest.mark.slow

LOST_AFTER_S = 1.5
ABSENT = "resp_" + "0" * 32


async def readiness(frontend: Frontend) -> tuple[int, str]:
    """Status of /health/ready, and what it says."""
    async with frontend.client.get(frontend.url + "/health/ready") as answer:
        return answer.status, await answer.text()


async def test_without_a_worker_nothing_is_ready_and_creates_are_503(tmp_path: Path) -> None:
    async with served(tmp_path) as frontend:
        assert (await readiness(frontend))[0] == 503
        async with frontend.create() as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "2"
            assert (await answer.json())["error"]["code"] == "engine_unavailable"
        async with frontend.read(ABSENT) as answer:
            assert answer.status == 503
        async with frontend.client.get(frontend.url + "/health/live") as answer:
            assert answer.status == 200


async def test_while_the_model_loads_creates_are_503_and_say_so(worker: StandIn, tmp_path: Path) -> None:
    worker.phase = "loading"
    async with served(tmp_path) as frontend:
        await worker.until(lambda: bool(worker.peers))
        async with frontend.create() as answer:
            assert answer.status == 503
            assert "being loaded" in (await answer.json())["error"]["message"]
        status, said = await readiness(frontend)
        assert status == 503
        assert "being loaded" in said


async def test_create_right_after_the_start_waits_for_the_worker_to_be_known(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path) as frontend, frontend.create(stream=True) as stream:
        assert stream.status == 200
        assert len(worker.logs) == 1


async def test_rejected_create_is_the_workers_error(frontend: Frontend, worker: StandIn) -> None:
    message = "The input has 5000 tokens; the context holds 4096."
    worker.rejects = ErrorDetail("invalid_request_error", "context_length_exceeded", message, "input")
    for stream in (True, False):
        async with frontend.create(stream=stream) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"] == {
                "message": message,
                "type": "invalid_request_error",
                "param": "input",
                "code": "context_length_exceeded",
            }


async def test_models_and_aliases_are_listed(frontend: Frontend, worker: StandIn) -> None:
    await worker.until(lambda: bool(worker.peers))
    async with frontend.create(stream=True):
        pass  # by now the worker's Status has come
    async with frontend.client.get(frontend.url + "/v1/models") as answer:
        models = (await answer.json())["data"]
    assert [(model["id"], model["root"]) for model in models] == [
        ("holdfast-demo", "holdfast-demo"),
        ("gpt-4o-mini", "holdfast-demo"),
    ]
    async with frontend.client.get(frontend.url + "/v1/models/gpt-4o-mini") as answer:
        assert await answer.json() == models[1]


# ---- silence, death, return ------------------------------------------------------------------------------------------


async def test_stream_waits_for_a_silent_worker_and_goes_on(worker: StandIn, tmp_path: Path) -> None:
    settings = {"worker_lost_after_s": LOST_AFTER_S, "keepalive_interval_s": 0.1}
    async with served(tmp_path, **settings) as frontend, frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        worker.silent = True
        await read_until(stream, b": recovering, the worker is away for ")
        async with asyncio.timeout(DEADLINE_S):
            while (await readiness(frontend))[0] != 503:  # a pause of the frontend itself is not held against it
                await asyncio.sleep(0.01)
        worker.silent = False
        worker.append(response_id, text("Hello"), FINISHED)
        assert events(await stream.read())[-1]["type"] == "response.completed"


async def test_unanswered_lookup_is_503_and_not_404(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, worker_lost_after_s=LOST_AFTER_S, lookup_wait_s=1.0) as frontend:
        await worker.until(lambda: bool(worker.peers))
        async with frontend.read(ABSENT) as answer:
            assert answer.status == 404
        worker.silent = True
        async with frontend.read(ABSENT) as answer:
            assert answer.status == 503
            assert "Retry-After" in answer.headers


async def test_restarted_worker_that_forgot_the_response_ends_it_as_engine_lost(
    worker: StandIn, tmp_path: Path
) -> None:
    async with served(tmp_path) as frontend, frontend.create(stream=True) as stream:
        await worker.next_response()
        await read_until(stream, b"response.in_progress")
        worker.close()
        successor = StandIn(tmp_path, incarnation="second")
        data = await stream.read()
        successor.close()
    assert [body["type"] for body in events(data)] == ["error", "response.failed"]
    assert events(data)[-2]["code"] == "engine_lost"
    assert data.endswith(DONE)
    assert data.count(DONE) == 1


async def test_dead_worker_that_stays_away_ends_its_streams(worker: StandIn, tmp_path: Path) -> None:
    settings = {"worker_lost_after_s": LOST_AFTER_S, "worker_wait_s": 2 * LOST_AFTER_S, "keepalive_interval_s": 0.1}
    async with served(tmp_path, **settings) as frontend, frontend.create(stream=True) as stream:
        await worker.next_response()
        await read_until(stream, b"response.in_progress")
        worker.close()
        data = await stream.read()
    assert b": recovering" in data
    assert events(data)[-2]["code"] == "engine_lost"


async def test_streams_and_plain_creates_wait_for_a_worker_that_said_goodbye(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, keepalive_interval_s=0.1) as frontend, frontend.create(stream=True) as stream:
        streamed = await worker.next_response()
        await read_until(stream, b"response.in_progress")

        async def create() -> str:
            async with frontend.create() as answer:
                return str((await answer.json())["status"])

        creating = asyncio.ensure_future(create())
        plain = await worker.next_response(1)
        worker.say_goodbye()
        worker.close()
        await read_until(stream, b": recovering, the worker is away for ")
        successor = StandIn(tmp_path, incarnation="second", phase="loading")
        successor.logs = worker.logs
        await read_until(stream, b": recovering, the worker is loading the model")
        successor.phase = "ready"
        for response_id in (streamed, plain):
            successor.append(response_id, text("Hello"), FINISHED)
        assert events(await stream.read())[-1]["type"] == "response.completed"
        assert await creating == "completed"
        successor.close()


async def test_worker_that_forgot_the_frontend_is_told_all_again(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        worker.append(response_id, text("one"))
        await read_until(stream, b'"one"')
        worker.forget()
        worker.append(response_id, text("two"), FINISHED)
        data = await stream.read()
    assert b'"two"' in data
    assert b'"one"' not in data.split(b"response.output_text.done")[0]
    assert [attach.from_offset for attach in worker.commands(Attach) if attach.client][-1] == 4


async def test_messages_lost_to_a_full_queue_are_fetched_by_offset(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        [peer] = worker.peers
        for reader in worker.readers_of(response_id):
            reader.paused = True  # what a worker does with a peer whose queue is full
        worker.append(response_id, text("one"), FINISHED)
        worker.lose(peer)
        data = await stream.read()
    assert b'"one"' in data
    assert data.endswith(DONE)


async def test_garbage_from_a_worker_is_logged_and_made_up_for(
    frontend: Frontend, worker: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        worker.send_garbage(worker.peers[0], b"\xc1 garbage")
        await worker.until(lambda: bool(worker.commands(Attach)))
        worker.append(response_id, FINISHED)
        assert (await stream.read()).endswith(DONE)
    assert "refused a frame of 9 bytes from worker w0" in caplog.text


@pytest.mark.parametrize("amid_text", [False, True])
async def test_log_that_cannot_be_read_fails_its_stream_and_no_other(
    frontend: Frontend, worker: StandIn, caplog: pytest.LogCaptureFixture, amid_text: bool
) -> None:
    async with frontend.create(stream=True) as broken, frontend.create(stream=True) as sound:
        await worker.until(lambda: len(worker.logs) == 2)
        spoilt, whole = worker.logs
        await read_until(broken, b"response.in_progress")
        await read_until(sound, b"response.in_progress")
        if amid_text:
            worker.append(spoilt, text("Hel"))
            await read_until(broken, b"output_text.delta")
        worker.logs[spoilt].records.append(msgspec.msgpack.encode(["a record of a later version", 1]))
        worker.append(whole, text("Hello"), FINISHED)
        failed = await broken.read()
        assert events(await sound.read())[-1]["type"] == "response.completed"
    assert events(failed)[-1]["type"] == "response.failed"
    assert events(failed)[-2]["code"] == "internal_error"
    assert failed.endswith(DONE)
    assert f"response {spoilt}: the session failed" in caplog.text


async def test_lost_close_is_said_again(frontend: Frontend, worker: StandIn) -> None:
    async with frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        worker.deaf_to = (Close,)
        worker.append(response_id, text("one"), FINISHED)
        await read_until(stream, b"response.output_text.done")
        worker.deaf_to = ()
        worker.forget()  # a restarted frontend connection, say
        assert (await stream.read()).endswith(DONE)


async def test_stale_command_makes_the_frontend_say_hello(frontend: Frontend, worker: StandIn) -> None:
    await worker.until(lambda: bool(worker.peers))
    [peer] = worker.peers
    worker.forget()
    worker.send(peer, Stale("first"))
    await worker.until(lambda: bool(worker.peers))
    async with frontend.create(stream=True):
        assert worker.logs


# ---- several workers -------------------------------------------------------------------------------------------------


async def test_responses_are_shared_between_workers_and_found_on_any(worker: StandIn, tmp_path: Path) -> None:
    other = StandIn(tmp_path, "w1")
    async with served(tmp_path) as frontend:
        await worker.until(lambda: bool(worker.peers))
        await other.until(lambda: bool(other.peers))
        async with AsyncExitStack() as streams:
            opened = []
            while not (worker.logs and other.logs):
                opened.append(await streams.enter_async_context(frontend.create(stream=True)))
                assert len(opened) < 20, "all went to one"
            for standin in (worker, other):
                for response_id in standin.logs:
                    standin.append(response_id, text("Hello"), FINISHED)
            whole = {stream.headers["x-response-id"]: await stream.read() for stream in opened}
        for response_id, data in whole.items():
            async with frontend.read(response_id, params={"stream": "true"}) as stream:
                assert await stream.read() == data
        async with frontend.read(ABSENT) as answer:
            assert answer.status == 404
    other.close()


async def test_open_rejected_by_a_worker_that_is_not_ready_goes_to_another(worker: StandIn, tmp_path: Path) -> None:
    other = StandIn(tmp_path, "w1")
    worker.rejects = other.rejects = ErrorDetail("server_error", "engine_unavailable", "loading")
    async with served(tmp_path) as frontend:
        await worker.until(lambda: bool(worker.peers))
        await other.until(lambda: bool(other.peers))
        async with frontend.create() as answer:
            assert answer.status == 503
        assert (len(worker.commands(Open)), len(other.commands(Open))) == (1, 1)
        other.rejects = None
        async with frontend.create(stream=True) as stream:
            assert stream.status == 200
        assert len(other.logs) == 1
    other.close()


# ---- bounds and the end ----------------------------------------------------------------------------------------------


async def test_more_requests_than_streams_max_are_503(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, streams_max=1) as frontend:
        async with frontend.create(stream=True) as stream:
            response_id = await worker.next_response()
            async with frontend.create() as answer:
                assert answer.status == 503
                assert (await answer.json())["error"]["code"] == "overloaded"
            worker.append(response_id, FINISHED)
            await stream.read()
        async with frontend.read(response_id) as answer:
            assert answer.status == 200


async def test_stopping_frontend_says_where_to_resume_and_leaves_the_response_alive(
    worker: StandIn, tmp_path: Path
) -> None:
    async with served(tmp_path) as second:
        async with served(tmp_path, drain_s=0.1) as first:
            stream = await first.create(stream=True)
            response_id = await worker.next_response()
            worker.append(response_id, text("one"))
            before = await read_until(stream, b'"one"')
            await first.runner.cleanup()
            before += await stream.read()
        *told, farewell = before.split(b"\n\n")[:-1]
        last = len(told) - 1
        assert farewell == b": this frontend is stopping, resume with starting_after=%d" % last
        assert b"[DONE]" not in before
        worker.append(response_id, FINISHED, Closed("completed", 1))
        async with second.read(response_id, params={"stream": "true", "starting_after": last}) as rest:
            resumed = await rest.read()
        async with second.read(response_id, params={"stream": "true"}) as replay:
            assert await replay.read() == before.removesuffix(farewell + b"\n\n") + resumed


async def test_stopping_frontend_lets_streams_finish(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, drain_s=4 * DEADLINE_S) as frontend, frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        await read_until(stream, b"response.in_progress")
        stopping = asyncio.ensure_future(frontend.runner.cleanup())
        worker.append(response_id, FINISHED)
        assert (await stream.read()).endswith(DONE)
        await asyncio.wait_for(stopping, DEADLINE_S)


def test_defaults_keep_the_order_that_the_rules_need() -> None:
    settings = Settings()
    assert settings.heartbeat_interval_s * 2 < settings.worker_lost_after_s
    assert settings.worker_lost_after_s <= settings.worker_wait_s
    assert settings.drain_s == pytest.approx(4), "honcho kills after 5 s"
