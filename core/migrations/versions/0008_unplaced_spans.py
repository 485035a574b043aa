"""Readings that alerting has passed by since nobody knew where they belong."""

import sqlalchemy as sa
from alembic import op

from core.db.table_base import BIGINT

revision = "0008"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "unplaced_span",
        sa.Column("gw", sa.String(length=32), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=False),
        sa.Column("positions", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("gw", "code", name=op.f("pk_unplaced_span")),
    )
