"""The channels over real ZeroMQ: nothing is lost in silence, nothing oversized gets in."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.channel import ChannelLimits, FrontendChannel, Sent, WorkerChannel
from protocol.run_dir import worker_endpoint, workers_in
from tests.pace import DEADLINE_S


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; the loop's readers run in between."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


def ignore(*_: bytes) -> None:
    """For the side that is not read in a test."""


async def connected(worker: list[tuple[bytes, bytes]], frontend: FrontendChannel) -> None:
    await until(lambda: frontend.send(b"hello"))
    await until(lambda: worker)
    worker.clear()


async def test_frames_go_both_ways(tmp_path: Path) -> None:
    endpoint, at_worker = worker_endpoint(tmp_path, "worker-0"), []
    at_frontend: list[bytes] = []
    worker = WorkerChannel(endpoint, ChannelLimits(), lambda *frame: at_worker.append(frame))
    frontend = FrontendChannel(endpoint, "f1", ChannelLimits(), at_frontend.append)
    await connected(at_worker, frontend)

    for number in range(1000):
        while not frontend.send(b"%d" % number):  # more than the queue takes at once
            await asyncio.sleep(0)
    await until(lambda: len(at_worker) == 1000)
    assert at_worker == [(b"f1", b"%d" % number) for number in range(1000)]

    assert worker.send(b"f1", b"answer") is Sent.OK
    await until(lambda: at_frontend)
    assert at_frontend == [b"answer"]
    frontend.close()
    worker.close()
    worker.close()


async def test_sending_to_nobody_is_noticed(tmp_path: Path) -> None:
    endpoint = worker_endpoint(tmp_path, "worker-0")
    frontend = FrontendChannel(endpoint, "f1", ChannelLimits(), ignore)
    assert not frontend.send(b"into the void")
    worker = WorkerChannel(endpoint, ChannelLimits(), ignore)
    assert worker.send(b"nobody", b"x") is Sent.GONE
    frontend.close()
    worker.close()


async def test_a_full_queue_is_noticed_and_no_frame_before_it_is_lost(tmp_path: Path) -> None:
    endpoint, at_worker = worker_endpoint(tmp_path, "worker-0"), []
    limits = ChannelLimits(queue_frames_max=10)
    worker = WorkerChannel(endpoint, limits, lambda *frame: at_worker.append(frame))
    at_frontend: list[bytes] = []
    frontend = FrontendChannel(endpoint, "f1", limits, at_frontend.append)
    await connected(at_worker, frontend)

    accepted = 0  # The frontend can't read while this loop holds the event loop: its queue fills up.
    while worker.send(b"f1", b"%d" % accepted + b"." * 65536) is Sent.OK:
        accepted += 1
        assert accepted < 10_000
    await until(lambda: len(at_frontend) == accepted)
    assert [int(frame.rstrip(b".")) for frame in at_frontend] == list(range(accepted))
    assert worker.send(b"f1", b"again") is Sent.OK
    frontend.close()
    worker.close()


async def test_an_oversized_frame_is_refused_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    endpoint, at_worker = worker_endpoint(tmp_path, "worker-0"), []
    worker = WorkerChannel(endpoint, ChannelLimits(frame_bytes_max=1000), lambda *frame: at_worker.append(frame))
    frontend = FrontendChannel(endpoint, "f1", ChannelLimits(), ignore)
    await connected(at_worker, frontend)
    with caplog.at_level(logging.WARNING):
        frontend.send(b"x" * 1001)
        frontend.send(b"fine")
        await until(lambda: at_worker)
    assert at_worker == [(b"f1", b"fine")]
    assert "1001 bytes from peer b'f1'" in caplog.text
    frontend.close()
    worker.close()


async def test_a_frame_beyond_the_transport_bound_costs_only_its_sender(tmp_path: Path) -> None:
    endpoint, at_worker = worker_endpoint(tmp_path, "worker-0"), []
    limits = ChannelLimits(frame_bytes_max=1000, transport_bytes_max=2000)
    worker = WorkerChannel(endpoint, limits, lambda *frame: at_worker.append(frame))
    frontend = FrontendChannel(endpoint, "f1", ChannelLimits(), ignore)
    await connected(at_worker, frontend)
    frontend.send(b"x" * 100_000)
    other = FrontendChannel(endpoint, "f2", ChannelLimits(), ignore)
    await until(lambda: other.send(b"still there?"))
    await until(lambda: at_worker)
    assert at_worker == [(b"f2", b"still there?")]
    for channel in (frontend, other, worker):
        channel.close()


async def test_a_worker_that_comes_back_at_its_endpoint_is_found_again(tmp_path: Path) -> None:
    endpoint, first, second = worker_endpoint(tmp_path, "worker-0"), [], []
    worker = WorkerChannel(endpoint, ChannelLimits(), lambda *frame: first.append(frame))
    frontend = FrontendChannel(endpoint, "f1", ChannelLimits(), ignore)
    await connected(first, frontend)
    worker.close()
    worker = WorkerChannel(endpoint, ChannelLimits(), lambda *frame: second.append(frame))
    await until(lambda: frontend.send(b"hello again") and second)
    frontend.close()
    worker.close()


def test_workers_are_found_by_their_sockets(tmp_path: Path) -> None:
    assert workers_in(tmp_path / "missing") == set()
    (tmp_path / "worker-0.worker.sock").touch()
    (tmp_path / "worker-1.worker.sock").touch()
    (tmp_path / "other.lock").touch()
    assert workers_in(tmp_path) == {"worker-0", "worker-1"}
