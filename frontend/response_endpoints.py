"""The endpoints of responses: from a request to a reading, or to a stored row, and from what it brings to an answer."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import HttpVersion11, web

from frontend import parameters, sse
from frontend.answers import (
    CONTEXTS,
    LINKS,
    OMITTED_TOOLS,
    RESPONSE_ID,
    SETTINGS,
    STARTED_AT,
    STORE,
    json_answer,
    page_answer,
    page_of,
)
from frontend.api.errors import ApiError, from_detail, not_in_background, response_not_found, unavailable
from frontend.api.request import Accepted, parse_create
from frontend.api.stored_items import Context, own_items
from frontend.draft import Draft
from frontend.metrics.endpoint import METRICS
from frontend.reading import Outlet, Reading
from frontend.replaying import Replaying
from frontend.routing import affinity_of
from frontend.store.errors import StoreUnavailable
from frontend.store.finishing import Deleted
from frontend.store.responses import NewBackground, ResponseRow
from frontend.tenants.access import TENANT, admitted, key_name
from frontend.tenants.limits import estimate
from frontend.wish import Wish
from protocol.codec import encode_record
from protocol.commands import Abort
from protocol.records import Closed, Dialect, ErrorDetail

_STORE_SILENT: Final = web.RequestKey("store_silent", bool)
"""Set where the store was asked for the response and could not say."""
_RESPONSE_ID: Final = re.compile(r"resp_[0-9a-f]{32}")
_FAILED: Final = ErrorDetail("server_error", "server_error", "The response failed.")


async def create_response(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses."""
    settings, tenant = request.app[SETTINGS], request[TENANT]
    dialect = parameters.dialect(request, settings.dialect)
    key = parameters.idempotency_key(request)
    accepted = parse_create(await parameters.json_body(request, settings.body_bytes_max), settings.unknown_fields)
    if accepted.omitted_tools:
        request[OMITTED_TOOLS] = ", ".join(accepted.omitted_tools)
    wish = Wish(
        stream=bool(accepted.request.stream),
        event_ids=parameters.flag(request, "event_ids", default=False),
        pings=parameters.flag(request, "ping", default=settings.ping_events),
        asked=None if key is None else accepted.digest,
        keeps_opened=bool(accepted.request.background),
        tenant=tenant,
    )
    response_id = _keyed_or_new_id(request, accepted, key)
    tokens = estimate(accepted.wire, accepted.request.max_output_tokens)
    with admitted(request, requests=1, tokens=tokens):
        if key is not None and (row := await _stored(request, response_id)) is not None and row.closed is not None:
            async with _replay(request, response_id, wish) as reading:
                return await _answer(request, reading, wish)
        fails = request.app[LINKS].store_fails or request.get(_STORE_SILENT)  # then a retry can't be told from a first
        if fails and accepted.request.store is not False:
            raise unavailable("The store does not answer; what need not be stored ('store': false) is served.")
        if key is None:  # else it may be there already
            request.app[LINKS].check_room(accepted.request.model)
        reading = await _create(request, accepted, wish, response_id, dialect)
        background = bool(accepted.request.background)
        del accepted  # The whole input; the stream may last for hours.
        try:
            if background and not wish.stream:
                request[RESPONSE_ID] = response_id
                return json_answer(_as_queued(reading))
            return await _answer(request, reading, wish)
        finally:
            request.app[LINKS].leave(reading)


def _keyed_or_new_id(request: web.Request, accepted: Accepted, key: str | None) -> str:
    tenant = request[TENANT]
    if key is not None:
        return parameters.keyed_response_id(key, tenant)
    return request.app[LINKS].new_response_id(accepted.request.model, affinity_of(accepted.request, tenant))


async def _create(request: web.Request, accepted: Accepted, wish: Wish, response_id: str, dialect: Dialect) -> Reading:
    """Have the response made; the caller leaves what it gets."""
    options = accepted.request.stream_options
    async with _context(request, accepted, response_id) as context:
        draft = Draft(
            response_id=response_id,
            model=accepted.request.model,
            request=context.wire,
            dialect=dialect,
            obfuscate=bool(options and options.include_obfuscation),
            tenant=request[TENANT],
            key=key_name(request),
            background=bool(accepted.request.background),
            history_items=context.history_items,
            asked=wish.asked or b"",
            prompt_tokens=estimate(context.wire, None),
        )
        reading = request.app[LINKS].create(draft, wish)
        reading.pace = request.app[METRICS].pace(draft.model, request[STARTED_AT])
        try:
            await reading.begin()
            if draft.background:
                await _keep_background(request, reading)
        except BaseException:
            request.app[LINKS].leave(reading)
            raise
    return reading


