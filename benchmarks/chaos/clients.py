"""The load: clients that reconnect by cursor, observers, and replays, each recording the bytes that it sees.

Light enough for a thousand streams beside all servers on two cores: one process, one connection a reader, no parsing of
events but their sequence numbers.
"""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final

import aiohttp

from benchmarks.chaos.recording import UNTERMINATED, Recording, compare, ending, first_difference
from benchmarks.chaos.tally import EXAMPLES_MAX, Tally

SILENCE_S: Final = 4.0
"""A reader that hears nothing for so long, not even a keepalive, gives its connection up and asks another frontend."""
KEEPALIVE_S: Final = 1.0
"""What the frontends' keepalives are set to, so that a paused frontend is told from a quiet one."""
CONNECT_S: Final = 2.0
OVERDUE_S: Final = 120.0
"""A stream that isn't over so long after it should be counts as one that never ends."""
RETRY_S: Final = (0.05, 1.0)
"""The first and the longest wait between two tries to connect, doubled in between."""
REPLAY_DELAY_S: Final = 8.0
"""A response is replayed up to so long after its end; well within the resume window."""


_Request = AbstractAsyncContextManager[aiohttp.ClientResponse]


class Refused(Exception):
    """An answer that no retry will mend, such as 404 for a response that exists."""


@dataclass(frozen=True)
class Crowd:
    """What all readers share."""

    http: aiohttp.ClientSession
    urls: Sequence[str]
    chance: random.Random
    tally: Tally
    interval_s: float
    """Seconds between two tokens of a stream."""
    length_s: tuple[float, float]
    """The shortest and the longest stream."""


class Reader:
    """One reader of one response, over as many connections as it takes; a client creates it, others know its id."""

    def __init__(self, crowd: Crowd, *, response_id: str = "", body: bytes = b"", key: str = "") -> None:
        self.recording = Recording()
        self.response_id = response_id
        self.url = ""
        self.known = asyncio.Event()
        """Set once the response's id is known."""
        self._crowd = crowd
        self._body = body
        self._key = key
        self._event_at: float | None = None
        self._asked_at: float | None = None
        """When the first request after the last connection broke was sent; None once that is made good."""
        self._answered = False
        self._is_open = False
        """Whether the connection of now, or the last one, brought a stream."""

    async def read(self, avoid: str = "") -> None:
        """Read to the stream's end, first at any frontend but `avoid`, then at any. Raises `Refused`."""
        urls = [url for url in self._crowd.urls if url != avoid] or self._crowd.urls
        tries = 0
        while not self.recording.is_done:
            before = len(self.recording.blocks)
            if self._asked_at is None and before:
                self._asked_at, self._answered = time.monotonic(), False
            self.url = self._crowd.chance.choice(urls)
            urls = self._crowd.urls
            try:
                cause = await self._connection()
            except TimeoutError:  # aiohttp's own are ClientErrors too
                cause = "silence"
            except (aiohttp.ClientConnectorError, ConnectionRefusedError):
                cause = "nobody listens"
            except (aiohttp.ClientError, OSError):
                cause = "connection broke" if self._is_open else "no answer"
            self.recording.cut()
            if self.recording.is_done:
                return
            self._crowd.tally.reconnects[cause] += 1
            tries = 0 if len(self.recording.blocks) > before else tries + 1
            await asyncio.sleep(min(RETRY_S[0] * 2**tries, RETRY_S[1]) * self._crowd.chance.uniform(0.5, 1))

    async def _connection(self) -> str:
        """One request and all that it brings; returns why another is needed."""
        self._is_open = False
        async with self._request() as answer:
            if answer.status == 503:
                return "503"
            if answer.status != 200:
                raise Refused(f"refused: {answer.request_info.method} {answer.status}: {(await answer.text())[:200]}")
            self.response_id = answer.headers["x-response-id"]
            self.known.set()
            self._is_open = True
            if self._asked_at is not None and not self._answered:
                self._answered = True
                self._crowd.tally.answered_s.append(time.monotonic() - self._asked_at)
            async for data in answer.content.iter_any():
                if self.recording.feed(data):
                    self._note_arrival()
        return "stream ended early"

    def _request(self) -> _Request:
        http, url = self._crowd.http, self.url + "/v1/responses"
        if not self.response_id:
            headers = {"Content-Type": "application/json", "Idempotency-Key": self._key}
            return http.post(url, data=self._body, headers=headers)
        query = {"stream": "true"}
        if self.recording.cursor is not None:
            query["starting_after"] = str(self.recording.cursor)
        return http.get(f"{url}/{self.response_id}", params=query)

    def _note_arrival(self) -> None:
        if not self._body:  # only clients are timed
            return
        now, tally = time.monotonic(), self._crowd.tally
        if self._event_at is not None:
            (tally.open_gaps_s if self._asked_at is None else tally.broken_gaps_s).append(now - self._event_at)
        self._event_at = now
        if self._asked_at is not None:
            tally.resumed_s.append(now - self._asked_at)
            self._asked_at = None


async def keep_streaming(crowd: Crowd, stop: asyncio.Event, begin_after_s: float) -> None:
    """One place in the crowd: a stream, and at its end the next, until told to stop; then until all is compared."""
    await asyncio.sleep(begin_after_s)
    async with asyncio.TaskGroup() as replays:
        while not stop.is_set():
            if readers := await _one_stream(crowd):
                replays.create_task(_settle(crowd, *readers))


async def _one_stream(crowd: Crowd) -> tuple[Reader, Reader] | None:
    """A client and its observer to the end; None, with the reason in the tally, if they don't get there."""
    length_s = crowd.chance.uniform(*crowd.length_s)
    script = json.dumps({"steps": max(1, int(length_s / crowd.interval_s)), "interval_s": crowd.interval_s})
    body = {"model": "scripted", "input": "x", "stream": True, "metadata": {"script": script}}
    body["store"] = crowd.chance.random() < 0.5
    client = Reader(crowd, body=json.dumps(body).encode(), key=f"{crowd.chance.getrandbits(64):x}")
    observer = Reader(crowd)
    crowd.tally.streams += 1
    try:
        async with asyncio.timeout(length_s + OVERDUE_S), asyncio.TaskGroup() as both:
            both.create_task(client.read())
            both.create_task(_observe(client, observer))
    except TimeoutError:
        crowd.tally.endings[UNTERMINATED] += 1
    except ExceptionGroup as group:
        crowd.tally.endings[str(group.exceptions[0])] += 1
    else:
        return client, observer
    return None


async def _observe(client: Reader, observer: Reader) -> None:
    await client.known.wait()
    observer.response_id = client.response_id
    await observer.read(avoid=client.url)


async def _settle(crowd: Crowd, client: Reader, observer: Reader) -> None:
    """Replay the whole stream some time later, and compare what was seen with it."""
    await asyncio.sleep(crowd.chance.uniform(0, REPLAY_DELAY_S))
    replay = Reader(crowd, response_id=client.response_id)
    try:
        async with asyncio.timeout(OVERDUE_S):
            await replay.read()
    except (TimeoutError, Refused) as error:
        crowd.tally.endings[f"no replay: {error or 'it never ends'}"] += 1
        return
    whole, tally = replay.recording, crowd.tally
    tally.events += len(whole.blocks)
    tally.endings[ending(whole)] += 1
    tally.clients += compare(client.recording, whole)
    tally.observers += compare(observer.recording, whole)
    for who, reader in (("client", client), ("observer", observer)):
        where = first_difference(reader.recording, whole)
        if where and len(tally.examples) < EXAMPLES_MAX:
            tally.examples.append(f"{client.response_id}, {who}, {where}")
