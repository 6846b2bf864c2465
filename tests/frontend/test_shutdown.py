"""A serving process that ends: who had connected by then is answered."""

import asyncio
import socket

from aiohttp import web

from frontend.arbiter import Runner

LAST_REQUESTS_S = 3.0


async def test_a_connection_whose_request_has_not_come_yet_is_answered() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = Runner(app, last_requests_s=LAST_REQUESTS_S)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await web.SockSite(runner, listener).start()
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        while not runner.server or not runner.server.connections:
            await asyncio.sleep(0)
        ending = asyncio.create_task(runner.cleanup())
        while runner.sites:
            await asyncio.sleep(0)
        for _ in range(100):  # of the loop: so long after aiohttp alone would have closed it
            await asyncio.sleep(0)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        await ending