async def get_response(request: web.Request) -> web.StreamResponse:
    """GET /v1/responses/{response_id}: as it is now, or the stream from any event on."""
    response_id = _id(request)
    parameters.include(request)
    stream = parameters.flag(request, "stream", default=False)
    event_ids = parameters.flag(request, "event_ids", default=False)
    wish = Wish(
        stream=stream,
        after=parameters.cursor(request, stream=stream, event_ids=event_ids),
        event_ids=event_ids,
        pings=parameters.flag(request, "ping", default=request.app[SETTINGS].ping_events),
        to_the_end=stream,
        tenant=request[TENANT],
    )
    with admitted(request, streams=int(stream)):
        return await _read(request, response_id, wish)


async def _read(request: web.Request, response_id: str, wish: Wish) -> web.StreamResponse:
    row = await _stored(request, response_id)
    if row is not None and row.closed is not None and not wish.stream:
        return web.Response(body=row.response, content_type="application/json")
    if row is not None and row.closed is not None:
        async with _replay(request, response_id, wish) as reading:
            return await _answer(request, reading, wish)
    try:
        async with _found(request, response_id, wish) as reading:
            return await _answer(request, reading, wish)
    except ApiError as error:
        if row is None or wish.stream or error.status not in (404, 503):
            raise
        # In the background, and on no worker at present: it is run again, or failed, before long.
        return web.Response(body=row.response, content_type="application/json")


async def cancel_response(request: web.Request) -> web.StreamResponse:
    """POST /v1/responses/{response_id}/cancel: ends one in the background; one that has ended is answered as it is."""
    response_id = _id(request)
    row = await _stored(request, response_id)
    if row is not None and not row.background:
        raise not_in_background()
    if row is not None and row.closed is not None:
        return web.Response(body=row.response, content_type="application/json")
    wish = Wish(tenant=request[TENANT])
    async with _found(request, response_id, wish) as reading:
        await reading.begin()
        if not reading.session.projection.background:
            raise not_in_background()
        request.app[LINKS].say(reading, Abort(response_id))
        await reading.finish()
        return json_answer(reading.session.projection.response())


async def delete_response(request: web.Request) -> web.Response:
    """DELETE /v1/responses/{response_id}: a running one ends first; nothing of it is kept."""
    response_id, links = _id(request), request.app[LINKS]
    row = await _stored(request, response_id)
    reading = links.find(response_id, Wish(to_the_end=False, tenant=request[TENANT]))
    live = True
    try:
        await reading.begin()
    except ApiError as error:
        if error.status != 404 or row is None:
            raise
        live = False
    try:
        deleted = await request.app[STORE].responses.delete(request[TENANT], response_id, int(time.time()), live=live)
        if live:
            links.erase(response_id)
            if (created := reading.session.projection.request) is not None:
                await request.app[CONTEXTS].abandon(created, response_id)
    finally:
        links.leave(reading)
    if not deleted:
        raise response_not_found(response_id)
    return json_answer({"id": response_id, "object": "response", "deleted": True})


async def list_input_items(request: web.Request) -> web.Response:
    """GET /v1/responses/{response_id}/input_items: what its own request brought."""
    response_id, wish = _id(request), parameters.page(request)
    await _stored(request, response_id)  # What was deleted is gone, also where its worker has yet to hear of it.
    page = await request.app[STORE].items.of_input(request[TENANT], response_id, wish)
    if page is not None:
        return page_answer(page)
    links = request.app[LINKS]
    reading = links.find(response_id, Wish(to_the_end=False, tenant=request[TENANT], keeps_opened=True))
    try:
        await reading.begin()
        opened = reading.session.opened
    finally:
        links.leave(reading)
    if opened is None:
        raise response_not_found(response_id)
    return page_answer(page_of(own_items(opened), wish))


# ---- where responses are ---------------------------------------------------------------------------------------------


def _id(request: web.Request) -> str:
    response_id = request.match_info["response_id"]
    if not _RESPONSE_ID.fullmatch(response_id):
        raise response_not_found(response_id)
    return response_id


