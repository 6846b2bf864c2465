"""The `text` field: which format the answer's text must have."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from frontend.api.json_schema import check_schema
from frontend.api.validation import ApiObject


class PlainText(ApiObject, frozen=True, tag="text"):
    """Any text."""


class JsonObject(ApiObject, frozen=True, tag="json_object"):
    """Any JSON object."""


class JsonSchema(ApiObject, frozen=True, tag="json_schema"):
    """JSON that follows `schema`, whose order of properties is the order in which the model writes them."""

    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextConfig(ApiObject, frozen=True):
    """`text` of a create request."""

    format: PlainText | JsonObject | JsonSchema | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


def check_text(text: TextConfig) -> None:
    """Check the format's schema. Raises `ApiError`."""
    if isinstance(text.format, JsonSchema):
        check_schema(text.format.schema, "text.format.schema")
