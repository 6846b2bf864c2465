"""The aiohttp application: routes, what every answer carries, and the one place where errors become answers."""

import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from frontend import conversation_endpoints as conversations
from frontend import model_endpoints as models
from frontend import response_endpoints as responses
from frontend.answers import CONTEXTS, LINKS, OMITTED_TOOLS, RESPONSE_ID, SETTINGS, STARTED_AT, STORE
from frontend.api import errors
from frontend.api.errors import ApiError
from frontend.config import Settings
from frontend.contexts import Contexts
from frontend.delivering import Webhooks, configured
from frontend.links import Links
from frontend.metrics.endpoint import METRICS, add_metrics, with_metrics
from frontend.metrics.files import SheetFiles
from frontend.metrics.watch import Watch
from frontend.store.errors import StoreUnavailable, UnknownCursor
from frontend.store.store import Store
from frontend.sweeping import Sweeping
from frontend.tenants import access
from frontend.tenants.gate import Gate
from protocol.records import ErrorDetail
from protocol.reports import ModelCard

logger = logging.getLogger(__name__)

_REQUEST_ID: Final = web.RequestKey("request_id", str)
_SANE_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def build_app(settings: Settings, on_ready: Callable[[list[ModelCard]], None]) -> web.Application:
    """The application of one serving process. `on_ready` is called when a worker is ready for the first time."""

    async def with_links(app: web.Application) -> AsyncIterator[None]:
        gate, metrics = app[access.GATE], app[METRICS]
        app[STORE] = store = Store(settings, metrics)
        webhooks = Webhooks(settings, store, configured(settings, gate.webhooks), metrics=metrics)
        app[LINKS] = links = Links(settings, store, webhooks, on_ready, Watch(metrics.sheet, gate.charge))
        app[CONTEXTS] = Contexts(store, links, settings)
        sweeping = Sweeping(store, webhooks, links, settings)
        links.start()
        webhooks.start()
        sweeping.start()
        yield
        await sweeping.close()
        await links.close()
        await webhooks.close()
        await store.close()

    app = web.Application(middlewares=[_answer_errors, access.authenticate], client_max_size=settings.body_bytes_max)
    app[SETTINGS] = settings
    app[access.GATE] = Gate(settings)
    add_metrics(app, SheetFiles(settings.run_dir / "metrics"))
    app.cleanup_ctx.extend((with_metrics, access.with_gate, with_links))
    app.on_response_prepare.append(_stamp)
    app.on_shutdown.append(_drain)
    _add_responses(app.router)
    _add_conversations(app.router)
    app.router.add_get("/v1/models", models.list_models)
    app.router.add_get("/v1/models/{model:.+}", models.get_model)
    app.router.add_get("/health/live", models.live)
    app.router.add_get("/health/ready", models.ready)
    return app


def _add_responses(router: web.UrlDispatcher) -> None:
    one = "/v1/responses/{response_id}"
    router.add_post("/v1/responses", responses.create_response)
    router.add_get(one, responses.get_response, allow_head=False)
    router.add_delete(one, responses.delete_response)
    router.add_post(f"{one}/cancel", responses.cancel_response)
    router.add_get(f"{one}/input_items", responses.list_input_items)


def _add_conversations(router: web.UrlDispatcher) -> None:
    one = "/v1/conversations/{conversation_id}"
    item = f"{one}/items/{{item_id}}"
    router.add_post("/v1/conversations", conversations.create_conversation)
    router.add_get(one, conversations.get_conversation)
    router.add_post(one, conversations.update_conversation)
    router.add_delete(one, conversations.delete_conversation)
    router.add_get(f"{one}/items", conversations.list_items)
    router.add_post(f"{one}/items", conversations.add_items)
    router.add_get(item, conversations.get_item)
    router.add_delete(item, conversations.delete_item)


async def _drain(app: web.Application) -> None:
    await app[LINKS].drain()


async def _stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Put on every answer what all of them carry."""
    response.headers["Server"] = "holdfast"
    response.headers["x-request-id"] = request[_REQUEST_ID]
    response.headers["openai-processing-ms"] = str(round((time.monotonic() - request[STARTED_AT]) * 1000))
    response.headers.update(access.rate_headers(request))
    if RESPONSE_ID in request:
        response.headers["x-response-id"] = request[RESPONSE_ID]
    if OMITTED_TOOLS in request:
        response.headers["x-holdfast-omitted-tools"] = request[OMITTED_TOOLS]
    resource = request.match_info.route.resource
    route = ("", "none") if resource is None else (request.method, resource.canonical)
    request.app[METRICS].answered(*route, response.status, time.monotonic() - request[STARTED_AT])


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever goes wrong in the API's shape; nothing of our inside shows."""
    request[STARTED_AT] = time.monotonic()
    given = request.headers.get("x-request-id", "")
    request[_REQUEST_ID] = given if _SANE_REQUEST_ID.fullmatch(given) else "req_" + secrets.token_hex(16)
    try:
        return await handler(request)
    except ApiError as error:
        return _answer(request, error)
    except StoreUnavailable:
        return _answer(request, errors.unavailable("The store does not answer; try again soon.", "store_unavailable"))
    except UnknownCursor as error:
        return _answer(request, errors.item_not_found(error.item_id, "after" if "after" in request.query else "before"))
    except web.HTTPException as error:
        return _answer(request, _from_aiohttp(request, error))
    except ConnectionError:
        raise  # the client's, which is gone
    except Exception:
        response_id = request.get(RESPONSE_ID, "none")
        logger.exception("request %s, response %s: unexpected", request[_REQUEST_ID], response_id)
        if request.writer.output_size:
            raise  # in the middle of an answer all that is left is to cut it off
        return _answer(request, errors.internal(request[_REQUEST_ID]))


def _answer(request: web.Request, error: ApiError) -> web.Response:
    if not request.path.startswith("/health/"):  # who asks while a model is loaded asks often, and has no error
        request.app[METRICS].erred(error.code)
    return web.Response(
        status=error.status, body=error.body(), content_type="application/json", headers=dict(error.headers)
    )


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> ApiError:
    match error:
        case web.HTTPNotFound():
            return errors.path_not_found(request.method, request.path)
        case web.HTTPMethodNotAllowed():
            return errors.method_not_allowed(request.method, request.path, sorted(error.allowed_methods))
        case web.HTTPRequestEntityTooLarge():
            return errors.body_too_large(request.app[SETTINGS].body_bytes_max)
        case _:
            return ApiError(error.status, ErrorDetail("invalid_request_error", "http_error", error.reason))
