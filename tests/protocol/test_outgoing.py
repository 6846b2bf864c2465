"""The one session for outgoing requests, against a server on loopback that is allowed or not."""

import socket
from collections.abc import AsyncIterator, Sequence

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from protocol.addresses import Network, parse_networks
from protocol.outgoing import AddressRefused, outgoing_session

LOOPBACK = parse_networks("127.0.0.1/32")
TIMEOUT_S = 30.0


class FakeDns(AbstractResolver):
    """Answers each lookup of any name with the next of `answers`, and the last one for good."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        assert family == socket.AF_UNSPEC
        addresses = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [ResolveResult(hostname=host, host=at, port=port, family=kind(at), proto=0, flags=0) for at in addresses]

    async def close(self) -> None:
        pass


def kind(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server on 127.0.0.1: `/` says hello, `/to?url=` redirects."""

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello", headers={"Set-Cookie": "remembered=yes"})

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["url"])

    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/to", redirect)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield site.port
    await runner.cleanup()


async def get(url: str, allowed: Sequence[Network] = (), dns: AbstractResolver | None = None) -> str:
    session = outgoing_session(allowed, timeout_s=TIMEOUT_S, connections_max=2, resolver=dns)
    async with session, session.get(url) as answer:
        return await answer.text()


async def test_allowed_addresses_are_reached(port: int) -> None:
    assert await get(f"http://127.0.0.1:{port}/", LOOPBACK) == "hello"
    assert await get(f"http://some.name:{port}/", LOOPBACK, FakeDns(["127.0.0.1"])) == "hello"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "[64:ff9b::7f00:1]"])
async def test_an_address_in_the_url_is_refused(port: int, host: str) -> None:
    with pytest.raises(AddressRefused, match="is not a public address, and no network in `outgoing_allow` has it"):
        await get(f"http://{host}:{port}/")


async def test_localhost_is_refused_by_the_addresses_it_resolves_to(port: int) -> None:
    with pytest.raises(AddressRefused, match=r"^localhost: .* is not a public address"):
        await get(f"http://localhost:{port}/")


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001", "0"])
async def test_other_spellings_of_loopback_reach_nothing(port: int, host: str) -> None:
    with pytest.raises((AddressRefused, aiohttp.ClientError)):
        await get(f"http://{host}:{port}/")


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["10.0.0.1", "192.168.0.1"], ["::1", "127.0.0.1"], ["169.254.169.254"], ["fe80::1"]]
)
async def test_a_name_is_refused_by_the_addresses_it_resolves_to(port: int, addresses: list[str]) -> None:
    with pytest.raises(AddressRefused) as refused:
        await get(f"http://internal.test:{port}/", dns=FakeDns(addresses))
    assert str(refused.value).startswith("internal.test: ")
    assert any(f"{address} is not a public address" in str(refused.value) for address in addresses)


async def test_a_name_that_resolves_anew_is_judged_anew(port: int) -> None:
    """DNS rebinding: allowed when it is looked up first, elsewhere when it is connected to the next time."""
    dns = FakeDns(["127.0.0.1"], ["127.0.0.2"])
    async with outgoing_session(LOOPBACK, timeout_s=TIMEOUT_S, connections_max=2, resolver=dns) as session:
        async with session.get(f"http://rebinding.test:{port}/", headers={"Connection": "close"}) as answer:
            assert await answer.text() == "hello"
        assert session.connector is not None
        session.connector.clear_dns_cache()  # type: ignore[attr-defined]
        with pytest.raises(AddressRefused, match=r"127\.0\.0\.2"):
            await session.get(f"http://rebinding.test:{port}/")


async def test_of_several_addresses_only_the_allowed_are_connected_to(port: int) -> None:
    assert await get(f"http://mixed.test:{port}/", LOOPBACK, FakeDns(["10.0.0.1", "127.0.0.1"])) == "hello"


async def test_every_hop_of_a_redirect_is_checked(port: int) -> None:
    start = f"http://127.0.0.1:{port}/to?url="
    assert await get(f"{start}http://127.0.0.1:{port}/", LOOPBACK) == "hello"
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.2"):
        await get(f"{start}http://127.0.0.2:{port}/", LOOPBACK)
    with pytest.raises(aiohttp.NonHttpUrlClientError):
        await get(f"{start}file:///etc/passwd", LOOPBACK)


async def test_a_port_where_nobody_listens_is_no_refusal() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(f"http://127.0.0.1:{taken.getsockname()[1]}/", LOOPBACK)


async def test_proxies_of_the_environment_are_not_used(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert await get(f"http://127.0.0.1:{port}/", LOOPBACK) == "hello"


async def test_cookies_are_not_kept(port: int) -> None:
    async with outgoing_session(LOOPBACK, timeout_s=TIMEOUT_S, connections_max=2) as session:
        for _ in range(2):
            async with session.get(f"http://127.0.0.1:{port}/") as answer:
                assert "Cookie" not in answer.request_info.headers
