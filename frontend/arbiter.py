"""The processes of one `python -m frontend`: gunicorn's arbiter and, below it, the processes that serve.

The arbiter imports everything and then only forks, so a serving process that dies is replaced within a moment. It holds
the listening socket: while no process serves, connections wait in its backlog instead of being refused. The socket has
SO_REUSEPORT, so that several arbiters share one port without a balancer.

    SIGTERM, SIGINT   stop accepting, drain for `drain_s`, exit
    SIGHUP            start new serving processes, then drain the old ones; nobody is refused
    a serving process that dies is replaced; one that stands still for `hang_after_s` is killed and replaced
"""

import asyncio
import gc
import logging
import math
import socket
from types import FrameType
from typing import Any, Final

from aiohttp import web
from aiohttp.log import access_logger
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.app.base import BaseApplication

from frontend.app import build_app
from frontend.config import Settings
from protocol.open_files import allow_open_files
from protocol.reports import ModelCard

logger = logging.getLogger(__name__)

_BACKLOG: Final = 2048
"""Connections that wait while no process accepts; more are refused by the kernel."""
_OTHER_FILES: Final = 512
"""Open files of a serving process besides its streams: libraries, channels, connections that are idle."""
_CLEANUP_S: Final = 1.0
"""What closing connections and channels may take after the drain."""
_LAST_REQUESTS_S: Final = 0.5
"""How long a process that stops accepting hears those who had connected by then: the request follows the connection."""
_ALIVE_INTERVAL_S: Final = 1.0
"""How often a serving process shows the arbiter that its event loop turns."""


def serve(settings: Settings) -> None:
    """Serve until told to stop; ends by `SystemExit`. Raises `OSError` where it can't listen."""
    if problem := allow_streams(settings.streams_max):
        logger.warning("%s", problem)
    listener = _listen(settings.host, settings.port)
    url = _url(settings.host, listener.getsockname()[1])
    logger.info("listening at %s", url)
    arbiter = _Arbiter(settings, listener, url)
    gc.collect()
    gc.freeze()  # What the processes share stays: no collection goes through it, or makes copies of its pages.
    arbiter.run()


def allow_streams(streams_max: int) -> str | None:
    """Let a process have as many connections as it may have streams; why not, where the system's hard limit forbids."""
    wanted = streams_max + _OTHER_FILES
    allowed = allow_open_files(wanted)
    if allowed >= wanted:
        return None
    return (
        f"a process may have {allowed} open files here (`ulimit -Hn`), and --streams-max {streams_max} takes {wanted}: "
        f"connections beyond some {max(0, allowed - _OTHER_FILES)} a process are not accepted"
    )


def _listen(host: str, port: int) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
        0
    ]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(address)
    listener.listen(_BACKLOG)
    return listener


def _url(host: str, port: int) -> str:
    """Where a client on this machine reaches us."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


class _Arbiter(BaseApplication):
    """gunicorn's configuration, and what each serving process runs."""

    def __init__(self, settings: Settings, listener: socket.socket, url: str) -> None:
        self._settings = settings
        self._url = url
        self._bind = f"fd://{listener.detach()}"  # gunicorn's from here on
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": self._bind,
            "workers": self._settings.processes,
            "worker_class": _ServingProcess,
            "timeout": self._settings.hang_after_s,
            "graceful_timeout": math.ceil(_LAST_REQUESTS_S + self._settings.drain_s + 2 * _CLEANUP_S),
            "loglevel": "warning",
            "proc_name": "holdfast frontend",
            "control_socket_disable": True,
        }
        for name, value in options.items():
            if name in self.cfg.settings:  # the control socket came with gunicorn 25
                self.cfg.set(name, value)

    def load(self) -> Any:
        return self._make_runner

    async def _make_runner(self) -> web.AppRunner:
        return Runner(
            build_app(self._settings, self._announce),
            last_requests_s=_LAST_REQUESTS_S,
            handler_cancellation=True,  # a client that leaves is noticed at once
            access_log=access_logger if self._settings.access_log else None,
            shutdown_timeout=_CLEANUP_S,
        )

    def _announce(self, models: list[ModelCard]) -> None:
        """Tell a person where to send a request, and one to try."""
        names = ", ".join(card.name for card in models)
        name = next((name for card in models for name in (*card.aliases, card.name)), "")
        body = f'{{"model": "{name}", "input": "Test streaming", "stream": true}}'
        curl = f"curl -X POST {self._url}/v1/responses -H \"Content-Type: application/json\" -d '{body}'"
        logger.info("ready: %s at %s\n%s", names, self._url, curl)


class Runner(web.AppRunner):
    """aiohttp's runner, which ends by first waiting `last_requests_s` for the requests of those who had just connected.

    aiohttp alone closes a connection on which nothing has come yet, and its client can't tell that from being refused.
    """

    def __init__(self, app: web.Application, *, last_requests_s: float, **options: Any) -> None:
        super().__init__(app, **options)
        self._last_requests_s = last_requests_s

    async def cleanup(self) -> None:
        """Stop accepting, hear the last requests, and then end as aiohttp does."""
        for site in list(self.sites):
            await site.stop()
        await asyncio.sleep(self._last_requests_s)
        await super().cleanup()


class _ServingProcess(GunicornUVLoopWebWorker):
    """aiohttp's worker, which drains at once and shows that it is alive while it does."""

    def run(self) -> None:
        self._show_alive()
        super().run()

    def _show_alive(self) -> None:
        self.notify()
        self.loop.call_later(_ALIVE_INTERVAL_S, self._show_alive)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._notify_waiter_done()  # aiohttp's worker would look up to a second later
