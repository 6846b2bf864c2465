"""Images by URL: fetched by vLLM's media connector as it is loaded for a request, from allowed addresses only."""

import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engine_worker.engines.vllm.defaults import MEDIA_CONNECTOR, default_environment
from protocol.addresses import parse_networks

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

Connector = Callable[[str], Any]


@pytest.fixture
async def connector() -> AsyncIterator[Connector]:
    """Makes vLLM's media connector, as the engine would with this `--outgoing-allow`."""
    from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY  # imports vLLM, which takes seconds

    from engine_worker.engines.vllm.images import guard_images

    made = []

    def make(allowed: str) -> Any:
        guard_images(parse_networks(allowed))
        made.append(MEDIA_CONNECTOR_REGISTRY.load(MEDIA_CONNECTOR, allowed_media_domains=None))
        return made[-1]

    yield make
    for each in made:
        await (await each.connection.get_async_client()).close()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A red pixel on 127.0.0.1; `/elsewhere` redirects to 127.0.0.2, `/missing` is not there."""
    from PIL import Image

    pixel = io.BytesIO()
    Image.new("RGB", (1, 1), "red").save(pixel, "PNG")

    async def image(_request: web.Request) -> web.Response:
        return web.Response(body=pixel.getvalue(), content_type="image/png")

    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPFound(f"http://127.0.0.2:{request.url.port}/")

    app = web.Application()
    app.router.add_get("/", image)
    app.router.add_get("/elsewhere", elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{site.port}/"
    await runner.cleanup()


def test_it_is_the_connector_that_vllm_loads() -> None:
    assert default_environment([], cpu=True)["VLLM_MEDIA_CONNECTOR"] == MEDIA_CONNECTOR


async def test_an_allowed_address_is_asked(connector: Connector, url: str) -> None:
    image = await connector("127.0.0.1/32").fetch_image_async(url)
    assert getattr(image, "media", image).size == (1, 1)


@pytest.mark.parametrize(("allowed", "path"), [("", ""), ("127.0.0.1/32", "elsewhere")])
async def test_another_is_the_clients_mistake_and_not_tried_again(
    connector: Connector, url: str, allowed: str, path: str
) -> None:
    from engine_worker.engines.vllm.rejection import rejection

    with pytest.raises(Exception, match="may not connect to") as refused:
        await connector(allowed).fetch_image_async(url + path)
    error = rejection(refused.value, lambda: None).error
    assert (error.type, error.param) == ("invalid_request_error", "input")
    assert "127.0.0" not in error.message


async def test_nothing_goes_around_the_guard(connector: Connector, url: str) -> None:
    with pytest.raises(Exception, match="Failed to fetch media"):
        connector("127.0.0.1/32").fetch_image(url)


async def test_an_image_that_is_not_there_is_the_clients_mistake(connector: Connector, url: str) -> None:
    with pytest.raises(Exception, match="HTTP 404") as missing:
        await connector("127.0.0.1/32").fetch_image_async(url + "missing")
    assert not isinstance(missing.value, aiohttp.ClientError)
