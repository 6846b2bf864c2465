"""The shell of `Hosts`: the channels to the workers, the timer, and the readings that hang on them.

One process has one. Reports are handled where they are read: from the socket's callback through `Hosts` and a session
to the client's connection, without a task in between.
"""

import asyncio
import itertools
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from frontend.api.errors import queue_full, unavailable
from frontend.closing import Closing
from frontend.closings import Closings, Ending
from frontend.config import Settings
from frontend.delivering import Webhooks
from frontend.draft import Draft
from frontend.hosts import Hosts
from frontend.messages import (
    Adopt,
    Beat,
    Charge,
    Connect,
    Create,
    Deliver,
    Disconnect,
    Distribute,
    Erase,
    Find,
    Heard,
    HostsInput,
    Leave,
    Note,
    Say,
    Send,
    Started,
    Stopping,
    Take,
    Undelivered,
    Verdict,
)
from frontend.metrics.watch import Watch
from frontend.reading import Chunk, Reading
from frontend.replaying import Replaying
from frontend.resolving import Resolver, curve_keys
from frontend.routing import Affinity, response_id_for
from frontend.session import Session
from frontend.store.store import Store
from frontend.wish import Wish
from frontend.workers import Worker
from protocol.channel import ChannelLimits, FrontendChannel
from protocol.codec import BadFrame, decode_report, encode_command
from protocol.commands import Close, Command
from protocol.endpoints import SCHEME
from protocol.records import Closed
from protocol.reports import Batch, ModelCard, Took
from protocol.run_dir import worker_endpoint, workers_in

logger = logging.getLogger(__name__)

_SOON_S: Final = 0.02
"""Between beats while a worker that was just found has not answered, for its socket takes a moment to connect, and
while there is more to be said to one."""


