"""Exceptions of vLLM, while it renders or takes a request, as rejections: whose fault, and which parameter."""

import logging
import re
from collections.abc import Callable
from typing import Final

import jinja2
import pydantic
from vllm.exceptions import GracefulHTTPError, VLLMClientError
from vllm.v1.engine.exceptions import EngineDeadError

from engine_worker.engines.interface import TurnRejected
from engine_worker.engines.vllm.replay import not_resumable
from engine_worker.engines.vllm.request import refused
from protocol.records import ErrorDetail

logger = logging.getLogger(__name__)

_CONTEXT_LENGTH_EXCEEDED: Final = "context_length_exceeded"
_TOO_LONG: Final = frozenset({"input_tokens", "input_text"})
"""What vLLM names as the parameter of a prompt that is longer than the context."""
_PARAMETERS: Final = {"logprobs": "top_logprobs", "max_tokens": "max_output_tokens", "image_url": "input"}
"""vLLM's names of request fields that have another in the API."""
_CLIENT_ERRORS: Final = (VLLMClientError, jinja2.TemplateError, ValueError, TypeError, OverflowError, RecursionError)
"""What vLLM's own server answers with a 400 as well."""
_COMPILER_PLACE: Final = re.compile(r"\[[\d:]+\] \S+:\d+: ")
"""The time and source line that the grammar compiler puts into its messages."""


def too_long(message: str) -> TurnRejected:
    """The prompt does not fit the model's context."""
    return refused("input", message, _CONTEXT_LENGTH_EXCEEDED)


def is_too_long(error: Exception) -> bool:
    """Whether `error`, ours or vLLM's, says that the prompt does not fit the model's context."""
    if isinstance(error, TurnRejected):
        return error.error.code == _CONTEXT_LENGTH_EXCEEDED
    return getattr(error, "parameter", None) in _TOO_LONG


def engine_stopped() -> TurnRejected:
    """Nothing can be started on this engine any more."""
    return _server_error("engine_unavailable", "The engine has stopped; it is being started again.")


def rejection(error: Exception, refused_schema: Callable[[], str | None]) -> TurnRejected:
    """What `error` means to the client; what is nobody's fault but ours is logged.

    `refused_schema()` finds the parameter whose JSON schema can't be made a grammar; it is asked when vLLM names none.
    Where it finds none either, it is the input that could not be rendered.
    """
    if isinstance(error, TurnRejected):
        return error
    if isinstance(error, EngineDeadError):
        return engine_stopped()
    if isinstance(error, GracefulHTTPError):
        return _server_error("overloaded", str(error))
    if not isinstance(error, _CLIENT_ERRORS):
        logger.error("vLLM failed to take a request", exc_info=error)
        return _server_error("server_error", "The engine failed to take this request.")
    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_url=False)[0]
        # Only the request itself is validated whole; any other model is a part of the input.
        return refused(_path(first["loc"]) if error.title == "ResponsesRequest" else "input", first["msg"])
    message = _COMPILER_PLACE.sub("", str(error.args[0] if error.args else error)).strip()
    parameter: str = getattr(error, "parameter", None) or ""
    if is_too_long(error):
        return too_long(message)
    return refused(_PARAMETERS.get(parameter, parameter) or refused_schema() or "input", message)


def resume_rejection(error: Exception) -> TurnRejected:
    """What `error` means for a turn that is resumed: it was accepted once, so it is never the client's fault."""
    if isinstance(error, TurnRejected):
        return error
    if isinstance(error, EngineDeadError):
        return engine_stopped()
    logger.error("vLLM failed to take a turn up again", exc_info=error)
    return not_resumable("the engine failed to take it up")


def _server_error(code: str, message: str) -> TurnRejected:
    return TurnRejected(ErrorDetail("server_error", code, message))


def _path(location: tuple[int | str, ...]) -> str:
    """A pydantic location as the API writes paths: `tools[0].parameters`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