async def _stored(request: web.Request, response_id: str) -> ResponseRow | None:
    """The response's row, if the store can be asked. Raises `ApiError` (404) where it was deleted."""
    try:
        row = await request.app[STORE].responses.get(request[TENANT], response_id)
    except StoreUnavailable:
        request[_STORE_SILENT] = True
        return None
    if isinstance(row, Deleted):
        raise response_not_found(response_id)
    return row


@asynccontextmanager
async def _found(request: web.Request, response_id: str, wish: Wish) -> AsyncIterator[Reading]:
    """Read the response at the worker that has it."""
    links = request.app[LINKS]
    reading = links.find(response_id, wish)
    try:
        yield reading
    except ApiError as error:
        if error.status == 404 and request.get(_STORE_SILENT):
            raise unavailable("The store does not answer, and no engine worker has this response.") from None
        raise
    finally:
        links.leave(reading)


@asynccontextmanager
async def _replay(request: web.Request, response_id: str, wish: Wish) -> AsyncIterator[Reading]:
    """Read the response in the store."""
    links = request.app[LINKS]
    replaying = Replaying(partial(request.app[STORE].replay.read, request[TENANT], response_id))
    reading = links.replay(response_id, wish, replaying)
    feeding = asyncio.create_task(replaying.run(reading))
    try:
        yield reading
    finally:
        links.leave(reading)
        feeding.cancel()
        with suppress(asyncio.CancelledError):
            await feeding


@asynccontextmanager
async def _context(request: web.Request, accepted: Accepted, response_id: str) -> AsyncIterator[Context]:
    """The request with what comes before it; should the block fail, no response was made."""
    contexts = request.app[CONTEXTS]
    context = await contexts.complete(accepted, response_id, request[TENANT])
    try:
        yield context
    except BaseException as error:
        if not (isinstance(error, ApiError) and error.code == "idempotency_mismatch"):  # the key's response runs
            await contexts.abandon(accepted.request, response_id)
        raise


async def _keep_background(request: web.Request, reading: Reading) -> None:
    """Store that the response runs; without that it must not, since its client won't wait for it."""
    session = reading.session
    assert session.opened is not None
    opened, response = session.opened, _as_queued(reading)
    conversation = response["conversation"]
    row = NewBackground(
        response_id=session.response_id,
        tenant=opened.tenant,
        created_at=opened.created_at,
        model=response["model"],
        response=msgspec.json.encode(response),
        opened=encode_record(opened),
        epoch=session.epoch,
        previous_response_id=response["previous_response_id"],
        conversation_id=conversation["id"] if conversation else None,
    )
    try:
        kept = await request.app[STORE].responses.insert_background(row)
    except BaseException:
        request.app[LINKS].erase(session.response_id)
        raise
    if kept == "deleted":
        raise response_not_found(session.response_id)


def _as_queued(reading: Reading) -> dict[str, Any]:
    """The response as it was when it was taken on, which is what its client is told."""
    return {**reading.session.projection.response(), "status": "queued", "output": []}


# ---- answers ---------------------------------------------------------------------------------------------------------


async def _answer(request: web.Request, reading: Reading, wish: Wish) -> web.StreamResponse:
    """What the reading brings, as a stream or whole. Each frame below a stream costs memory as long as it lasts."""
    await reading.begin()
    request[RESPONSE_ID] = reading.session.response_id
    if not wish.stream:
        await reading.finish()
        projection = reading.session.projection
        match projection.closed:
            case Closed(status="failed", error=error) if wish.to_the_end:
                raise from_detail(error or _FAILED)
        return json_answer(projection.response())
    response = web.StreamResponse(headers=sse.HEADERS)
    chunked = request.version >= HttpVersion11
    if chunked:
        response.enable_chunked_encoding()
    writer, transport = await response.prepare(request), request.transport
    if writer is None or transport is None:
        raise ConnectionResetError("the client left before the stream began")
    response.headers.clear()  # They are sent.
    bytes_max = request.app[SETTINGS].stream_buffer_bytes_max
    metrics = request.app[METRICS]
    metrics.stream_began(resumed=request.method == "GET")
    try:
        await reading.stream(Outlet(transport, chunked=chunked, bytes_max=bytes_max), writer)
    finally:
        metrics.stream_ended(reading.session.projection)
    await response.write_eof()
    return response
