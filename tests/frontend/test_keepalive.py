"""What a stream says while its response is silent: truthful comments, or pings, on a timer."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import msgspec
from aiohttp.abc import AbstractStreamWriter

from frontend import sse
from frontend.config import Settings
from frontend.hosts import Hosts
from frontend.reading import Outlet, Reading
from frontend.session import Session
from frontend.wish import Wish
from protocol.codec import encode_record
from protocol.records import CancelRequested, Opened, OwnerGranted, Record, TurnStarted
from protocol.reports import Attached, Batch
from tests import virtual
from tests.frontend.served import DONE, FINISHED, events, read_until, served, text
from tests.frontend.standin import StandIn

QUICK = 0.1
"""A keepalive interval for tests, in seconds."""


# ---- when they come, in virtual time ---------------------------------------------------------------------------------


BEGUN: list[Record] = [Opened("r", 1, b'{"model":"demo","input":"hi"}'), OwnerGranted("f", 1), TurnStarted(0, 7)]


def batch(offset: int, *records: Record) -> Batch:
    """The records for the one reader."""
    return Batch(1, offset, tuple(msgspec.Raw(encode_record(record)) for record in records))


class Recorder(Outlet):
    """Keeps what is written to the client, and at which second."""

    def __init__(self) -> None:
        self.written: list[tuple[float, bytes]] = []

    def write(self, data: bytes) -> bool:
        """Keep it: the client takes all at once."""
        self.written.append((round(asyncio.get_running_loop().time(), 2), data))
        return False


def comments(settings: Settings, words_at: Sequence[float], until_s: float) -> list[tuple[float, bytes]]:
    """The comments, each with its second, on a stream that begins at second 0 and gets a word at each of these."""
    outlet = Recorder()

    async def scenario() -> None:
        reading = Reading(
            Session(1, "r", "f", Wish(stream=True)), Hosts("f", settings), lambda _: None, lambda *_: None, settings
        )
        reading.deliver(Attached(1, len(BEGUN)))
        reading.deliver(batch(0, *BEGUN))
        for number, at_s in enumerate(words_at, len(BEGUN)):
            asyncio.get_running_loop().call_at(at_s, reading.deliver, batch(number, text("word ")))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until_s):
                await reading.stream(outlet, Mock(AbstractStreamWriter))
        reading.leave()

    virtual.run(scenario())
    assert sum(b"output_text.delta" in data for _, data in outlet.written) == len(words_at)
    return [(at_s, data) for at_s, data in outlet.written if data.startswith(b": ")]


def test_keepalives_come_at_each_interval_of_silence() -> None:
    found = comments(Settings(keepalive_interval_s=15), [1, 2, 50], until_s=70)
    assert found == [
        (17, b": generating, silent for 15 s\n\n"),
        (32, b": generating, silent for 30 s\n\n"),
        (47, b": generating, silent for 45 s\n\n"),
        (65, b": generating, silent for 15 s\n\n"),
    ]


def test_events_put_the_keepalive_off() -> None:
    assert comments(Settings(keepalive_interval_s=15), range(0, 300, 14), until_s=300) == []


def test_keepalive_can_be_turned_off() -> None:
    assert comments(Settings(keepalive_interval_s=0), [1], until_s=86400) == []


# ---- what they say ---------------------------------------------------------------------------------------------------


async def test_a_silent_stream_is_kept_alive_on_post_and_get(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, keepalive_interval_s=QUICK) as frontend, frontend.create(stream=True) as post:
        response_id = await worker.next_response()
        async with frontend.read(response_id, params={"stream": "true"}) as get:
            await read_until(get, b"response.in_progress")
            worker.append(response_id, text("Hello"))
            for stream in (post, get):
                await read_until(stream, b"output_text.delta")
                for _ in range(3):
                    await read_until(stream, b": generating, silent for ")
            worker.append(response_id, FINISHED)
            assert (await post.read()).endswith(DONE)
            assert (await get.read()).endswith(DONE)


async def test_keepalive_says_the_place_in_the_queue_and_then_that_it_reads(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, keepalive_interval_s=QUICK) as frontend, frontend.create(stream=True) as stream:
        response_id = await worker.next_response()
        worker.positions[response_id] = 3
        await read_until(stream, b": queued, position 3\n\n")
        worker.positions.clear()
        await read_until(stream, b": reading the prompt\n\n")
        worker.append(response_id, text("Hello"))
        await read_until(stream, b": generating, silent for ")
        worker.append(response_id, CancelRequested("client"))
        await read_until(stream, b": cancelling, silent for ")


async def test_ping_events_replace_comments_by_request_and_take_no_sequence_number(
    worker: StandIn, tmp_path: Path
) -> None:
    async with (
        served(tmp_path, keepalive_interval_s=QUICK) as frontend,
        frontend.create(stream=True, params={"ping": "true"}) as stream,
    ):
        response_id = await worker.next_response()
        start = await read_until(stream, sse.PING)
        worker.append(response_id, text("Hello"), FINISHED)
        data = start + await stream.read()
    assert b"\n: " not in data
    numbers = [body["sequence_number"] for body in events(data) if body["type"] != "response.ping"]
    assert numbers == list(range(len(numbers)))


async def test_ping_setting_holds_unless_the_request_says_otherwise(worker: StandIn, tmp_path: Path) -> None:
    async with served(tmp_path, keepalive_interval_s=QUICK, ping_events=True) as frontend:
        async with frontend.create(stream=True) as stream:
            await read_until(stream, sse.PING)
        async with frontend.create(stream=True, params={"ping": "false"}) as stream:
            await read_until(stream, b": reading the prompt\n\n")
    assert len(worker.logs) == 2
