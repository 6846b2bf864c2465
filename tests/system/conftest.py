"""What holds for the tests of real processes, which share a machine of any size with all that they start and kill.

Where `CI` is set, one that fails is run once more, lest a pause of the machine undo a day's work. Both outcomes are
told: a test that passed only then, or what it tests, is to be mended.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.sdk import close_clients

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("CI"):
        for item in items:
            if item.path.is_relative_to(_HERE):
                item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    yield
    close_clients()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what failed at first, in full."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"failed, and was run again: {report.nodeid}", red=True)
        terminalreporter.line(report.longreprtext)
