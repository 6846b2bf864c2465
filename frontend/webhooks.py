"""What webhooks are told, and when they are told again.

Theory of operation
    Closing a background response stores one delivery for each endpoint that wants to know, in the transaction that
    closes it (`deliveries`). Any frontend claims a due delivery for longer than a request may take, and posts it
    (`frontend.delivering`). What comes of it is judged here: told, to be told again, or given up. A frontend that dies
    with a claim leaves a delivery that is due again: told at least once, under the same id.

Events and bodies are OpenAI's (platform.openai.com/docs/guides/webhooks), headers and signatures those of Standard
Webhooks (www.standardwebhooks.com), so that `client.webhooks.unwrap` of OpenAI's SDKs takes them.
"""

import hashlib
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from frontend.store.deliveries import Delivery, NewDelivery
from frontend.webhook_endpoints import WebhookEndpoint

_DOUBLINGS_MAX: Final = 64
"""Of a wait: a float has its end, and every sensible bound is reached by then."""


# --- what is told ---


def deliveries(
    response_id: str, status: str, at: int, endpoints: Mapping[str, WebhookEndpoint]
) -> tuple[NewDelivery, ...]:
    """Whom to tell that a background response ended with `status` at `at`, of the `endpoints` of its tenant by name.

    The same arguments give the same deliveries, ids and all: storing them may be tried again.
    """
    event = f"response.{status}"
    content = msgspec.json.encode(
        {
            "id": "evt_" + _digest(response_id),
            "object": "event",
            "created_at": at,
            "type": event,
            "data": {"id": response_id},
        }
    )
    return tuple(
        NewDelivery("wh_" + _digest(response_id, name), name, content, at)
        for name, endpoint in endpoints.items()
        if event in endpoint.events
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


# --- what came of it ---


class Answered(msgspec.Struct, frozen=True):
    """The endpoint answered; `retry_after` is that header, where it sent one."""

    status: int
    retry_after: str = ""


class Unanswered(msgspec.Struct, frozen=True):
    """It did not, for this reason."""

    reason: str


Outcome = Answered | Unanswered


class Told(msgspec.Struct, frozen=True):
    """Done: it need not be told again."""


class Again(msgspec.Struct, frozen=True):
    """To be told again at `due_at` (Unix seconds)."""

    due_at: float
    reason: str


class GivenUp(msgspec.Struct, frozen=True):
    """Not to be told any more."""

    reason: str


Verdict = Told | Again | GivenUp


class Backoff(msgspec.Struct, frozen=True):
    """How long to wait after a failure: `first_s`, doubled each time up to `max_s`.

    No more when the event would be `give_up_s` old by then.
    """

    first_s: float
    max_s: float
    give_up_s: float


def judge(delivery: Delivery, outcome: Outcome, now: float, chance: float, backoff: Backoff) -> Verdict:
    """What becomes of a delivery after one more attempt. `chance` is random, from 0 to 1: it spreads the next attempts
    over half of the wait, so that what failed together does not come back together."""
    match outcome:
        case Answered(status) if 200 <= status < 300:
            return Told()
        case Answered(410):
            return GivenUp("it answered 410 Gone: it wants no events any more")
        case Answered(status, retry_after):
            reason, retry_after_s = f"it answered {status}", _seconds(retry_after, now)
        case Unanswered(reason):
            retry_after_s = 0.0
    doublings = min(delivery.attempts - 1, _DOUBLINGS_MAX)
    wait_s = min(backoff.first_s * 2.0**doublings, backoff.max_s) * (1 - chance / 2)
    due_at = now + max(wait_s, min(retry_after_s, backoff.max_s))
    if due_at > delivery.created_at + backoff.give_up_s:
        return GivenUp(f"{reason}, and the event is too old to be told again")
    return Again(due_at, reason)


def _seconds(retry_after: str, now: float) -> float:
    """A `Retry-After` header in seconds from `now`: a number of them, or a date (RFC 9110, 10.2.3); 0 for nonsense."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return parsedate_to_datetime(retry_after).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0


def room(busy: Mapping[str, int], requests_max: int, endpoint_requests_max: int) -> tuple[int, tuple[str, ...]]:
    """How many more deliveries to claim at once, and the endpoints to skip, while `busy` requests go to each.

    A slow endpoint waits for itself, and no other for it. Should all that is claimed be for one endpoint, that gets no
    more than its share.
    """
    full = tuple(name for name, requests in busy.items() if requests >= endpoint_requests_max)
    most = max((requests for requests in busy.values() if requests < endpoint_requests_max), default=0)
    return max(0, min(requests_max - sum(busy.values()), endpoint_requests_max - most)), full
