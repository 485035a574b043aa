"""Cursors of the intake log say which log, and which entry of it, they are of.

Revision ID: 0005
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0006"


def upgrade() -> None:
    """A cursor of before has no mark: it is taken as being of the log that is there."""
    for table in ("follow_cursor", "rollup_cursor"):
        op.add_column(table, sa.Column("mark", sa.String(40), server_default="", nullable=False))
