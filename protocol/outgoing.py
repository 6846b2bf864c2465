"""HTTP requests to where somebody else said: one session for all of them, which connects to allowed addresses only.

The check stands where a socket is made for an address, the last step before connecting. So it sees what is connected
to: an address from the URL, from DNS (also where a name resolves to another one the next time), or from a redirect.
"""

import errno
import socket
from collections.abc import Sequence

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from aiohttp.connector import AddrInfoType

from protocol.addresses import Network, refusal


class AddressRefused(ValueError):
    """The URL's host has no address that may be connected to; the message names one and the setting that allows it."""


def outgoing_session(
    allowed: Sequence[Network], *, timeout_s: float, connections_max: int, resolver: AbstractResolver | None = None
) -> aiohttp.ClientSession:
    """A session that connects to public addresses and to those in `allowed`. Make it inside the event loop.

    A request in it raises `AddressRefused` besides what aiohttp raises, and ends after `timeout_s` unless it brings its
    own timeout. Proxies of the environment are not used: a proxy resolves names itself, out of sight. No cookies are
    kept. Responses are the caller's to bound: read `response.content`, not `response.read()`.
    """

    def make_socket(target: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = target
        if reason := refusal(str(address[0]), allowed):
            raise PermissionError(errno.EACCES, reason)
        return socket.socket(family, kind, protocol)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections_max, resolver=resolver, socket_factory=make_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(_name_refusals,),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        trust_env=False,
    )


async def _name_refusals(request: ClientRequest, send: aiohttp.ClientHandlerType) -> ClientResponse:
    """Give a refused address an exception of its own, which nobody takes for a connection worth trying again."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, PermissionError):
            raise AddressRefused(f"{request.url.host}: {error.os_error.strerror}") from error
        raise
