"""What a request's context begins with: the history it continues and the items it refers to, from the store.

A response whose end could not be stored yet is found with the worker that has its log.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from frontend.api.errors import (
    ApiError,
    conflict,
    conversation_not_found,
    invalid,
    previous_response_not_found,
)
from frontend.api.request import Accepted, RequestSettings
from frontend.api.stored_items import Context, own_items, references, with_history
from frontend.config import Settings
from frontend.links import Links
from frontend.store.items import Broken, History, HistoryBounds, TooLong
from frontend.store.pages import StoredItem
from frontend.store.store import Store
from frontend.wish import Wish

Json = dict[str, Any]
Answer = TypeVar("Answer")

_LOCK_ASKED_EVERY_S = 0.1


class Contexts:
    """Completes requests of this process."""

    def __init__(self, store: Store, links: Links, settings: Settings) -> None:
        self._store = store
        self._links = links
        self._settings = settings
        self._bounds = HistoryBounds(
            responses=settings.history_responses_max,
            items=settings.history_items_max,
            bytes=settings.history_bytes_max,
        )

    async def complete(self, accepted: Accepted, response_id: str, tenant: str) -> Context:
        """The request with everything before it. Raises `ApiError` (400, 404, 409) and `StoreUnavailable`.

        One that names a conversation may write to it alone from then on, until `Responses.finish` or `abandon`; one
        that is not to be stored only reads it.
        """
        request, wanted = accepted.request, references(accepted.request)
        if not request.continues and not wanted:
            return Context(accepted.wire, 0)
        history: list[Json] = []
        try:
            if request.previous_response_id is not None:
                history = await self._chain(request.previous_response_id, tenant)
            elif request.conversation is not None:
                if request.store is not False:
                    await self._lock(request.conversation.id, response_id, tenant)
                history = await self._conversation(request.conversation.id, tenant)
            found = await self._store.items.by_id(tenant, wanted) if wanted else {}
            return with_history(request, history, {name: _decoded(item) for name, item in found.items()})
        except BaseException:
            await self.abandon(request, response_id)
            raise

    async def abandon(self, request: RequestSettings, response_id: str) -> None:
        """The response was not made after all, or is no more: let others write to its conversation."""
        if request.conversation is not None and request.store is not False:
            await self._store.conversations.unlock(request.conversation.id, response_id)

    async def _chain(self, response_id: str, tenant: str) -> list[Json]:
        """All that was said up to and with this response."""
        match await self._store.items.history(tenant, response_id, self._bounds):
            case History(items=items):
                return _all_decoded(items)
            case TooLong():
                raise self._too_long("previous_response_id")
            case Broken(why="deleted"):
                raise previous_response_not_found(response_id)
            case Broken(response_id=broken_at, newer=newer):
                return [*await self._live(broken_at, response_id, tenant), *_all_decoded(newer)]

    async def _live(self, response_id: str, asked_for: str, tenant: str) -> list[Json]:
        """All that was said up to and with a response that is not in the store, from its log."""
        reading = self._links.find(response_id, Wish(to_the_end=False, tenant=tenant, keeps_opened=True))
        try:
            await reading.finish()
        except ApiError as error:
            raise previous_response_not_found(asked_for) if error.status == 404 else error from None
        finally:
            self._links.leave(reading)
        session = reading.session
        if session.opened is None or not session.projection.is_stored:
            raise previous_response_not_found(asked_for)
        if session.projection.turn_finished is None:
            message = f"Response '{response_id}' has not ended yet; continue it when it has."
            raise invalid("previous_response_id", message, "previous_response_not_completed")
        everything = msgspec.structs.replace(session.opened, history_items=0)
        output: list[Json] = session.projection.response()["output"]
        return [*own_items(everything), *output]

    async def _lock(self, conversation_id: str, response_id: str, tenant: str) -> None:
        """Wait for the conversation's other writer, and be its writer."""
        conversations, give_up_at = self._store.conversations, time.monotonic() + self._settings.conversation_wait_s
        while True:
            duration_s = self._settings.conversation_lock_s
            lock = conversations.lock(tenant, conversation_id, response_id, time.time(), duration_s)
            locked = await _to_the_end(asyncio.create_task(lock))
            if locked is None:
                raise conversation_not_found(conversation_id, "conversation")
            if locked:
                return
            if time.monotonic() >= give_up_at:
                message = f"Another response is being made in conversation '{conversation_id}'; try again later."
                raise conflict("conversation", "conversation_locked", message)
            await asyncio.sleep(_LOCK_ASKED_EVERY_S)

    async def _conversation(self, conversation_id: str, tenant: str) -> list[Json]:
        bounds = self._bounds
        history = await self._store.conversation_items.history(tenant, conversation_id, bounds.items, bounds.bytes)
        match history:
            case History(items=items):
                return _all_decoded(items)
            case TooLong():
                raise self._too_long("conversation")
            case None:  # it was deleted a moment ago
                raise conversation_not_found(conversation_id, "conversation")

    def _too_long(self, param: str) -> ApiError:
        bounds = self._bounds
        message = (
            f"What '{param}' leads to is longer than this server follows: {bounds.responses} responses, "
            f"{bounds.items} items or {bounds.bytes} bytes."
        )
        return invalid(param, message, "history_too_long")


async def _to_the_end(task: asyncio.Task[Answer]) -> Answer:
    """What the task returns. Whoever cancels us waits for it: its effects are to be undone, and so must have come."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise


def _decoded(item: StoredItem) -> Json:
    found: Json = msgspec.json.decode(item.json)
    return found


def _all_decoded(items: Sequence[StoredItem]) -> list[Json]:
    return [_decoded(item) for item in items]
