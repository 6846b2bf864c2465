"""What holds for every test: no settings from the developer's shell, and property tests that don't race the clock.

Real processes share a machine of any size with all that they start and kill, and what one test leaves to a garbage
collection may strike another. So where `CI` is set, a test that fails is run once more, lest a pause of the machine
undo a day's work. Both outcomes are told: a test that passed only then, or what it tests, is to be mended.
"""

import os

import pytest
from hypothesis import HealthCheck, settings

from protocol.settings import PREFIX

# The same examples everywhere, however busy the machine is; others are looked for with `--hypothesis-profile=explore`.
settings.register_profile("explore", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True, database=None)
settings.load_profile("repeatable")

# Before anything is imported or started: a session-scoped process would inherit them too.
for variable in [variable for variable in os.environ if variable.startswith(PREFIX)]:
    del os.environ[variable]

pytest_plugins = ["tests.postgres", "tests.system.served"]  # started once a session, for whoever asks for them


# Alone and in their order run those that load the machine, with a model or with crowds; all others beside them.
HEAVY = ("tests/compliance/", "tests/engine_worker/vllm/", "tests/system/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        is_heavy = item.nodeid.startswith(HEAVY) or item.get_closest_marker("engine")
        item.add_marker(pytest.mark.xdist_group("heavy" if is_heavy else "light"))
        if os.environ.get("CI"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what failed at first, in full."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.section(f"failed, and was run again: {report.nodeid}", red=True)
        terminalreporter.line(report.longreprtext)
