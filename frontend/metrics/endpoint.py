"""GET /metrics: whichever process is asked answers for all processes of the run directory.

Who may ask: everybody, where the server asks for no keys; else the key named by the setting `metrics_key`, or everybody
where that is `*`. Other keys are tenants', and the figures are the whole server's.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from frontend.answers import LINKS, SETTINGS
from frontend.api.errors import forbidden
from frontend.metrics.counting import Metrics
from frontend.metrics.exposition import WorkerView, exposed
from frontend.metrics.files import SheetFiles
from frontend.tenants.access import METRICS_PATH, key_name

SHEETS: Final = web.AppKey("sheets", SheetFiles)
METRICS: Final = web.AppKey("metrics", Metrics)
_ONE_AT_A_TIME: Final = web.AppKey("one_at_a_time", asyncio.Lock)


async def get_metrics(request: web.Request) -> web.Response:
    """GET /metrics, in Prometheus' text format or, where it is asked for, in OpenMetrics."""
    allowed, shown = request.app[SETTINGS].metrics_key, key_name(request)
    if shown and shown != allowed:
        raise forbidden("This API key may not read the metrics; the setting metrics_key names the one that may.")
    workers = [
        WorkerView(worker.name, None if worker.lost else worker.status) for worker in request.app[LINKS].workers()
    ]
    request.app[METRICS].sheet.settle()
    async with request.app[_ONE_AT_A_TIME]:
        # In a thread, so that neither files nor many series hold up the streams.
        body, content_type = await asyncio.to_thread(
            _collect, request.app[SHEETS], workers, request.headers.get("Accept", "")
        )
    return web.Response(body=body, headers={"Content-Type": content_type})


def add_metrics(app: web.Application, sheets: SheetFiles) -> None:
    """Serve what these sheets say, and count on ours."""
    app[SHEETS], app[METRICS], app[_ONE_AT_A_TIME] = sheets, Metrics(sheets.sheet), asyncio.Lock()
    app.router.add_get(METRICS_PATH, get_metrics)


async def with_metrics(app: web.Application) -> AsyncIterator[None]:
    """Count no more at the application's end."""
    yield
    app[METRICS].sheet.settle()
    app[SHEETS].close()


def _collect(sheets: SheetFiles, workers: list[WorkerView], accept: str) -> tuple[bytes, str]:
    return exposed(sheets.collect(), workers, accept)
