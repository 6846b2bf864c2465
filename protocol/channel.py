"""ZeroMQ sockets as plain callbacks; but for that of `curve.py`, the only module of the product that makes any.

Theory of operation
    A worker binds one ROUTER, a frontend connects one DEALER per worker. Frames are opaque bytes here.

    Sockets are read from the event loop's own reader callback and drained in place: no task and no await per message.
    The file descriptor of a ZeroMQ socket is edge-triggered and may swallow an edge on *any* call, so readability is
    checked again after every send and at the end of every drain.

    ZeroMQ drops in silence in three places, and each is closed here:
    * ROUTER to an unknown or a full peer: `ROUTER_MANDATORY` with a non-blocking send makes them `GONE` and `FULL`.
    * DEALER to a dead peer: `IMMEDIATE` queues only towards a completed connection, so `send` can say no.
    * linger at close: zero, since whatever matters is sent again by offset.

    Over TCP three more things are so:
    * A link that is cut says nothing. The kernels of both ends, which are sent heartbeats all the time, give up a
      connection on which nothing is acknowledged. ZeroMQ's own heartbeats (`HEARTBEAT_IVL`) are not used: libzmq 4.3.5
      aborts the process when they meet a full queue (its issue 3937), or a connection that broke while it was full.
    * One end may have given it up before the other. A ROUTER takes the new connection of a peer for the old one's
      (`ROUTER_HANDOVER`); by default it would not, and take the peer's first message for its routing id.
    * A connection that was refused (a key that is not authorized yet) is not tried again by ZeroMQ, so a frontend that
      has had none for `_RENEW_S` begins anew.
"""

import asyncio
import enum
import logging
from collections.abc import Callable
from typing import Final, cast

import msgspec
import zmq

from protocol.curve import Doorkeeper, frontend_options, worker_options
from protocol.curve_files import FrontendKeys, WorkerKeys
from protocol.endpoints import SCHEME

logger = logging.getLogger(__name__)

_DRAIN_S = 0.005
"""For how long frames are handled in one loop callback before the loop gets its turn; a frame may be a long backlog."""
_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
"""As plain numbers, for arithmetic with an enumeration takes as long as a message."""
_PEERS_MAX: Final = 10_000
"""Peers whose keys are remembered, those that were heard last; another is gone until it is heard again."""
_RECONNECT_MS, _RECONNECT_MAX_MS = 50, 500
"""How long ZeroMQ waits before it tries a dead worker's endpoint again, at first and at most."""
_RENEW_S = 5.0
"""How long a frontend is without a connection, or its queue full, before it connects anew."""
_OVER_TCP: dict[int, int | bytes] = {
    zmq.IPV6: 1,
    zmq.CONNECT_TIMEOUT: 1000,  # ms; the kernel alone would try for two minutes, at growing intervals
    zmq.HANDSHAKE_IVL: 5000,  # ms
    zmq.TCP_MAXRT: 4000,  # ms without an answer to what was sent: TCP_USER_TIMEOUT (RFC 5482)
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 2,  # s
    zmq.TCP_KEEPALIVE_INTVL: 1,
    zmq.TCP_KEEPALIVE_CNT: 3,
}


class ChannelLimits(msgspec.Struct, frozen=True):
    """Bounds of a channel.

    `frame_bytes_max`: larger frames are dropped and logged. `queue_frames_max`: frames queued per peer and direction
    before a send is refused. `transport_bytes_max`: libzmq cuts a connection that announces a frame larger than this,
    before it takes any memory.
    """

    frame_bytes_max: int = 64 * 2**20
    queue_frames_max: int = 500
    transport_bytes_max: int = 256 * 2**20


class Sent(enum.Enum):
    """What became of a send: queued; refused since the peer's queue is full; or there is no such peer."""

    OK = enum.auto()
    FULL = enum.auto()
    GONE = enum.auto()


class CannotBind(Exception):
    """A worker can't listen at its endpoint; the message says which, and why."""


