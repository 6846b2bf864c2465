"""Settings of a process: a frozen struct, filled once from flags and `HOLDFAST_*` variables.

A struct's fields *are* the flags: `heartbeat_interval_s: float = 0.5` gives `--heartbeat-interval-s` and
`HOLDFAST_HEARTBEAT_INTERVAL_S`. A flag wins over a variable, a variable over the default. Both processes use this
module; which settings exist is theirs to say.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

PREFIX = "HOLDFAST_"

SettingsStruct = TypeVar("SettingsStruct", bound=msgspec.Struct)


class BadSetting(ValueError):
    """A setting's text is no value of its type; the message names the setting."""


def read_settings(
    kind: type[SettingsStruct], arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> tuple[SettingsStruct, list[str]]:
    """Fill `kind` and return it with the arguments that are none of its flags.

    Raises `BadSetting`; prints usage and exits on `--help`, as argparse does.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {kind.__module__.split('.')[0]}", description=kind.__doc__, allow_abbrev=False
    )
    for field in msgspec.structs.fields(kind):
        flag = "--" + field.name.replace("_", "-")
        default = None if field.default is msgspec.NODEFAULT else field.default
        parser.add_argument(flag, dest=field.name, metavar="VALUE", help=f"{describe(field)} (default: {default})")
    flags, rest = parser.parse_known_args(arguments)
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        text = getattr(flags, field.name)
        if text is None:
            text = environment.get(PREFIX + field.name.upper())
        if text is not None:
            values[field.name] = _value(field, text)
    return kind(**values), rest


def describe(field: msgspec.structs.FieldInfo) -> str:
    """The setting's description: the `msgspec.Meta(description=...)` of its annotation."""
    metas = [meta for meta in get_args(field.type) if isinstance(meta, msgspec.Meta)]
    return next((meta.description for meta in metas if meta.description), "")


def _value(field: msgspec.structs.FieldInfo, text: str) -> Any:
    kind = field.type
    if get_origin(kind) is Annotated and get_args(kind)[0] is Path:
        return Path(text)
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        name = field.name.replace("_", "-")
        raise BadSetting(f"--{name} ({PREFIX}{field.name.upper()}) can't be {text!r}: {error}") from error
