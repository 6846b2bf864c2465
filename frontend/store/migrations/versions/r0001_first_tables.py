"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all of them."""
    _responses()
    _conversations()
    _deliveries()
    _leases()


def _needed(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def _responses() -> None:
    op.create_table(
        "responses",
        _needed("response_id", sa.Text),
        _needed("tenant", sa.Text),
        _needed("created_at", sa.BigInteger),
        _needed("model", sa.Text),
        _needed("status", sa.Text),
        _needed("background", sa.Boolean),
        _needed("epoch", sa.BigInteger),
        sa.Column("previous_response_id", sa.Text),
        sa.Column("conversation_id", sa.Text),
        _needed("response", sa.LargeBinary),
        sa.Column("opened", sa.LargeBinary),
        sa.Column("closed", sa.LargeBinary),
        sa.Column("closed_at", sa.BigInteger),
        _needed("deleted", sa.Boolean),
        sa.PrimaryKeyConstraint("response_id"),
    )
    op.create_index("responses_closed_at", "responses", ["closed_at"])
    op.create_table(
        "items",
        _needed("response_id", sa.Text),
        _needed("side", sa.SmallInteger),
        _needed("position", sa.Integer),
        _needed("tenant", sa.Text),
        _needed("item_id", sa.Text),
        _needed("json", sa.LargeBinary),
        sa.PrimaryKeyConstraint("response_id", "side", "position"),
    )
    op.create_index("items_item_id", "items", ["tenant", "item_id"])
    op.create_table(
        "replay_chunks",
        _needed("response_id", sa.Text),
        _needed("position", sa.Integer),
        _needed("closed_at", sa.BigInteger),
        _needed("last", sa.Boolean),
        _needed("records", sa.LargeBinary),
        sa.PrimaryKeyConstraint("response_id", "position"),
    )
    op.create_index("replay_chunks_closed_at", "replay_chunks", ["closed_at"])


def _conversations() -> None:
    op.create_table(
        "conversations",
        _needed("conversation_id", sa.Text),
        _needed("tenant", sa.Text),
        _needed("created_at", sa.BigInteger),
        _needed("metadata", sa.LargeBinary),
        _needed("next_position", sa.Integer),
        sa.Column("writer", sa.Text),
        _needed("writer_until", sa.Double),
        sa.PrimaryKeyConstraint("conversation_id"),
    )
    op.create_table(
        "conversation_items",
        _needed("conversation_id", sa.Text),
        _needed("position", sa.Integer),
        _needed("tenant", sa.Text),
        _needed("item_id", sa.Text),
        _needed("json", sa.LargeBinary),
        sa.PrimaryKeyConstraint("conversation_id", "position"),
    )
    op.create_index("conversation_items_item_id", "conversation_items", ["tenant", "item_id"])


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        _needed("delivery_id", sa.Text),
        _needed("tenant", sa.Text),
        _needed("response_id", sa.Text),
        _needed("endpoint", sa.Text),
        _needed("body", sa.LargeBinary),
        _needed("created_at", sa.BigInteger),
        sa.Column("due_at", sa.Double),
        _needed("attempts", sa.Integer),
        sa.Column("given_up_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("delivery_id"),
    )
    op.create_index("deliveries_due_at", "deliveries", ["due_at"])
    op.create_index("deliveries_response_id", "deliveries", ["response_id"])


def _leases() -> None:
    op.create_table(
        "leases",
        _needed("name", sa.Text),
        _needed("holder", sa.Text),
        _needed("expires_at", sa.Double),
        sa.PrimaryKeyConstraint("name"),
    )
