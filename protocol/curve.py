"""CURVE, ZeroMQ's encryption and authentication, for workers that are reached over TCP (`curve_files.py` has the keys).

A worker asks at every handshake whether it knows the frontend's key (ZAP, https://rfc.zeromq.org/spec/27), and again
with every message, for a key may be taken away while its host is connected: the file is read at each handshake, and
within `_LOOK_S` of a change. Nothing that a stranger sends gets any further.
"""

import asyncio
import contextlib
import logging
from typing import Final

import zmq
import zmq.auth.asyncio
from zmq.utils import z85

from protocol.curve_files import BadCurveKeys, FrontendKeys, WorkerKeys, read_authorized

logger = logging.getLogger(__name__)

_DOMAIN: Final = "holdfast"
_STRANGERS_MAX: Final = 1000
"""Refused keys that are remembered, so that each is logged once."""
_LOOK_S: Final = 1.0
"""How often, at most, the file of keys is looked at for the sake of those who are in."""


def new_secret() -> bytes:
    """A new secret key."""
    return z85.decode(zmq.curve_keypair()[1])


def public_of(secret: bytes) -> bytes:
    """The public key that belongs to a secret one."""
    return z85.decode(zmq.curve_public(z85.encode(secret)))


class Doorkeeper:
    """Lets into the sockets of one context whom the file of keys names, and nobody else. Needs a running event loop."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: WorkerKeys) -> None:
        self._context = context
        self._keys = keys
        self._strangers: set[bytes] = set()
        self._names: dict[bytes, str] = {}
        """What the file said when it could be read last."""
        self._loop = asyncio.get_running_loop()
        self._look_at = 0.0
        self._zap = zmq.auth.asyncio.AsyncioAuthenticator(context)
        self._zap.configure_curve_callback(_DOMAIN, self)
        self._zap.start()

    def close(self) -> None:
        """Answer no more, and end the context, whose other sockets are closed."""
        self._zap.stop()
        self._context.destroy(linger=0)

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether this public key (in Z85) may come in; what pyzmq asks."""
        public = z85.decode(key)
        try:
            self._names = read_authorized(self._keys.authorized)
        except BadCurveKeys as error:
            logger.error("nobody is let in: %s", error)
            return False
        if public in self._names:
            self._strangers.discard(public)
            logger.info("frontend host %s is let in", self._names[public])
            return True
        self._refuse(public)
        return False

    def still_knows(self, key: str) -> bool:
        """Whether somebody who came in with this public key (in Z85) may stay.

        Nobody is sent away because the file can't be read.
        """
        if self._loop.time() >= self._look_at:
            self._look_at = self._loop.time() + _LOOK_S
            with contextlib.suppress(BadCurveKeys):
                self._names = read_authorized(self._keys.authorized)
        public = z85.decode(key)
        if public in self._names:
            return True
        self._refuse(public)
        return False

    def _refuse(self, public: bytes) -> None:
        if public not in self._strangers:
            if len(self._strangers) >= _STRANGERS_MAX:
                self._strangers.clear()
            self._strangers.add(public)
            logger.warning("refused a frontend: its key %s is not in %s", public.hex(), self._keys.authorized)


def worker_options(keys: WorkerKeys) -> dict[int, int | bytes]:
    """The socket's options. Without a `Doorkeeper` nobody gets in: libzmq would let everybody in by default."""
    return {
        zmq.CURVE_SERVER: 1,
        zmq.CURVE_SECRETKEY: keys.secret,
        zmq.ZAP_DOMAIN: _DOMAIN.encode(),
        zmq.ZAP_ENFORCE_DOMAIN: 1,
    }


def frontend_options(keys: FrontendKeys) -> dict[int, int | bytes]:
    """The socket's options."""
    return {
        zmq.CURVE_SERVERKEY: keys.worker,
        zmq.CURVE_PUBLICKEY: public_of(keys.secret),
        zmq.CURVE_SECRETKEY: keys.secret,
    }
