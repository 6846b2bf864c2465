"""Reads the socket on which vLLM's outputs arrive with the event loop's own reader.

vLLM reads it through pyzmq's asyncio sockets, which make some forty Python calls for each message: with one stream,
whose every step finds cold caches, a quarter of what this process does. What is not taken at once goes to vLLM's own
task, which reads as ever.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import zmq
import zmq.asyncio

_NOBLOCK: Final = int(zmq.NOBLOCK)
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
"""As plain numbers, for arithmetic with an enumeration takes as long as a message."""


class OutputSocket:
    """Takes the place of `socket.recv_multipart`; to be made on the event loop, before anything has been received.

    A message of one frame that comes while vLLM's task waits for it is first shown to `take`, which returns whether it
    was taken. What `take` raises ends that task, as what the task itself raises would.
    """

    def __init__(self, socket: zmq.asyncio.Socket, take: Callable[[bytes], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket: zmq.Socket[bytes] = zmq.Socket.shadow(socket.underlying)
        self._take = take
        self._option = cast("Callable[[int], int]", self._socket.getsockopt)
        self._reader: asyncio.Future[Any] | None = None
        self._copy = True
        self._fd: int = self._socket.FD
        self._loop.add_reader(self._fd, self._on_readable)
        self._replaced = socket
        socket.recv_multipart = self._recv_multipart  # type: ignore[assignment, method-assign]

    def close(self) -> None:
        """Read no more, and leave the socket as it was; to be called before it is closed. Calling it twice is fine."""
        self._loop.remove_reader(self._fd)
        vars(self._replaced).pop("recv_multipart", None)

    def _recv_multipart(self, flags: int = 0, copy: bool = True) -> "asyncio.Future[Any]":
        """See `zmq.asyncio.Socket.recv_multipart`; one caller at a time."""
        future = self._loop.create_future()
        if self._has_message():
            future.set_result(_copied(self._receive(flags | _NOBLOCK), copy))
        else:
            self._reader, self._copy = future, copy
        return future

    def _on_readable(self) -> None:
        """Something happened at the socket. Its file descriptor stays readable until that is asked for, or received."""
        if self._reader is None or self._reader.done():
            self._has_message()
            return
        try:
            frames = self._receive(_NOBLOCK)
        except zmq.Again:
            return  # it was something else
        try:
            taken = len(frames) == 1 and self._take(frames[0].bytes)
        except Exception as error:  # noqa: BLE001 - it is for vLLM's task to end with it
            self._reader.set_exception(error)
            return
        if not taken:
            self._reader.set_result(_copied(frames, self._copy))
        elif self._has_message():
            self._loop.call_soon(self._on_readable)

    def _has_message(self) -> bool:
        return bool(self._option(_EVENTS) & _POLLIN)

    def _receive(self, flags: int) -> list[zmq.Frame]:
        """A message; a frame knows whether more follow, and need not ask the socket."""
        frames = [self._socket.recv(flags, copy=False)]
        while frames[-1].more:
            frames.append(self._socket.recv(flags, copy=False))
        return frames


def _copied(frames: list[zmq.Frame], copy: bool) -> list[Any]:
    """What `recv_multipart` returns."""
    return [frame.bytes for frame in frames] if copy else frames
