"""Unit codes as a timeline, the year of the last yearly maintenance, and the hardware checklist of units."""

import sqlalchemy as sa
from alembic import op

from core.db.overlap_guard import forbid_overlap
from core.db.table_base import BIGINT

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("unit", sa.Column("maintained_year", BIGINT, nullable=True))
    op.create_table(
        "unit_code",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("code", sa.String(10), nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.Column("national_from", BIGINT, nullable=False),
        sa.Column("authorization", sa.String(60), nullable=False),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_unit_code_span")),
        sa.CheckConstraint("length(code) = 10", name=op.f("ck_unit_code_ten_digits")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_unit_code_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unit_code")),
        sa.UniqueConstraint("code", name=op.f("uq_unit_code_code")),
    )
    op.create_index(op.f("ix_unit_code_unit_id"), "unit_code", ["unit_id"])
    forbid_overlap(op.get_bind(), "unit_code", "unit_id")
    # Codes that imports brought before: ten digits of a point of vaccination.
    digits = "code NOT GLOB '*[^0-9]*'" if op.get_bind().dialect.name == "sqlite" else "code ~ '^[0-9]{10}$'"
    op.execute(
        'INSERT INTO unit_code (unit_id, code, since, national_from, "authorization") '
        f"SELECT id, code, coalesce(since, 0), coalesce(since, 0), 'import' FROM unit "
        f"WHERE kind = 'pov' AND length(code) = 10 AND {digits} ORDER BY id"
    )
    op.execute(
        "UPDATE unit SET division = substr(code, 1, 6) WHERE division IS NULL "
        "AND id IN (SELECT unit_id FROM unit_code)"
    )
    op.create_table(
        "unit_hardware",
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("quantity", BIGINT, nullable=False),
        sa.Column("recorded_at", BIGINT, nullable=False),
        sa.CheckConstraint("quantity >= 0", name=op.f("ck_unit_hardware_quantity")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_unit_hardware_unit_id_unit")),
        sa.PrimaryKeyConstraint("unit_id", "kind", name=op.f("pk_unit_hardware")),
    )
