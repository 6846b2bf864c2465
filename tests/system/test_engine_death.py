"""The real engine is killed or stopped in the middle of streams, and every answer is what it would have been.

The same requests are answered twice: undisturbed, and with a fault while most of them run. A client keeps its one
connection; what it reads must be the undisturbed answer, token for token. An engine that is only busy is left alone.
"""

import asyncio
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil
import pytest

from benchmarks.deployment import START_DEADLINE_S, Deployment, Process, ready
from tests.pace import UNHURRIED
from tests.system.answers import ATTEMPTS_MAX, REQUESTS, RUNNING_MIN, answers
from tests.system.workers import taken_over

pytestmark = pytest.mark.engine

HANG_AFTER_S = 12.0
"""Far longer than the longest step: a prefill of the whole context, which takes a second or two on two cores."""
SEEN = "hangs: it"
"""In what the worker's log says of a hang."""

BIG_SCHEMA = {
    "type": "object",
    "properties": {
        f"field_{number}": {"enum": [f"value {number} {choice}" for choice in range(100)]} for number in range(250)
    },
    "required": [f"field_{number}" for number in range(250)],
    "additionalProperties": False,
}
"""Its grammar takes seconds to compile."""
BUSY: dict[str, dict[str, Any]] = {
    "a prompt as long as the context": {"input": "a " * 3600},
    "a big schema": {
        "input": "Give me values.",
        "text": {"format": {"type": "json_schema", "name": "values", "schema": BIG_SCHEMA, "strict": True}},
    },
}


class Serving(NamedTuple):
    """One frontend and one worker with the demo model."""

    deployment: Deployment
    worker: Process
    url: str


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    limits = {
        **UNHURRIED,
        "engine_hang_after_s": str(HANG_AFTER_S),
        "actor_hang_after_s": str(HANG_AFTER_S),
        "restart_max": "20",
        "worker_wait_s": str(START_DEADLINE_S),
    }
    with tempfile.TemporaryDirectory(prefix="holdfast-") as directory:
        temporary = Path(directory) / "tmp"
        temporary.mkdir()
        with Deployment(Path(directory), **limits) as deployment:
            deployment.environment["TMPDIR"] = str(temporary)
            worker = deployment.worker()
            _, url = deployment.frontend()
            ready(url, deployment)
            assert len(list(temporary.glob("holdfast-*/*"))) > 1  # the engine's sockets
            yield Serving(deployment, worker, url)
        assert list(temporary.glob("holdfast-*")) == []


@pytest.fixture(scope="module")
def undisturbed(serving: Serving) -> dict[str, Any]:
    return asyncio.run(answers(serving.url))[0]


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "stands still"])
@pytest.mark.parametrize("name", ["EngineCore", "engine_worker.actor_process"])
async def test_neither_a_death_nor_a_hang_changes_an_answer(
    serving: Serving, undisturbed: dict[str, Any], name: str, fault: signal.Signals
) -> None:
    log = serving.worker.output
    struck: list[psutil.Process] = []

    def strike() -> None:
        [victim, *_] = serving.worker.descendants(name)
        victim.send_signal(fault)
        struck.append(victim)

    for _ in range(ATTEMPTS_MAX):
        interrupted, hangs = taken_over(serving.worker), log.read_text().count(SEEN)
        begun = time.monotonic()
        disturbed, _ = await answers(serving.url, strike)
        for request in REQUESTS:
            assert disturbed[request] == undisturbed[request], request
        interrupted = taken_over(serving.worker) - interrupted
        if interrupted >= RUNNING_MIN:  # else the fault came when the others had been made, if not read
            break
    else:
        raise AssertionError(f"in {ATTEMPTS_MAX} attempts, too many answers had been made before the fault")
    print(f"{interrupted} answers interrupted, all whole after {time.monotonic() - begun:.1f} s")  # noqa: T201 - the figures
    assert fault == signal.SIGKILL or log.read_text().count(SEEN) > hangs
    assert struck[-1] not in serving.worker.descendants(name)


@pytest.mark.parametrize("request_", BUSY.values(), ids=BUSY)
async def test_an_engine_that_is_only_busy_is_left_alone(serving: Serving, request_: dict[str, Any]) -> None:
    before = serving.worker.descendants("")
    body = {"model": "holdfast-demo", "temperature": 0, "max_output_tokens": 16, **request_}
    begun = time.monotonic()
    async with aiohttp.ClientSession() as client, client.post(serving.url + "/v1/responses", json=body) as reply:
        answer = await reply.json()
    assert reply.status == 200, answer
    assert answer["status"] in {"completed", "incomplete"}
    assert serving.worker.descendants("") == before
    print(f"busy for {time.monotonic() - begun:.1f} s, and left alone")  # noqa: T201 - the figure asked for
