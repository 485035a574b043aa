"""Seals over the rows of the audit log."""

import sqlalchemy as sa
from alembic import op

from core.db.overlap_guard import forbid_change
from core.db.table_base import BIGINT

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_seal",
        sa.Column("number", BIGINT, autoincrement=False, nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("last_id", BIGINT, nullable=False),
        sa.Column("rows", sa.LargeBinary(), nullable=False),
        sa.Column("gaps", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_seal")),
    )
    forbid_change(op.get_bind(), "audit_seal")
