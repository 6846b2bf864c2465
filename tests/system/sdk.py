"""The official Python SDK's clients, each of which is closed when its test is over.

Left to a garbage collection, their sockets would be complained of in whichever test that comes.
"""

from typing import Final

import openai

from tests.system.served import Served

_open: Final[list[openai.OpenAI]] = []


def client(served: Served) -> openai.OpenAI:
    """A client that lets nothing pass that does not fit the SDK's types."""
    made = openai.OpenAI(base_url=served.url + "/v1", api_key="unused", max_retries=0, _strict_response_validation=True)
    _open.append(made)
    return made


def close_clients() -> None:
    """Close all that were made."""
    while _open:
        _open.pop().close()
