"""Reads the socket on which vLLM's outputs arrive with the event loop's own reader.

vLLM reads it through pyzmq's asyncio sockets, which make some forty Python calls for each message: with one stream,
whose every step finds cold caches, a quarter of what this process does. It is vLLM's own task that reads, as ever.
"""

import asyncio
from typing import Any, cast

import zmq
import zmq.asyncio


class OutputSocket:
    """Takes the place of `socket.recv_multipart`; to be made on the event loop, before anything has been received."""

    def __init__(self, socket: zmq.asyncio.Socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket: zmq.Socket[bytes] = zmq.Socket.shadow(socket.underlying)
        self._reader: asyncio.Future[Any] | None = None
        self._copy = True
        self._fd: int = self._socket.FD
        self._loop.add_reader(self._fd, self._on_readable)
        socket.recv_multipart = self._recv_multipart  # type: ignore[method-assign]

    def close(self) -> None:
        """Read no more; to be called before the socket is closed. Calling it twice is fine."""
        self._loop.remove_reader(self._fd)

    def _recv_multipart(self, flags: int = 0, copy: bool = True, track: bool = False) -> "asyncio.Future[Any]":
        """See `zmq.asyncio.Socket.recv_multipart`; one caller at a time."""
        future = self._loop.create_future()
        if self._has_message():
            future.set_result(self._socket.recv_multipart(flags | zmq.NOBLOCK, copy, track))
        else:
            self._reader, self._copy = future, copy
        return future

    def _on_readable(self) -> None:
        """Something happened at the socket. Its file descriptor stays readable until that is asked for."""
        if self._has_message() and self._reader is not None:
            reader, self._reader = self._reader, None
            if not reader.done():
                reader.set_result(self._socket.recv_multipart(zmq.NOBLOCK, self._copy))

    def _has_message(self) -> bool:
        return bool(cast("int", self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)
