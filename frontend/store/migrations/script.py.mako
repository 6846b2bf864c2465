"""${message}."""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Add what is new; nothing is taken away, since the version before goes on beside this one."""
    ${upgrades if upgrades else "pass"}
