"""Answers to creating requests, kept for a day so that a request sent twice creates once."""

import sqlalchemy as sa
from alembic import op

from core.db.record import BIGINT

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "remembered_request",
        sa.Column("asker", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("asker", "key", name=op.f("pk_remembered_request")),
    )
    with op.batch_alter_table("remembered_request", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_remembered_request_at"), ["at"], unique=False)
