"""The endpoints that say what is served, and whether it is."""

from typing import Any

from aiohttp import web

from frontend.answers import LINKS, STORE, json_answer
from frontend.api.errors import model_not_found, unavailable
from frontend.workers import served_names
from protocol.reports import ModelCard


async def list_models(request: web.Request) -> web.Response:
    """GET /v1/models: each name once, also one that several models answer to."""
    listed: dict[str, dict[str, Any]] = {}
    for card in request.app[LINKS].models():
        for name in (card.name, *card.aliases):
            listed.setdefault(name, _model_json(card, name))
    return json_answer({"object": "list", "data": list(listed.values())})


async def get_model(request: web.Request) -> web.Response:
    """GET /v1/models/{model}, by name or alias."""
    model = request.match_info["model"]
    cards = request.app[LINKS].models()
    for card in cards:
        if model == card.name or model in card.aliases:
            return json_answer(_model_json(card, model))
    raise model_not_found(model, served_names(cards))


async def live(_request: web.Request) -> web.Response:
    """GET /health/live: this process answers."""
    return json_answer({"status": "live"})


async def ready(request: web.Request) -> web.Response:
    """GET /health/ready: a new response can be made, and stored."""
    if reason := request.app[LINKS].why_unready():
        raise unavailable(reason)
    await request.app[STORE].check()
    return json_answer({"status": "ready"})


def _model_json(card: ModelCard, name: str) -> dict[str, Any]:
    """A model as OpenAI lists it; `root` and `max_model_len` as vLLM does."""
    return {
        "id": name,
        "object": "model",
        "created": card.created_at,
        "owned_by": "holdfast",
        "root": card.name,
        "max_model_len": card.context_tokens,
    }
