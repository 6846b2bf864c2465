"""Two workers with the real engine: one is killed whole in the middle of streams, and the other one's engine goes on.

It must say, token for token, what the dead engine would have said.
"""

import asyncio
import tempfile
from functools import partial
from pathlib import Path

import pytest

from benchmarks.deployment import START_DEADLINE_S, Deployment, ready, wait_until
from tests.pace import UNHURRIED, slowness
from tests.system.answers import REQUESTS, answers
from tests.system.workers import is_in_service, kill_everything, taken_over

pytestmark = pytest.mark.engine

BEGUN = 4
"""Of the requests, how many have begun at the death: some in each engine, and two engines are soon done with all."""
NEXT_TOKEN_S = 30.0
"""Bound on the wait for the next token, generous for a machine under load; the figure is printed."""


def test_a_worker_that_is_killed_whole_changes_no_answer_where_there_is_another() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="holdfast-") as directory,
        Deployment(Path(directory), **UNHURRIED) as deployment,
    ):
        _, url = deployment.frontend()
        doomed = deployment.worker()
        ready(url, deployment)  # One after the other: both at once would load the machine for longer.
        heir = deployment.worker()
        wait_until(partial(is_in_service, heir, 1), START_DEADLINE_S, "the frontend knows the second worker")
        undisturbed, _ = asyncio.run(answers(url))
        disturbed, waited_s = asyncio.run(answers(url, partial(kill_everything, [doomed]), BEGUN))
        moved = taken_over(heir)
    for name in REQUESTS:
        assert disturbed[name] == undisturbed[name], name
    assert moved > 0
    assert waited_s < NEXT_TOKEN_S * slowness()
    print(f"{moved} answers went on in another engine; the next token within {waited_s:.2f} s of the death")  # noqa: T201
