"""Spans of late readings that are to be evaluated, and alarms that are made of them."""

import sqlalchemy as sa
from alembic import op

from core.db.table_base import BIGINT

revision = "0003"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "late_span",
        sa.Column("series_id", BIGINT, nullable=False),
        sa.Column("day", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=False),
        sa.Column("positions", sa.LargeBinary(), nullable=False),
        sa.Column("revision", BIGINT, nullable=False),
        sa.Column("first_at", BIGINT, nullable=False),
        sa.Column("due_at", BIGINT, nullable=False),
        sa.Column("seen_at", BIGINT, nullable=True),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_late_span_series_id_series")),
        sa.PrimaryKeyConstraint("series_id", "day", name=op.f("pk_late_span")),
    )
    with op.batch_alter_table("late_span", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_late_span_due_at"), ["due_at"], unique=False)
    # In plain SQL, which both databases take: a batch would make the table anew, and others refer to its rows.
    number = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    op.execute(
        "ALTER TABLE alarm ADD COLUMN origin VARCHAR(10) DEFAULT 'live' NOT NULL"
        " CONSTRAINT ck_alarm_origin CHECK (origin IN ('live', 'late', 'withdrawn'))"
    )
    op.execute(
        f"ALTER TABLE alarm ADD COLUMN exceeds_id {number}"
        " CONSTRAINT fk_alarm_exceeds_id_alarm REFERENCES alarm (id)"
    )
    # A record of the past was made recovered, by the readings alone.
    op.execute(
        "UPDATE alarm SET origin = 'late' WHERE state IN ('recovered', 'closed') AND recovered_at = opened_at"
        " AND rule IN ('above', 'below')"
    )
