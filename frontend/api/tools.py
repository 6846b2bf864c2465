"""Tools and the choice among them.

`tools` stays plain JSON in the request: of the many tool types only `function` is served and typed here; what OpenAI's
own service would run is kept as sent, for the echo, and left out of what the model sees.
"""

from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from frontend.api import not_served
from frontend.api.errors import ApiError, invalid, unsupported
from frontend.api.json_schema import check_schema, check_size
from frontend.api.validation import ApiObject, bad_value, read

ALLOWED_TOOLS_MAX: Final = 128


class Function(ApiObject, frozen=True, tag="function"):
    """A function the model may call; `parameters` is a JSON schema."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,128}\Z")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(ApiObject, frozen=True, tag="function"):
    """A function chosen by its name."""

    name: str


class AllowedTools(ApiObject, frozen=True, tag="allowed_tools"):
    """The tools the model may choose from, a part of `tools`; without `mode` it may also choose none."""

    tools: Annotated[list[NamedFunction], Meta(min_length=1, max_length=ALLOWED_TOOLS_MAX)]
    mode: Literal["auto", "required"] | None = None


ToolChoice = Literal["none", "auto", "required"] | NamedFunction | AllowedTools


class Tools(NamedTuple):
    """The tools of one request: as canonical JSON, the functions' names, and the types left out of the prompt."""

    as_json: list[Any] | None
    function_names: frozenset[str]
    omitted: tuple[str, ...]


def read_tools(sent: Any) -> Tools:
    """Check each tool of `tools`, None where it is absent. Raises `ApiError` naming the tool."""
    if sent is None:
        return Tools(None, frozenset(), ())
    as_json: list[Any] = []
    names: set[str] = set()
    schemas = 0
    omitted: dict[str, None] = {}
    for index, tool in enumerate(read(sent, list[Any], "tools")):
        path = f"tools[{index}]"
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind in not_served.HOSTED_TOOLS:
            omitted[kind] = None
            as_json.append(tool)
            continue
        if isinstance(tool, dict) and kind is None:
            raise invalid(f"{path}.type", f"Missing required parameter: '{path}.type'.", "missing_required_parameter")
        if isinstance(kind, str) and kind != "function":
            raise bad_value(f"{path}.type", kind, ("function", *sorted(not_served.HOSTED_TOOLS)))
        function = read(tool, Function, path)
        if function.name in names:
            raise invalid(f"{path}.name", f"There is another tool named '{function.name}'; names must be unique.")
        if function.parameters is not None:
            schemas += check_schema(function.parameters, f"{path}.parameters")
            check_size(schemas, "tools")
        names.add(function.name)
        as_json.append(msgspec.to_builtins(function))
    return Tools(as_json, frozenset(names), tuple(omitted))


def check_forced_type(choice: Any) -> None:
    """Refuse a choice that forces a tool of a type that is not served. Raises `ApiError`."""
    kind = choice.get("type") if isinstance(choice, dict) else None
    if isinstance(kind, str) and kind in not_served.HOSTED_TOOLS | {"computer_use", "custom", "mcp"}:
        raise unsupported("tool_choice.type", f"'tool_choice' can't force a tool of type '{kind}': it is not served.")


def check_choice(choice: ToolChoice | None, functions: frozenset[str]) -> None:
    """Check that what is chosen is there. Raises `ApiError`."""
    match choice:
        case NamedFunction():
            if choice.name not in functions:
                raise _no_such_function("tool_choice.name", choice.name)
        case AllowedTools():
            for index, tool in enumerate(choice.tools):
                if tool.name not in functions:
                    raise _no_such_function(f"tool_choice.tools[{index}].name", tool.name)
        case "required":
            if not functions:
                raise invalid("tool_choice", "'tool_choice' is 'required', but 'tools' holds no function to call.")
        case "auto" | "none" | None:
            pass


def _no_such_function(path: str, name: str) -> ApiError:
    return invalid(path, f"There is no function named '{name}' in 'tools'.")
