"""Which addresses outgoing requests may reach: every way to write a private one is refused."""

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.addresses import destination, is_public, parse_networks, refusal

PUBLIC = "1.1.1.1 8.8.8.8 93.184.215.14 2606:4700:4700::1111 2001:4860:4860::8888".split()
PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8
    192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 224.0.1.1 239.255.255.255
    240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 100::1 2001::1 2001:db8::1 3fff::1 5f00::1 4000::1 fc00::1 fd00:ec2::254 fe80::1 fe80::1%eth0
    fec0::1 ff02::1 ff0e::1 64:ff9b:1::1
""".split()


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_reached(address: str) -> None:
    assert refusal(address, ()) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_others_may_not(address: str) -> None:
    assert refusal(address, ()) == (
        f"{ip_address(address)} is not a public address, and no network in `outgoing_allow` has it"
    )


def wrapped(address: IPv4Address) -> list[IPv6Address]:
    """The IPv6 addresses from which packets arrive at an IPv4 address: mapped, by NAT64, by 6to4."""
    bits = int(address)
    return [
        IPv6Address((0xFFFF << 32) | bits),
        IPv6Address((0x0064_FF9B << 96) | bits),
        IPv6Address((0x2002 << 112) | (bits << 80) | 1),
    ]


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_like_itself(address: IPv4Address) -> None:
    for outer in wrapped(address):
        assert destination(outer) == address
        assert is_public(outer) == is_public(address)


@given(st.ip_addresses())
def test_an_address_is_refused_unless_public_or_allowed(address: IPv4Address | IPv6Address) -> None:
    assert (refusal(str(address), ()) is None) == is_public(address)
    assert refusal(str(address), parse_networks("0.0.0.0/0, ::/0")) is None


def test_allowed_networks_may_be_reached_however_they_are_written() -> None:
    allowed = parse_networks("10.0.0.0/8,fd00::/8")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1", "fd12::1"):
        assert refusal(address, allowed) is None
    for address in ("192.168.0.1", "::ffff:192.168.0.1", "fc00::1", "127.0.0.1"):
        assert refusal(address, allowed) is not None


def test_a_refusal_names_the_address_inside() -> None:
    assert refusal("::ffff:10.0.0.1", ()) == (
        "::ffff:a00:1 (that is 10.0.0.1) is not a public address, and no network in `outgoing_allow` has it"
    )


def test_networks_are_given_in_cidr_notation() -> None:
    assert parse_networks("") == ()
    assert [str(network) for network in parse_networks(" 10.0.0.0/8, fd00::/8 ,192.168.1.7,")] == [
        "10.0.0.0/8",
        "fd00::/8",
        "192.168.1.7/32",
    ]
    for bad in ("10.0.0.1/8", "everything", "10.0.0.0/33"):
        with pytest.raises(ValueError, match=bad):
            parse_networks(bad)
