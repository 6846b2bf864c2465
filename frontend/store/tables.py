"""The tables, as the newest migration leaves them. A test compares the two.

JSON and encoded records are bytes: they are given back as they came. What clients name (items above all) is indexed.
"""

import hashlib
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.types import TypeDecorator

NAME_CHARS_MAX: Final = 512
"""A longer name can't be indexed by PostgreSQL; its end is replaced by a hash."""

INPUT: Final = 0
OUTPUT: Final = 1


class Name(TypeDecorator[str]):
    """Text that clients may have made: whatever it holds, both databases can store it and find it again."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """PostgreSQL's text has no NUL, UTF-8 no lone surrogates, an index no entries of kilobytes."""
        if value is None:
            return None
        plain = value.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
        if len(plain) <= NAME_CHARS_MAX:
            return plain
        ending = hashlib.sha256(value.encode(errors="replace")).hexdigest()
        return plain[: NAME_CHARS_MAX - len(ending)] + ending


METADATA: Final = MetaData()


def _name(column: str, **options: Any) -> Column[str]:
    return Column(column, Name, nullable=False, **options)


RESPONSES: Final = Table(
    "responses",
    METADATA,
    _name("response_id", primary_key=True),
    _name("tenant"),
    Column("created_at", BigInteger, nullable=False),
    _name("model"),
    _name("status"),
    Column("background", Boolean, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("previous_response_id", Name),
    Column("conversation_id", Name),
    Column("response", LargeBinary, nullable=False),
    Column("opened", LargeBinary),
    Column("closed", LargeBinary),
    Column("closed_at", BigInteger),
    Column("deleted", Boolean, nullable=False),
    Index("responses_closed_at", "closed_at"),
)
"""`closed_at` is NULL as long as it is neither closed nor deleted; a tombstone has the time of the deletion there."""

ITEMS: Final = Table(
    "items",
    METADATA,
    _name("response_id", primary_key=True),
    Column("side", SmallInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    _name("tenant"),
    _name("item_id"),
    Column("json", LargeBinary, nullable=False),
    Index("items_item_id", "tenant", "item_id"),
)
"""`side` is `INPUT` or `OUTPUT`."""

CONVERSATIONS: Final = Table(
    "conversations",
    METADATA,
    _name("conversation_id", primary_key=True),
    _name("tenant"),
    Column("created_at", BigInteger, nullable=False),
    Column("metadata", LargeBinary, nullable=False),
    Column("next_position", Integer, nullable=False),
    Column("writer", Name),
    Column("writer_until", Double, nullable=False),
)
"""`writer` is the response that alone may write to it, until then."""

CONVERSATION_ITEMS: Final = Table(
    "conversation_items",
    METADATA,
    _name("conversation_id", primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    _name("tenant"),
    _name("item_id"),
    Column("json", LargeBinary, nullable=False),
    Index("conversation_items_item_id", "tenant", "item_id"),
)

REPLAY_CHUNKS: Final = Table(
    "replay_chunks",
    METADATA,
    _name("response_id", primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("closed_at", BigInteger, nullable=False),
    Column("last", Boolean, nullable=False),
    Column("records", LargeBinary, nullable=False),
    Index("replay_chunks_closed_at", "closed_at"),
)

DELIVERIES: Final = Table(
    "deliveries",
    METADATA,
    _name("delivery_id", primary_key=True),
    _name("tenant"),
    _name("response_id"),
    _name("endpoint"),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", Double),
    Column("attempts", Integer, nullable=False),
    Column("given_up_at", BigInteger),
    Index("deliveries_due_at", "due_at"),
    Index("deliveries_response_id", "response_id"),
)
"""A claim puts `due_at` off: there is nothing else to be held by, or to be given back after a death. It is NULL once a
delivery is given up."""

LEASES: Final = Table(
    "leases",
    METADATA,
    _name("name", primary_key=True),
    _name("holder"),
    Column("expires_at", Double, nullable=False),
)
