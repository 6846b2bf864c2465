"""From decoded JSON to typed objects, and from what msgspec says is wrong to what the API says.

Theory of operation
    The request types (`ApiObject`s) say what is allowed; `read` converts, and words msgspec's complaint as the API
    does, with the offending path (`input[0].content[1].text`), the value, and what would be right. Every optional field
    defaults to None, absent and null are the same, and encoding leaves both out: an object's JSON is canonical.

    Fields that no type knows are found by comparing what was sent with what the typed object kept (`strays`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from frontend.api import not_served
from frontend.api.errors import ApiError, invalid, unsupported

Kind = TypeVar("Kind")

SHOWN_CHARACTERS_MAX: Final = 64
"""Of an offending value, no more than this many characters are repeated in a message."""


class ApiObject(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the request's types. Rule: an optional field's default is None, which means absent."""


def read(sent: Any, kind: type[Kind], path: str = "") -> Kind:
    """Convert decoded JSON found at `path` of the body to `kind`. Raises `ApiError` naming the parameter."""
    try:
        return msgspec.convert(sent, kind)
    except msgspec.ValidationError as error:
        raise _worded(str(error), sent, kind, path) from error


def strays(sent: Any, kept: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of each field in `sent` that is not in `kept`, which is the typed object as plain JSON."""
    if sent == kept:
        return
    if isinstance(sent, dict) and isinstance(kept, dict):
        for name, value in sent.items():
            at = joined(path, name)
            if name in kept:
                yield from strays(value, kept[name], at)
            elif value is not None:
                yield at, value
    elif isinstance(sent, list) and isinstance(kept, list):
        for index, (value, kept_value) in enumerate(zip(sent, kept, strict=True)):
            yield from strays(value, kept_value, f"{path}[{index}]")


def joined(path: str, name: str) -> str:
    """The path of field `name` of the object at `path` (`""` is the body itself)."""
    return f"{path}.{name}" if path else name


def without_indices(path: str) -> str:
    """`tools[3].name` -> `tools[].name`, as the tables in `not_served` spell it."""
    return re.sub(r"\[\d+\]", "[]", path)


def bad_value(path: str, value: Any, choices: tuple[str, ...] = ()) -> ApiError:
    """The refusal of a value that is none of `choices`, or that the API has and this version does not serve."""
    reason = not_served.VALUES.get(without_indices(path), {}).get(value) if isinstance(value, str) else None
    if reason is not None:
        return unsupported(path, f"'{path}' can't be '{value}': {reason}.")
    supported = f" Supported values are: {', '.join(map(repr, choices))}." if choices else ""
    return invalid(path, f"Invalid value for '{path}': {shown(value)}.{supported}")


def shown(value: Any) -> str:
    """A value as a message repeats it: short, and never a whole prompt."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


_NOUNS: Final[Mapping[str, str]] = {
    "array": "an array",
    "bool": "a boolean",
    "float": "a number",
    "int": "an integer",
    "null": "null",
    "object": "an object",
    "str": "a string",
}
_CODE_WORDS: Final[Mapping[str, str]] = {"float": "decimal", "int": "integer", "str": "string"}


class _Place(NamedTuple):
    """What is wrong where: the parameter's path, how a message calls it, its value, and the values allowed there."""

    path: str
    subject: str
    value: Any
    choices: tuple[str, ...]


def _worded(complaint: str, sent: Any, kind: Any, prefix: str) -> ApiError:
    """msgspec's complaint, word for word, as the API's error."""
    what, _, where = complaint.partition(" - at `")
    inner = where.removesuffix("`").rpartition("$")[2].removesuffix("[...]").removeprefix(".")
    path = joined(prefix, inner) if inner else prefix
    subject = f"'{path}'" if path else "the request body"
    if where.startswith("key` in"):
        subject = f"key of {subject}"
    elif where.endswith("[...]`"):
        subject = f"value of {subject}"
    place = _Place(path, subject, _value_at(sent, inner), choices(kind).get(without_indices(inner), ()))
    for pattern, word in _WORDINGS.items():
        if match := re.fullmatch(pattern, what, re.DOTALL):
            return word(place, **match.groupdict())
    return invalid(path or None, f"Invalid {subject}: {what}.")


def _missing(place: _Place, name: str) -> ApiError:
    path = joined(place.path, name)
    return invalid(path, f"Missing required parameter: '{path}'.", "missing_required_parameter")


def _none_of_the_choices(place: _Place) -> ApiError:
    return bad_value(place.path, place.value, place.choices)


def _wrong_type(place: _Place, expected: str, got: str) -> ApiError:
    if got == "null" and not place.path.endswith("]"):
        return invalid(place.path, f"Missing required parameter: {place.subject}.", "missing_required_parameter")
    wanted = " or ".join(_NOUNS.get(kind, kind) for kind in expected.split(" | ") if kind != "null")
    message = f"Invalid type for {place.subject}: expected {wanted}, got {_NOUNS.get(got, got)}."
    return invalid(place.path or None, message, "invalid_type")


def _out_of_range(place: _Place, kind: str, sign: str, bound: str) -> ApiError:
    side = "above_max_value" if sign.startswith("<") else "below_min_value"
    wanted = f"{_NOUNS[kind]} {sign} {bound.removesuffix('.0')}"
    message = f"Invalid {place.subject}: expected {wanted}, got {shown(place.value)}."
    return invalid(place.path, message, f"{_CODE_WORDS[kind]}_{side}")


def _wrong_length(place: _Place, kind: str, sign: str, bound: str) -> ApiError:
    side = "above_max_length" if sign.startswith("<") else "below_min_length"
    message = f"Invalid {place.subject}: expected {_NOUNS[kind]} of length {sign} {int(bound):,}."
    return invalid(place.path, message, f"{_CODE_WORDS.get(kind, kind)}_{side}")


def _not_matching(place: _Place, pattern: str) -> ApiError:
    pattern = pattern.replace(r"\\Z", "$")  # the usual spelling, which in Python lets a newline pass
    return invalid(place.path, f"Invalid {place.subject}: {shown(place.value)} does not match the pattern {pattern}.")


_WORDINGS: Final[Mapping[str, Callable[..., ApiError]]] = {
    r"Object missing required field `(?P<name>\w+)`": _missing,
    r"Invalid (?:enum )?value .*": _none_of_the_choices,
    r"Expected `(?P<expected>[^`]+)`, got `(?P<got>\w+)`": _wrong_type,
    r"Expected `(?P<kind>\w+)` (?P<sign>[<>]=?) (?P<bound>\S+)": _out_of_range,
    r"Expected `(?P<kind>\w+)` of length (?P<sign>[<>]=?) (?P<bound>\d+)": _wrong_length,
    r"Expected `str` matching regex '(?P<pattern>.*)'": _not_matching,
}
"""What msgspec's complaints look like, and who words each."""


def _value_at(sent: Any, path: str) -> Any:
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", path):
        sent = sent[int(index)] if index else sent[name]
    return sent


@cache
def choices(kind: Any) -> dict[str, tuple[str, ...]]:
    """Path without indices -> the strings allowed there, for every enumerated field of `kind`."""
    found: dict[str, tuple[str, ...]] = {}
    _collect_choices(msgspec.inspect.type_info(kind), "", found)
    return found


def _collect_choices(info: msgspec.inspect.Type, path: str, found: dict[str, tuple[str, ...]]) -> None:
    match info:
        case msgspec.inspect.LiteralType():
            found[path] = (*found.get(path, ()), *map(str, info.values))
        case msgspec.inspect.UnionType():
            for member in info.types:
                _collect_choices(member, path, found)
        case msgspec.inspect.ListType():
            _collect_choices(info.item_type, path + "[]", found)
        case msgspec.inspect.StructType():
            if info.tag_field is not None:
                at = joined(path, info.tag_field)
                found[at] = (*found.get(at, ()), str(info.tag))
            for field in info.fields:
                _collect_choices(field.type, joined(path, field.encode_name), found)
        case _:
            pass
