"""Posts what webhooks are to be told: claims what is due, signs it, sends it, and stores what came of it.

Each serving process has one. What is claimed when a process ends is claimed by another once the claim has run out.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from standardwebhooks import Webhook

from frontend.config import Settings
from frontend.metrics.counting import Metrics
from frontend.store.deliveries import Delivery
from frontend.store.errors import StoreUnavailable
from frontend.store.finishing import Finished
from frontend.store.finishing import Outcome as StoreOutcome
from frontend.store.store import Store
from frontend.webhook_endpoints import WebhookEndpoint, webhook_endpoint
from frontend.webhooks import (
    Again,
    Answered,
    Backoff,
    GivenUp,
    Outcome,
    Told,
    Unanswered,
    Verdict,
    deliveries,
    judge,
    room,
)
from protocol.addresses import parse_networks
from protocol.outgoing import AddressRefused, outgoing_session

logger = logging.getLogger(__name__)

_CLAIM_TIMEOUTS: Final = 2.0
"""A claim lasts so many times as long as a request may: there is time left to store what came of it."""

_SERVER: Final = "server"
"""The name of the whole server's endpoint in the store."""

_POSTED: Final = {Told: "delivered", Again: "retried", GivenUp: "given_up"}
"""What the metrics call it."""

EndpointsOf = Callable[[str], Mapping[str, WebhookEndpoint]]
"""The endpoints of a tenant, by name, as they are configured now."""


class Webhooks:
    """The deliveries of one process. Make it, and call all of it, inside its event loop."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        endpoints_of: EndpointsOf,
        resolver: AbstractResolver | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._endpoints_of = endpoints_of
        self._resolver = resolver
        self._metrics = metrics or Metrics()
        self._backoff = Backoff(settings.webhook_backoff_s, settings.webhook_backoff_max_s, settings.webhook_give_up_s)
        self._claim_s = _CLAIM_TIMEOUTS * settings.webhook_timeout_s
        self._busy: Counter[str] = Counter()
        self._woken = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Webhooks {self._busy.total()} requests to {len(self._busy)} endpoints>"

    def start(self) -> None:
        """Deliver from now on."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop; what is under way is told again by another process, once its claim has run out."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def finish(self, finished: Finished) -> StoreOutcome:
        """`Responses.finish`, and with it whom to tell that a background response has ended.

        Raises `StoreUnavailable`; it may be tried again.
        """
        if finished.background:
            endpoints = self._endpoints_of(finished.tenant)
            told = deliveries(finished.response_id, finished.status, finished.closed_at, endpoints)
            finished = msgspec.structs.replace(finished, deliveries=told)
        outcome = await self._store.responses.finish(finished)
        if finished.deliveries:
            self._woken.set()
        return outcome

    async def _run(self) -> None:
        session = outgoing_session(
            parse_networks(self._settings.outgoing_allow),
            timeout_s=self._settings.webhook_timeout_s,
            connections_max=self._settings.webhook_requests_max,
            resolver=self._resolver,
        )
        async with session, asyncio.TaskGroup() as requests:
            while True:
                for delivery in await self._claim():
                    self._busy[delivery.endpoint] += 1
                    requests.create_task(self._deliver(session, delivery))
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.webhook_interval_s):
                        await self._woken.wait()
                self._woken.clear()

    async def _claim(self) -> list[Delivery]:
        limit, full = room(
            self._busy, self._settings.webhook_requests_max, self._settings.webhook_endpoint_requests_max
        )
        if not limit:
            return []
        try:
            claimed = await self._store.deliveries.claim(time.time(), limit, self._claim_s, skip=full)
        except StoreUnavailable as error:
            logger.warning("webhooks: the store does not answer: %s", error)
            return []
        except Exception:
            logger.exception("webhooks: can't look for what is due; it is tried again")
            return []
        if len(claimed) == limit:
            self._woken.set()  # there may be more
        return claimed

    async def _deliver(self, session: aiohttp.ClientSession, delivery: Delivery) -> None:
        try:
            outcome = await self._post(session, delivery)
            await self._settle(delivery, judge(delivery, outcome, time.time(), random.random(), self._backoff))
        except StoreUnavailable as error:
            logger.warning("webhook %s will be told again: %s", delivery.delivery_id, error)
        except Exception:
            logger.exception("webhook %s of %s: unexpected", delivery.delivery_id, delivery.response_id)
        finally:
            self._busy[delivery.endpoint] -= 1
            self._busy += Counter()  # drops those at zero
            self._woken.set()

    async def _post(self, session: aiohttp.ClientSession, delivery: Delivery) -> Outcome:
        endpoint = self._endpoints_of(delivery.tenant).get(delivery.endpoint)
        if endpoint is None:
            return Unanswered("no such endpoint is configured")
        try:
            async with session.post(
                endpoint.url,
                data=delivery.body,
                headers=signed_headers(delivery, endpoint, time.time()),
                allow_redirects=False,
            ) as answer:
                return Answered(answer.status, answer.headers.get("Retry-After", ""))
        except TimeoutError:
            return Unanswered(f"no answer within {self._settings.webhook_timeout_s:g} s")
        except (AddressRefused, aiohttp.ClientConnectorError) as error:
            return Unanswered(str(error))
        except aiohttp.ClientError as error:
            return Unanswered(type(error).__name__)  # its text may have the URL, which may hold secrets

    async def _settle(self, delivery: Delivery, verdict: Verdict) -> None:
        self._metrics.webhook(_POSTED[type(verdict)])
        match verdict:
            case Told():
                await self._store.deliveries.done(delivery.delivery_id)
            case Again(due_at, reason):
                await self._store.deliveries.reschedule(delivery.delivery_id, due_at)
                logger.warning(
                    "webhook %s of %s to endpoint %s: %s; attempt %d, again in %.0f s",
                    *(delivery.delivery_id, delivery.response_id, delivery.endpoint, reason),
                    *(delivery.attempts, due_at - time.time()),
                )
            case GivenUp(reason):
                await self._store.deliveries.give_up(delivery.delivery_id, int(time.time()))
                logger.error(
                    "webhook %s of %s to endpoint %s is given up after attempt %d: %s",
                    *(delivery.delivery_id, delivery.response_id, delivery.endpoint, delivery.attempts, reason),
                )


def configured(settings: Settings, of_keys: EndpointsOf) -> EndpointsOf:
    """The whole server's endpoint, where the settings have one, beside those of a tenant's keys."""
    whole = webhook_endpoint(settings.webhook_url, settings.webhook_secret, settings.webhook_events)
    of_all = {} if whole is None else {_SERVER: whole}
    return lambda tenant: {**of_all, **of_keys(tenant)}


def signed_headers(delivery: Delivery, endpoint: WebhookEndpoint, now: float) -> dict[str, str]:
    """A request's headers, signed at `now` (Unix seconds) with each of the endpoint's secrets."""
    name, at, content = delivery.delivery_id, datetime.fromtimestamp(int(now), UTC), delivery.body.decode()
    return {
        "Content-Type": "application/json",
        "User-Agent": "holdfast",
        "webhook-id": name,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(Webhook(secret).sign(name, at, content) for secret in endpoint.secrets),
    }
