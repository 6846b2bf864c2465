"""Workers of two models in one run directory: each request finds its model, and the other's troubles aren't its own."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.deployment import Deployment, Process, ready, wait_until
from tests.pace import DEADLINE_S, PATIENT
from tests.system.workers import is_in_service, kill_everything, taken_over

SLOW = {"script": json.dumps({"first_s": 600})}


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="holdfast-") as path, Deployment(Path(path), **PATIENT) as deployment:
        yield deployment


def start(deployment: Deployment) -> tuple[dict[str, Process], str]:
    """One frontend, and a worker for each model, with room for one request in its queue."""
    _, url = deployment.frontend()
    workers = {
        model: deployment.worker("--engine", "scripted", "--model", model, queue_requests_max="1")
        for model in ("alpha", "beta")
    }
    ready(url, deployment)
    for each in workers.values():
        wait_until(partial(is_in_service, each, 1), 4 * DEADLINE_S, "the frontend knows both workers")
    return workers, url


async def test_two_models_share_a_deployment(deployment: Deployment) -> None:
    workers, url = await asyncio.to_thread(start, deployment)
    async with asyncio.timeout(4 * DEADLINE_S), aiohttp.ClientSession(url) as client:

        async def create(model: str, **fields: Any) -> tuple[int, dict[str, Any]]:
            async with client.post("/v1/responses", json={"model": model, "input": "hi", **fields}) as answer:
                return answer.status, await answer.json()

        while True:  # until the frontend has heard from both that they are ready
            async with client.get("/v1/models") as answer:
                listed = [model["id"] for model in (await answer.json())["data"]]
            if {"alpha", "beta"} <= {*listed}:
                break
            await asyncio.sleep(0.05)
        assert sorted(listed) == ["alpha", "beta", "gpt-4o-mini"]
        for model in ("alpha", "beta"):
            status, response = await create(model)
            assert (status, response["model"], response["status"]) == (200, model, "completed")
        status, refused = await create("gamma")
        assert (status, refused["error"]["code"]) == (404, "model_not_found")

        async with client.post(
            "/v1/responses", json={"model": "alpha", "input": "hi", "stream": True, "metadata": SLOW}
        ) as waiting:
            assert waiting.status == 200
            status, refused = await create("alpha")
            assert (status, refused["error"]["code"]) == (429, "queue_full")
            assert (await create("beta"))[0] == 200
            await asyncio.to_thread(kill_everything, [workers["alpha"]])
            assert (await create("beta"))[0] == 200
        assert taken_over(workers["beta"]) == 0
