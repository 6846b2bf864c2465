"""TCP endpoints of workers, as settings write them and as ZeroMQ takes them; what a name resolves to is not known here.

Within one host a worker needs none: its socket is in the run directory (`protocol.run_dir`).
"""

import re
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

SCHEME = "tcp://"


class HostPort(NamedTuple):
    """A host, by its name or its address, and a TCP port."""

    host: str
    port: int


def parse_host_port(text: str) -> HostPort:
    """`gpu1.example:5600`, `10.0.0.7:5600` or `[fd00::7]:5600`, with or without `tcp://`. Raises `ValueError`."""
    try:
        found = urlsplit(f"//{text.removeprefix(SCHEME)}")
        host, port = found.hostname, found.port
    except ValueError:
        host = port = None
    if not host or not port or found.username is not None or found.path or found.query or found.fragment:
        raise ValueError(f"'{text}' is not HOST:PORT")
    return HostPort(host, port)


def parse_workers(text: str) -> tuple[HostPort, ...]:
    """Any number of them, separated by spaces or commas. Raises `ValueError`, which names the bad one."""
    return tuple(parse_host_port(part) for part in re.split(r"[\s,]+", text) if part)


def listening_endpoint(listen: str, slot: int) -> str:
    """Where the worker in slot number `slot` of a host binds; the slots take successive ports. Raises `ValueError`."""
    host, port = parse_host_port(listen)
    if host != "*":
        try:
            ip_address(host)
        except ValueError:
            raise ValueError(f"'{host}' is not an address of this host, such as 0.0.0.0") from None
    if port + slot > 65535:
        raise ValueError(f"port {port} leaves none for the worker in slot {slot}")
    return tcp_endpoint(host, port + slot)


def tcp_endpoint(address: str, port: int) -> str:
    """The `tcp://` endpoint of an IP address (or `*`) and a port."""
    is_v6 = address != "*" and isinstance(ip_address(address), IPv6Address)
    return f"{SCHEME}[{address}]:{port}" if is_v6 else f"{SCHEME}{address}:{port}"