class Links:
    """All workers and readings of this process. Make it, and call all of it, inside its event loop.

    `on_ready` is called once, with what is served, when a worker is ready for the first time;
    `watch` is told what happens to responses and workers.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        webhooks: Webhooks,
        on_ready: Callable[[list[ModelCard]], None],
        watch: Watch,
    ) -> None:
        self.frontend_id = secrets.token_hex(8)
        self._settings = settings
        self._hosts = Hosts(self.frontend_id, settings)
        self._on_ready: Callable[[list[ModelCard]], None] | None = on_ready
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._channels: dict[str, FrontendChannel] = {}
        self._limits = ChannelLimits(
            frame_bytes_max=settings.frame_bytes_max, queue_frames_max=settings.queue_frames_max
        )
        self._resolver = Resolver(settings)
        self._keys = curve_keys(settings)
        self._readings: dict[int, Reading | Ending] = {}
        self._closings = Closings(store, webhooks, settings.store_wait_s, self._tell)
        self._reader_numbers = itertools.count(1)
        self._inbox: deque[HostsInput] = deque()
        self._is_handling = False
        self._clients = 0
        self._client_left = asyncio.Event()
        self._beat_timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Links {self.frontend_id} {len(self._readings)} readings, {self._clients} clients, {self._hosts}>"

    def start(self) -> None:
        """Look for workers, and go on looking."""
        self._resolver.start()
        self._beat()

    async def close(self) -> None:
        """Close all channels; the workers will find that this frontend is lost."""
        if self._beat_timer is not None:
            self._beat_timer.cancel()
        self._resolver.close()
        await self._closings.close()
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    async def drain(self) -> None:
        """Let the clients' requests finish for `drain_s`, then tell the others to go on elsewhere."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_s):
                while self._clients:
                    self._client_left.clear()
                    await self._client_left.wait()
                await self._closings.idle()
        for reading in list(self._readings.values()):
            reading.deliver(Stopping())

    # ---- for the endpoints -------------------------------------------------------------------------------------------

    def models(self) -> list[ModelCard]:
        """What is served now."""
        return self._hosts.models(self._loop.time())

    def workers(self) -> list[Worker]:
        """The workers that are there, or were a moment ago."""
        return self._hosts.workers()

    def why_unready(self) -> str | None:
        """Why no new response can be made, or None when one can."""
        return self._hosts.why_unready(self._loop.time())

    @property
    def store_fails(self) -> bool:
        """Whether responses that have ended wait for the store, so that it should be given no more."""
        return self._closings.is_overdue

    def new_response_id(self, model: str, affinity: Affinity) -> str:
        """An id for a new response, which tells where it had best be."""
        token = secrets.token_hex(14)
        return response_id_for(self._hosts.host_for(model, affinity, token, self._loop.time()), token)

    def check_room(self, model: str) -> None:
        """Raises `ApiError` (429) when all workers of the model say that their queues are full."""
        if retry_after_s := self._hosts.retry_after_s(model, self._loop.time()):
            raise queue_full(model, retry_after_s)

    def create(self, draft: Draft, wish: Wish) -> Reading:
        """Make a response, or join it where `wish.request` says so. Raises `ApiError` when there are too many."""
        reading = self._admit(draft.response_id, wish)
        command = draft.command(reading.session.reader, int(time.time()))
        self._tell(Create(command, draft.model, joins=wish.asked is not None))
        return reading

    def find(self, response_id: str, wish: Wish) -> Reading:
        """Read a response that may be on any worker. Raises `ApiError` when there are too many readers."""
        reading = self._admit(response_id, wish)
        self._tell(Find(reading.session.reader, response_id, client=wish.stream))
        return reading

    def replay(self, response_id: str, wish: Wish, replaying: Replaying) -> Reading:
        """Read what is stored. Raises `ApiError` when there are too many readers."""
        self._admit_client()
        # Of no frontend: whoever owned it once, nobody does any more.
        session = Session(next(self._reader_numbers), response_id, "", wish)
        return Reading(session, self._hosts, replaying.tell, self._drive, self._settings)

    def say(self, reading: Reading, command: Command) -> None:
        """Say something about the response to the worker that hosts it."""
        self._tell(Say(reading.session.reader, command))

    def erase(self, response_id: str) -> None:
        """Have the workers forget a response that was deleted; a live one ends first."""
        self._tell(Erase(response_id))

    def leave(self, reading: Reading) -> None:
        """The client's request is over; called once for each reading made for one."""
        self._clients -= 1
        self._client_left.set()
        reading.leave()

    def _admit_client(self) -> None:
        if self._clients >= self._settings.streams_max:
            raise unavailable(f"This server is at its limit of {self._settings.streams_max} requests.", "overloaded")
        self._clients += 1

    def _admit(self, response_id: str, wish: Wish) -> Reading:
        self._admit_client()
        return self._add(response_id, wish, client=wish.stream or wish.to_the_end)

    def _add(self, response_id: str, wish: Wish, *, client: bool) -> Reading:
        session = Session(next(self._reader_numbers), response_id, self.frontend_id, wish, client=client)
        reading = Reading(session, self._hosts, self._tell, self._drive, self._settings)
        self._readings[session.reader] = reading
        return reading

    def _drive(self, session: Session, effect: Verdict | Started | Charge) -> None:
        match effect:
            case Verdict():
                self._end(session, effect)
            case Started():
                self._closings.started(session.response_id)
            case Charge():
                self._watch.turn_ended(effect)

    def _end(self, session: Session, verdict: Verdict) -> None:
        """End a response that this frontend owns: at once, or once it is stored where it is to be."""
        projection, response_id = session.projection, session.response_id
        closed = verdict.closed or Closed(verdict.status, int(time.time()), verdict.error)
        in_log = verdict.closed is not None
        if not projection.is_stored and not in_log:
            close = Close(response_id, verdict.epoch, closed.status, closed.at, closed.error)
            self._tell(Say(session.reader, close))
            return
        number = next(self._reader_numbers)
        closing = Closing(number, response_id, verdict.epoch, closed, in_log=in_log)
        response = projection.response() if in_log else projection.response_closed(closed)
        ending = self._closings.begin(closing, response)
        if ending is not None:
            self._readings[number] = ending
            worker = self._hosts.worker_of(session.reader)
            found = Find(number, response_id, client=False)
            self._tell(found if worker is None else Take(number, response_id, worker))

    # ---- hosts -------------------------------------------------------------------------------------------------------

    def _tell(self, message: HostsInput) -> None:
        """Let `Hosts` take this in, after what it is taking in now, and carry out what it asks for."""
        self._inbox.append(message)
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._inbox:
                message, now = self._inbox.popleft(), self._loop.time()
                for effect in self._hosts.handle(message, now):
                    if isinstance(effect, Distribute):
                        self._distribute(effect.batches, now)
                    else:
                        self._carry_out(effect)
                if isinstance(message, Leave):
                    self._readings.pop(message.reader, None)
        finally:
            self._is_handling = False

    def _distribute(self, batches: Iterable[Batch], now: float) -> None:
        """Have the readings fold their batches, and write what comes of them only then.

        System calls in between would leave cold caches to each.
        """
        chunks: list[Chunk] = []
        for batch in batches:
            reading = self._readings.get(batch.reader)
            if reading is None:
                continue
            try:
                chunk = reading.more(batch, now)
            except Exception as error:  # noqa: BLE001 - of many streams, one
                _write(chunks)
                reading.fail(error)
                continue
            if chunk is not None:
                chunks.append(chunk)
            else:
                _write(chunks)  # for its own may be among them
                reading.deliver(batch)
        _write(chunks)

    def _carry_out(self, effect: Send | Deliver | Adopt | Connect | Disconnect | Note) -> None:
        match effect:
            case Deliver():
                if reading := self._readings.get(effect.reader):
                    reading.deliver(effect.message)
            case Send():
                self._send(effect)
            case Adopt():
                self._watch.adopted()
                reading = self._add(effect.response_id, Wish(), client=False)
                self._tell(Take(reading.session.reader, effect.response_id, effect.worker))
            case Connect():
                self._channels[effect.worker] = self._connect(effect.worker)
            case Disconnect():
                self._channels.pop(effect.worker).close()
            case Note():
                logger.info("%s", effect.text)

    def _connect(self, worker: str) -> FrontendChannel:
        on_frame = partial(self._on_frame, worker)
        if worker.startswith(SCHEME):
            return FrontendChannel(worker, self.frontend_id, self._limits, on_frame, self._keys)
        endpoint = worker_endpoint(self._settings.run_dir, worker)
        return FrontendChannel(endpoint, self.frontend_id, self._limits, on_frame)

    def _send(self, effect: Send) -> None:
        channel = self._channels.get(effect.worker)
        if channel is None or not channel.send(encode_command(effect.incarnation, effect.command)):
            self._tell(Undelivered(effect.worker, effect.command))

    def _on_frame(self, worker: str, frame: bytes) -> None:
        try:
            report = decode_report(frame)
        except BadFrame as error:
            logger.warning("refused a frame of %d bytes from worker %s: %s", len(frame), worker, error)
            return
        if isinstance(report, Took):
            self._watch.moved(sum(map(self._hosts.readers_of, report.response_ids)))
        self._tell(Heard(worker, report))

    def _beat(self) -> None:
        self._tell(Beat(self._resolver.endpoints | workers_in(self._settings.run_dir)))
        now = self._loop.time()
        if self._on_ready is not None and self._hosts.why_unready(now) is None:
            self._on_ready(self._hosts.models(now))
            self._on_ready = None
        interval_s = self._settings.heartbeat_interval_s
        if self._hosts.is_expecting(now):
            interval_s = min(interval_s, _SOON_S)
        self._watch.beat(self._hosts.workers(), self._readings, now, now + interval_s)
        self._beat_timer = self._loop.call_later(interval_s, self._beat)


def _write(chunks: list[Chunk]) -> None:
    for transport, data in chunks:
        transport.write(data)
    chunks.clear()
