"""What holds for the tests of real processes."""

from collections.abc import Iterator

import pytest

from tests.system.sdk import close_clients


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    yield
    close_clients()
