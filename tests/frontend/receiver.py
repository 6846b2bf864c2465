"""A webhook's endpoint on loopback: it keeps what it is sent, and answers as it is told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import openai
from aiohttp import web
from openai.types.webhooks import UnwrapWebhookEvent

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER_SECRET = "whsec_ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="

HANG = 0
"""Instead of a status: no answer, until the receiver is closed."""


class Post:
    """What came in."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path = path
        self.headers = headers
        self.body = body

    @property
    def webhook_id(self) -> str:
        """Which delivery it is."""
        return self.headers["webhook-id"]

    def unwrap(self, secret: str = SECRET) -> UnwrapWebhookEvent:
        """The event, if OpenAI's SDK takes it."""
        client = openai.OpenAI(api_key="none", webhook_secret=secret)
        return client.webhooks.unwrap(self.body, self.headers)


class Receiver:
    """Answers `statuses` one after the other, then 200; to a path in `by_path` always what stands there."""

    def __init__(self, *statuses: int) -> None:
        self.url = ""
        self.posts: list[Post] = []
        self.statuses = list(statuses)
        self.by_path: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        self.closing = asyncio.Event()
        self._came = asyncio.Condition()

    async def until(self, posts: int) -> list[Post]:
        """Wait for so many posts; the test's own timeout is the bound."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.posts) >= posts)
        return self.posts

    def counts(self) -> Counter[str]:
        """How often each delivery came."""
        return Counter(post.webhook_id for post in self.posts)

    async def take(self, request: web.Request) -> web.Response:
        """Keep a post and answer it."""
        post = Post(request.path, dict(request.headers), await request.read())
        status = self.by_path.get(request.path)
        if status is None:
            status = self.statuses.pop(0) if self.statuses else 200
        async with self._came:
            self.posts.append(post)
            self._came.notify_all()
        if status == HANG:
            await self.closing.wait()
        return web.Response(status=status or 200, headers=self.headers)


@asynccontextmanager
async def receiving(*statuses: int, port: int = 0) -> AsyncIterator[Receiver]:
    """Receive until the end of the block."""
    receiver = Receiver(*statuses)
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.url = f"http://127.0.0.1:{site.port}"
    try:
        yield receiver
    finally:
        receiver.closing.set()
        await runner.cleanup()
