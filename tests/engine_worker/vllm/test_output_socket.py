"""vLLM's task gets every message of its socket, in order, whether it waits for it or comes later."""

import asyncio

import pytest
import zmq
import zmq.asyncio

from engine_worker.engines.vllm.output_socket import OutputSocket
from tests.pace import DEADLINE_S

MESSAGES = [[b"%d" % number, b"more"] for number in range(200)]


async def test_every_message_arrives_in_order() -> None:
    with zmq.asyncio.Context() as context:
        outputs = context.socket(zmq.PULL)
        outputs.bind("inproc://outputs")
        reading = OutputSocket(outputs, lambda _: False)
        received: list[list[bytes]] = []

        async def receive() -> None:
            while len(received) < len(MESSAGES):
                frames = await outputs.recv_multipart(copy=False)
                received.append([frame.bytes for frame in frames])

        task = asyncio.create_task(receive())
        with zmq.Socket(context, zmq.PUSH) as engine:
            engine.connect("inproc://outputs")
            async with asyncio.timeout(DEADLINE_S):
                for number, message in enumerate(MESSAGES):
                    engine.send_multipart(message)
                    while number % 3 == 0 and len(received) <= number:  # every third one is waited for
                        await asyncio.sleep(0)
                await task
        reading.close()
        reading.close()
        outputs.close()
    assert received == MESSAGES


async def test_what_came_while_nobody_read_waits() -> None:
    with zmq.asyncio.Context() as context:
        outputs = context.socket(zmq.PULL)
        outputs.bind("inproc://outputs")
        reading = OutputSocket(outputs, lambda _: False)
        with zmq.Socket(context, zmq.PUSH) as engine:
            engine.connect("inproc://outputs")
            engine.send(b"first")
            for _ in range(10):
                await asyncio.sleep(0)  # the loop sees that it is there
            async with asyncio.timeout(DEADLINE_S):
                assert await outputs.recv_multipart() == [b"first"]
                cancelled = asyncio.ensure_future(outputs.recv_multipart())
                cancelled.cancel()
                engine.send(b"second")
                assert await outputs.recv_multipart() == [b"second"]
        reading.close()
        outputs.close()


async def test_what_is_taken_at_once_vllm_never_sees() -> None:
    taken: list[bytes] = []
    received: list[bytes] = []

    def take(message: bytes) -> bool:
        if message.startswith(b"plain"):
            taken.append(message)
            return True
        return False

    plain = [b"plain %d" % number for number in range(20)]
    with zmq.asyncio.Context() as context:
        outputs = context.socket(zmq.PULL)
        outputs.bind("inproc://outputs")
        reading = OutputSocket(outputs, take)

        async def receive() -> None:
            while True:
                received.append(b" ".join(await outputs.recv_multipart()))

        task = asyncio.create_task(receive())
        with zmq.Socket(context, zmq.PUSH) as engine:
            engine.connect("inproc://outputs")
            async with asyncio.timeout(DEADLINE_S):
                for message in [[b"first"], *([each] for each in plain), [b"plain", b"in two"], [b"last"]]:
                    seen = len(taken) + len(received)
                    engine.send_multipart(message)
                    while len(taken) + len(received) == seen:
                        await asyncio.sleep(0)
                task.cancel()
                engine.send(b"plain, and nobody waits")
                for _ in range(10):
                    await asyncio.sleep(0)
                assert await outputs.recv_multipart() == [b"plain, and nobody waits"]
        reading.close()
        outputs.close()
    assert taken == plain
    assert received == [b"first", b"plain in two", b"last"]


async def test_a_failure_ends_vllms_task() -> None:
    def take(_: bytes) -> bool:
        raise RuntimeError("a sink failed")

    with zmq.asyncio.Context() as context:
        outputs = context.socket(zmq.PULL)
        outputs.bind("inproc://outputs")
        reading = OutputSocket(outputs, take)
        waiting = outputs.recv_multipart()
        with zmq.Socket(context, zmq.PUSH) as engine:
            engine.connect("inproc://outputs")
            engine.send(b"message")
            with pytest.raises(RuntimeError, match="a sink failed"):
                async with asyncio.timeout(DEADLINE_S):
                    await waiting
        reading.close()
        outputs.close()
