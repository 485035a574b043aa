"""The parent of a unit is a timeline; units have attributes, can be stopped, and a temporary site has no code."""

import sqlalchemy as sa
from alembic import op

from core.db.overlap_guard import forbid_overlap
from core.db.table_base import BIGINT

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NO_CODE = "CONSTRAINT ck_unit_temp_site_code CHECK (kind <> 'temp_site' OR code IS NULL)"


def upgrade() -> None:
    # A temporary site that was given a code keeps it in its name: it reports under its parent's code.
    op.execute(
        "UPDATE unit SET name = substr(name, 1, 85) || ' (' || code || ')', code = NULL "
        "WHERE kind = 'temp_site' AND code IS NOT NULL"
    )
    if op.get_bind().dialect.name == "sqlite":
        # Constraints come with new columns: a copy of the table would take its references along.
        op.execute(f"ALTER TABLE unit ADD COLUMN since BIGINT {NO_CODE}".replace("BIGINT", "INTEGER"))
        op.execute("ALTER TABLE unit ADD COLUMN institution_id INTEGER "
                   "CONSTRAINT fk_unit_institution_id_unit REFERENCES unit (id)")
    else:
        op.add_column("unit", sa.Column("since", BIGINT, nullable=True))
        op.add_column("unit", sa.Column("institution_id", BIGINT, nullable=True))
        op.execute(f"ALTER TABLE unit ADD {NO_CODE}")
        op.create_foreign_key("fk_unit_institution_id_unit", "unit", "unit", ["institution_id"], ["id"])
    op.add_column("unit", sa.Column("until", BIGINT, nullable=True))
    op.add_column("unit", sa.Column("division", sa.String(6), nullable=True))
    op.add_column("unit", sa.Column("uscc", sa.String(18), nullable=True))
    op.add_column("unit", sa.Column("entity", sa.String(12), nullable=True))
    op.add_column("unit", sa.Column("grade", sa.String(20), nullable=True))
    op.add_column("unit", sa.Column("address", sa.String(200), nullable=True))
    op.add_column("unit", sa.Column("telephone", sa.String(30), nullable=True))
    op.create_table(
        "unit_parent",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("parent_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_unit_parent_span")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_unit_parent_unit_id_unit")),
        sa.ForeignKeyConstraint(["parent_id"], ["unit.id"], name=op.f("fk_unit_parent_parent_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unit_parent")),
    )
    op.create_index(op.f("ix_unit_parent_unit_id"), "unit_parent", ["unit_id"])
    op.create_index(op.f("ix_unit_parent_parent_id"), "unit_parent", ["parent_id"])
    # As far as is known, every unit stood where it stands.
    op.execute(
        "INSERT INTO unit_parent (unit_id, parent_id, since) "
        "SELECT id, parent_id, 0 FROM unit WHERE parent_id IS NOT NULL ORDER BY id"
    )
    forbid_overlap(op.get_bind(), "unit_parent", "unit_id")
    op.create_table(
        "unit_business",
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("business", sa.String(12), nullable=False),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_unit_business_unit_id_unit")),
        sa.PrimaryKeyConstraint("unit_id", "business", name=op.f("pk_unit_business")),
    )
