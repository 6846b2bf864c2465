"""Images are fetched by vLLM through the guard of outgoing requests: its media connector with our session inside."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import aiohttp
from vllm.connections import HTTPConnection
from vllm.exceptions import VLLMUnprocessableEntityError
from vllm.multimodal.media import MEDIA_CONNECTOR_REGISTRY, MediaConnector

from engine_worker.engines.vllm.defaults import MEDIA_CONNECTOR
from protocol.addresses import Network
from protocol.outgoing import AddressRefused, outgoing_session

logger = logging.getLogger(__name__)

_TIMEOUT_S: Final = 60.0
"""Where vLLM names no timeout of its own (VLLM_IMAGE_FETCH_TIMEOUT)."""
_CONNECTIONS_MAX: Final = 64
"""Images fetched at once; the others wait, which counts as part of their time."""


def guard_images(allowed: Sequence[Network]) -> None:
    """Have images fetched from public addresses and `allowed` networks only, wherever VLLM_MEDIA_CONNECTOR is ours."""
    connector: Any = partial(MediaConnector, connection=GuardedConnection(allowed))
    MEDIA_CONNECTOR_REGISTRY.register(MEDIA_CONNECTOR)(connector)


class GuardedConnection(HTTPConnection):
    """vLLM's HTTP client over our session, which lasts as long as the process. vLLM bounds size and time."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        super().__init__()
        self._allowed = allowed
        self._session: aiohttp.ClientSession | None = None

    async def get_async_client(self) -> aiohttp.ClientSession:
        """The session; made inside the event loop that needs it first."""
        if self._session is None:
            self._session = outgoing_session(self._allowed, timeout_s=_TIMEOUT_S, connections_max=_CONNECTIONS_MAX)
        return self._session

    def get_sync_client(self) -> Any:
        """No request goes around the guard."""
        raise AddressRefused("images are fetched asynchronously, or not at all")

    async def async_get_bytes(self, url: str, **options: Any) -> bytes:
        """What the URL answers. Raises what vLLM's own raises, and takes a refused address for the client's mistake.

        What a name resolves to is the log's to know, not the client's.
        """
        try:
            content: bytes = await super().async_get_bytes(url, **options)
        except AddressRefused as error:
            logger.warning("an image is not fetched: %s", error)
            message = "An image's URL has an address that this server may not connect to."
            raise VLLMUnprocessableEntityError(message, parameter="image_url") from error
        return content
