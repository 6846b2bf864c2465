"""TCP endpoints as settings write them."""

import pytest

from protocol.endpoints import listening_endpoint, parse_host_port, parse_workers, tcp_endpoint


def test_workers_are_named_by_host_and_port() -> None:
    assert parse_workers("gpu1.example:5600 tcp://10.0.0.7:5601,[fd00::7]:5602\n") == (
        ("gpu1.example", 5600),
        ("10.0.0.7", 5601),
        ("fd00::7", 5602),
    )
    assert parse_workers("") == ()


@pytest.mark.parametrize(
    "text",
    ["gpu1", "gpu1:", ":5600", "gpu1:0", "gpu1:70000", "gpu1:x", "ipc://x", "me@gpu1:1", "gpu1:5600/x", "[::1:5"],
)
def test_what_is_no_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not HOST:PORT"):
        parse_host_port(text)


def test_the_workers_of_a_host_take_successive_ports() -> None:
    assert listening_endpoint("tcp://0.0.0.0:5600", slot=0) == "tcp://0.0.0.0:5600"
    assert listening_endpoint("[::]:5600", slot=2) == "tcp://[::]:5602"
    assert listening_endpoint("*:5600", slot=1) == "tcp://*:5601"
    with pytest.raises(ValueError, match="leaves none for the worker in slot 36"):
        listening_endpoint("0.0.0.0:65500", slot=36)
    with pytest.raises(ValueError, match=r"'gpu1\.example' is not an address of this host"):
        listening_endpoint("gpu1.example:5600", slot=0)


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert tcp_endpoint("fd00::7", 1) == "tcp://[fd00::7]:1"