class _Socket:
    """A ZeroMQ socket driven by the running event loop; `on_frames` gets each message's frames."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        kind: int,
        options: dict[int, int | bytes],
        limits: ChannelLimits,
        on_frames: Callable[[list[zmq.Frame]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_frames = on_frames
        self._drain_scheduled = False
        self._socket: zmq.Socket[bytes] = context.socket(kind)
        bounds: dict[int, int | bytes] = {
            zmq.LINGER: 0,
            zmq.SNDHWM: limits.queue_frames_max,
            zmq.RCVHWM: limits.queue_frames_max,
            zmq.MAXMSGSIZE: limits.transport_bytes_max,
        }
        for option, value in (bounds | options).items():
            self._socket.setsockopt(option, value)
        self._option = cast("Callable[[int], int]", self._socket.getsockopt)

    def bind(self, endpoint: str) -> None:
        self._socket.bind(endpoint)
        self._read()

    def connect(self, endpoint: str) -> None:
        self._socket.connect(endpoint)
        self._read()

    def connect_anew(self, endpoint: str) -> None:
        self._socket.disconnect(endpoint)
        self._socket.connect(endpoint)

    def _read(self) -> None:
        self._loop.add_reader(self._socket.FD, self._drain)
        self._schedule_drain()

    def close(self) -> None:
        """Stop reading and close; unsent frames are dropped. Closing twice is fine."""
        if not self._socket.closed:
            self._loop.remove_reader(self._socket.FD)
            self._socket.close()

    def send(self, frames: list[bytes]) -> Sent:
        try:
            for frame in frames[:-1]:
                self._socket.send(frame, _MORE)
            self._socket.send(frames[-1], _NOBLOCK)
        except zmq.Again:
            return Sent.FULL
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return Sent.GONE
            raise
        finally:
            self._schedule_drain()
        return Sent.OK

    def _schedule_drain(self) -> None:
        if not self._drain_scheduled and self._has_message():
            self._drain_scheduled = True
            self._loop.call_soon(self._drain)

    def _has_message(self) -> bool:
        return bool(self._option(_EVENTS) & _POLLIN)

    def _drain(self) -> None:
        self._drain_scheduled = True  # What is sent meanwhile needs no look of its own.
        until = self._loop.time() + _DRAIN_S
        try:
            while frames := self._receive():
                self._on_frames(frames)
                if self._socket.closed:
                    return
                if self._loop.time() >= until:
                    break
                if not self._has_message():
                    return
            else:
                return
        finally:
            self._drain_scheduled = False
        self._schedule_drain()

    def _receive(self) -> list[zmq.Frame]:
        """The frames of the next message; none where there is none, which as an exception is dear."""
        frames: list[zmq.Frame] = []
        try:
            more = True
            while more:
                frame = self._socket.recv(_NOBLOCK, copy=False)
                frames.append(frame)
                more = frame.more
        except zmq.Again:
            pass
        return frames


class WorkerChannel:
    """The worker's end: a bound ROUTER. `on_frame(peer, frame)` is called for every well-sized frame.

    Needs a running event loop. `peer` is the routing id the frontend chose, its `frontend_id` in ASCII. With `keys`
    only frontends with an authorized key get in, and all is encrypted. Raises `CannotBind`.
    """

    def __init__(
        self,
        endpoint: str,
        limits: ChannelLimits,
        on_frame: Callable[[bytes, bytes], None],
        keys: WorkerKeys | None = None,
    ) -> None:
        self._limits = limits
        self._on_frame = on_frame
        self._doorkeeper: Doorkeeper | None = None
        self._keys: dict[bytes, str] = {}
        """With which key each peer came in, in Z85."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        options = _transport(endpoint) | {zmq.ROUTER_MANDATORY: 1, zmq.ROUTER_HANDOVER: 1}
        if keys is not None:
            context = zmq.Context()  # Its own: a context has one doorkeeper.
            self._doorkeeper = Doorkeeper(context, keys)
            options |= worker_options(keys)
        self._socket = _Socket(context, zmq.ROUTER, options, limits, self._received)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise CannotBind(f"can't listen at {endpoint}: {error}") from error

    def send(self, peer: bytes, frame: bytes) -> Sent:
        """Queue a frame for `peer`; never blocks. One whose key was taken away meanwhile is gone."""
        if self._doorkeeper is not None and not self._is_in(peer, self._doorkeeper):
            return Sent.GONE
        sent = self._socket.send([peer, frame])
        if sent is Sent.GONE:
            self._keys.pop(peer, None)
        return sent

    def close(self) -> None:
        """Unbind and close; frames not yet on the wire are dropped."""
        self._socket.close()
        if self._doorkeeper is not None:
            self._doorkeeper.close()

    def _received(self, frames: list[zmq.Frame]) -> None:
        peer, *body = [frame.bytes for frame in frames]
        if self._doorkeeper is not None:
            self._note_key(peer, cast("str", frames[-1].get("User-Id")))  # as the doorkeeper told ZeroMQ (ZAP)
            if not self._is_in(peer, self._doorkeeper):
                return
        if len(body) != 1 or len(body[0]) > self._limits.frame_bytes_max:
            size = sum(map(len, body))
            logger.warning("refused a message of %d frames, %d bytes from peer %r", len(body), size, peer)
            return
        self._on_frame(peer, body[0])

    def _note_key(self, peer: bytes, key: str) -> None:
        self._keys.pop(peer, None)
        self._keys[peer] = key
        if len(self._keys) > _PEERS_MAX:
            del self._keys[next(iter(self._keys))]

    def _is_in(self, peer: bytes, doorkeeper: Doorkeeper) -> bool:
        """Whether the peer came in, and may stay; one that may not is forgotten."""
        key = self._keys.get(peer)
        if key is None or doorkeeper.still_knows(key):
            return key is not None
        del self._keys[peer]
        return False


