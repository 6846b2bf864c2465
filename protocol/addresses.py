"""Which addresses a request may be sent to when somebody else chose its URL: public ones, and those of given networks.

Whoever can name a URL (of a webhook, of an image) could otherwise reach through this server what only it can reach: its
loopback interface, its neighbours, the metadata service of its cloud. What counts is the address that is connected to,
however it was written or found: see `protocol.outgoing`.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All that IANA has given out of IPv6's unicast space; every other prefix is local, multicast or reserved."""
_NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052: its last 32 bits are the IPv4 address that a translator sends the packets on to."""
_SPECIAL: Final = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "3fff::/20")))
"""IANA's special-purpose registries, where `ipaddress` calls an entry global or does so in some versions of Python."""


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks in CIDR notation, separated by commas: `10.0.0.0/8, fd00::/8`. Raises `ValueError`, which names the bad
    one; a network with host bits set (`10.0.0.1/8`) is one."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def destination(address: Address) -> Address:
    """Where packets to `address` arrive: the IPv4 address inside an IPv6 one that maps, translates or tunnels to it."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address


def is_public(address: Address) -> bool:
    """Whether packets to `address` go to one host somewhere on the internet."""
    reached = destination(address)
    if not reached.is_global or reached.is_multicast or any(reached in network for network in _SPECIAL):
        return False
    return isinstance(reached, IPv4Address) or reached in _GLOBAL_UNICAST


def refusal(host: str, allowed: Sequence[Network]) -> str | None:
    """Why nothing may be sent to the address `host`, as IP text; None where it may. Raises `ValueError` for a name."""
    address = ip_address(host)
    reached = destination(address)
    if is_public(address) or any(reached in network for network in allowed):
        return None
    inside = "" if reached == address else f" (that is {reached})"
    return f"{address}{inside} is not a public address, and no network in `outgoing_allow` has it"
