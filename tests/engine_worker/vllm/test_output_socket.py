"""vLLM's task gets every message of its socket, in order, whether it waits for it or comes later."""

import asyncio

import zmq
import zmq.asyncio

from engine_worker.engines.vllm.output_socket import OutputSocket
from tests.pace import DEADLINE_S

MESSAGES = [[b"%d" % number, b"more"] for number in range(200)]


async def test_every_message_arrives_in_order() -> None:
    with zmq.asyncio.Context() as context:
        outputs = context.socket(zmq.PULL)
        outputs.bind("inproc://outputs")
        reading = OutputSocket(outputs)
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
        reading = OutputSocket(outputs)
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