class FrontendChannel:
    """A frontend's end towards one worker: a connecting DEALER whose routing id is `frontend_id`.

    ZeroMQ connects, and connects again, by itself, also before the worker exists. With `keys` it does so only to
    workers that have the key expected, and all is encrypted.
    """

    def __init__(
        self,
        endpoint: str,
        frontend_id: str,
        limits: ChannelLimits,
        on_frame: Callable[[bytes], None],
        keys: FrontendKeys | None = None,
    ) -> None:
        self._limits = limits
        self._on_frame = on_frame
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._renew_at = self._loop.time() + _RENEW_S
        options = _transport(endpoint) | {
            zmq.ROUTING_ID: frontend_id.encode("ascii"),
            zmq.IMMEDIATE: 1,
            zmq.RECONNECT_IVL: _RECONNECT_MS,
            zmq.RECONNECT_IVL_MAX: _RECONNECT_MAX_MS,
        }
        if keys is not None:
            options |= frontend_options(keys)
        self._socket = _Socket(zmq.Context.instance(), zmq.DEALER, options, limits, self._received)
        self._socket.connect(endpoint)

    def send(self, frame: bytes) -> bool:
        """Queue a frame; False when there is no connection or its queue is full. Never blocks."""
        is_queued = self._socket.send([frame]) is Sent.OK
        now = self._loop.time()
        if is_queued:
            self._renew_at = now + _RENEW_S
        elif now >= self._renew_at:
            self._renew_at = now + _RENEW_S
            self._socket.connect_anew(self._endpoint)
        return is_queued

    def close(self) -> None:
        """Disconnect; frames not yet on the wire are dropped."""
        self._socket.close()

    def _received(self, frames: list[zmq.Frame]) -> None:
        if len(frames) != 1 or len(frames[0]) > self._limits.frame_bytes_max:
            logger.warning("refused a message of %d frames, %d bytes", len(frames), sum(map(len, frames)))
            return
        self._on_frame(frames[0].bytes)


def _transport(endpoint: str) -> dict[int, int | bytes]:
    return dict(_OVER_TCP) if endpoint.startswith(SCHEME) else {}
