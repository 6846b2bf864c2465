"""The engine's command line: vLLM's engine arguments, and those of its server's that belong to an engine here."""

import argparse
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import msgspec
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMValidationError
from vllm.renderers.chat_utils import load_chat_template
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser

from engine_worker.engines.vllm.defaults import default_flags, on_cpu
from protocol.addresses import Network, parse_networks
from protocol.settings import BadSetting

_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh")


class EngineFlags(msgspec.Struct, frozen=True):
    """The parsed command line.

    `engine_args` is vLLM's part, with the reasoning parser, which vLLM must know too: a grammar would otherwise apply
    while the model still thinks. `names` are what the model is served as: its name, then its aliases. `chat_template`
    is the template's text (None: the model's own); `reasoning_effort` is None where the user said nothing.
    `outgoing_allow` are networks that images may come from besides the public ones.
    """

    engine_args: Any
    names: tuple[str, ...]
    tool_call_parser: str | None
    chat_template: str | None
    reasoning_effort: str | None
    outgoing_allow: tuple[Network, ...] = ()


class _Parser(FlexibleArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadSetting(f"vLLM's engine arguments: {message}")


def parse_flags(arguments: Sequence[str]) -> EngineFlags:
    """Parse the engine's arguments, with defaults (`defaults.py`) for what they leave out. Raises `BadSetting`."""
    parser = AsyncEngineArgs.add_cli_args(_Parser(add_help=False, allow_abbrev=False))
    parser.add_argument("--tool-call-parser", type=_tool_call_parser)
    parser.add_argument("--chat-template", type=_chat_template)
    parser.add_argument("--default-reasoning-effort", choices=_EFFORTS)
    parser.add_argument("--outgoing-allow", type=_networks, default=())
    flags = parser.parse_args([*default_flags(arguments, on_cpu()), *arguments])
    return EngineFlags(
        engine_args=AsyncEngineArgs.from_cli_args(flags),
        names=tuple(flags.served_model_name or [flags.model]),
        tool_call_parser=flags.tool_call_parser,
        chat_template=flags.chat_template,
        reasoning_effort=flags.default_reasoning_effort,
        outgoing_allow=flags.outgoing_allow,
    )


def _tool_call_parser(name: str) -> str:
    known = ToolParserManager.list_registered()
    if name not in known:
        raise argparse.ArgumentTypeError(f"there is no tool call parser {name!r}; choose from {', '.join(known)}")
    return name


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return parse_networks(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _chat_template(path_or_text: str) -> str | None:
    try:
        template: str | None = load_chat_template(path_or_text)
    except VLLMValidationError as error:
        raise argparse.ArgumentTypeError(error.args[0]) from error
    return template
