"""What one frontend at a time does for the store: what is old goes, deleted bytes go, and background responses that
nobody runs any more are run again or ended.

A lease says who; whoever dies with it is followed by another within a few intervals.
"""

import asyncio
import logging
import time
from typing import Final

from frontend.api.errors import ApiError
from frontend.api.request import parse_wire
from frontend.config import Settings
from frontend.delivering import Webhooks
from frontend.draft import Draft
from frontend.finished import to_keep
from frontend.links import Links
from frontend.projection import Projection
from frontend.store.errors import StoreUnavailable
from frontend.store.responses import Unfinished
from frontend.store.store import Store
from frontend.tenants.limits import estimate
from frontend.wish import Wish
from protocol.codec import decode_record, encode_record
from protocol.records import Closed, ErrorDetail, Opened

logger = logging.getLogger(__name__)

_LEASE: Final = "sweeping"
_LEASE_INTERVALS: Final = 3
_UNFINISHED_BATCH: Final = 100
_LOST: Final = ErrorDetail(
    "server_error", "engine_lost", "The engine worker is gone, and this response with it; part of it was seen."
)


class Sweeping:
    """The sweeping of one process, which may be the one that does it."""

    def __init__(self, store: Store, webhooks: Webhooks, links: Links, settings: Settings) -> None:
        self._store = store
        self._webhooks = webhooks
        self._links = links
        self._settings = settings
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep every `sweep_interval_s`, where it is this process's turn."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Sweep no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        interval_s = self._settings.sweep_interval_s
        while True:
            await asyncio.sleep(interval_s)
            try:
                now = time.time()
                if await self._store.leases.acquire(
                    _LEASE, self._links.frontend_id, now, _LEASE_INTERVALS * interval_s
                ):
                    await self._sweep(now)
            except StoreUnavailable as error:
                logger.warning("sweeping: the store does not answer: %s", error)
            except Exception:
                logger.exception("sweeping failed; it is tried again")

    async def _sweep(self, now: float) -> None:
        more = True
        while more:
            more = (await self._store.retention.sweep(now)).more
        await self._store.retention.erase()
        await self._background(now)

    async def _background(self, now: float) -> None:
        """Look after each background response that should long be known to a worker, and is not."""
        created_before, after = int(now - self._settings.background_lost_after_s), ""
        while batch := await self._store.responses.unfinished(created_before, _UNFINISHED_BATCH, after):
            for row in batch:
                if await self._is_nowhere(row):
                    await self._take_up(row)
            after = batch[-1].response_id

    async def _is_nowhere(self, row: Unfinished) -> bool:
        """Whether every worker says that it does not know it."""
        try:
            reading = self._links.find(row.response_id, Wish(to_the_end=False, tenant=row.tenant))
        except ApiError:
            return False
        try:
            await reading.begin()
        except ApiError as error:
            return error.status == 404
        finally:
            self._links.leave(reading)
        return False

    async def _take_up(self, row: Unfinished) -> None:
        """Run it again if nobody has seen anything of it, else end it."""
        opened = decode_record(row.opened)
        assert isinstance(opened, Opened)
        if row.status != "queued":
            await self._end(row, opened)
            return
        logger.info("background response %s: no worker knows it; running it", row.response_id)
        await self._store.responses.run_anew(row.response_id)
        draft = Draft(
            response_id=opened.response_id,
            model=parse_wire(opened.request).model,
            request=opened.request,
            dialect=opened.dialect,
            obfuscate=opened.obfuscate,
            tenant=opened.tenant,
            key=opened.key,
            background=True,
            history_items=opened.history_items,
            asked=opened.asked,
            prompt_tokens=estimate(opened.request, None),
            accepted=True,
        )
        try:
            reading = self._links.create(draft, Wish(tenant=opened.tenant))
        except ApiError:
            return
        try:
            await reading.begin()
        except ApiError as error:
            if error.status < 500:  # it is refused, and would be again
                await self._end(row, opened, ErrorDetail(error.type, error.code, error.message, error.param))
        finally:
            self._links.leave(reading)

    async def _end(self, row: Unfinished, opened: Opened, error: ErrorDetail = _LOST) -> None:
        closed = Closed("failed", int(time.time()), error)
        projection = Projection()
        for record in (opened, closed):
            projection.apply(record)
        logger.warning("background response %s: ended as failed: %s", row.response_id, error.message)
        records = (encode_record(opened), encode_record(closed))
        await self._webhooks.finish(to_keep(records, closed, row.epoch, projection.response()))
