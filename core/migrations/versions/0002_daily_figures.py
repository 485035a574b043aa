"""Daily figures, what of them is due, and the versions of limits and intervals by which they are computed."""

import sqlalchemy as sa
from alembic import op

from core.db.table_base import BIGINT
from core.db.overlap_guard import forbid_change

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "rollup_cursor",
        sa.Column("shard", sa.String(length=2), nullable=False),
        sa.Column("position", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("shard", name=op.f("pk_rollup_cursor")),
    )
    op.create_table(
        "interval_version",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("probe_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("interval", BIGINT, nullable=False),
        sa.ForeignKeyConstraint(["probe_id"], ["probe.id"], name=op.f("fk_interval_version_probe_id_probe")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_interval_version")),
    )
    with op.batch_alter_table("interval_version", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_interval_version_probe_id"), ["probe_id"], unique=False)

    op.create_table(
        "daily",
        sa.Column("series_id", BIGINT, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=False),
        sa.Column("zone_id", BIGINT, nullable=True),
        sa.Column("unit_id", BIGINT, nullable=True),
        sa.Column("limits", BIGINT, nullable=False),
        sa.Column("low", BIGINT, nullable=True),
        sa.Column("high", BIGINT, nullable=True),
        sa.Column("n", BIGINT, nullable=False),
        sa.Column("failed", BIGINT, nullable=False),
        sa.Column("min", BIGINT, nullable=True),
        sa.Column("max", BIGINT, nullable=True),
        sa.Column("sum", BIGINT, nullable=False),
        sa.Column("above", BIGINT, nullable=False),
        sa.Column("below", BIGINT, nullable=False),
        sa.Column("gap", BIGINT, nullable=False),
        sa.Column("crc", BIGINT, nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_daily_series_id_series")),
        sa.PrimaryKeyConstraint("series_id", "day", "since", name=op.f("pk_daily")),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "due_day",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("series_id", BIGINT, nullable=False),
        sa.Column("stamp", BIGINT, nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_due_day_series_id_series")),
        sa.PrimaryKeyConstraint("day", "series_id", name=op.f("pk_due_day")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "limits_version",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("zone_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("profile", sa.String(length=30), nullable=False),
        sa.Column("low", BIGINT, nullable=True),
        sa.Column("high", BIGINT, nullable=True),
        sa.ForeignKeyConstraint(["zone_id"], ["zone.id"], name=op.f("fk_limits_version_zone_id_zone")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_limits_version")),
    )
    with op.batch_alter_table("limits_version", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_limits_version_zone_id"), ["zone_id"], unique=False)

    op.create_table(
        "rolled_up",
        sa.Column("series_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("upto", BIGINT, nullable=False),
        sa.Column("stays", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_rolled_up_series_id_series")),
        sa.PrimaryKeyConstraint("series_id", name=op.f("pk_rolled_up")),
    )
    # What zones are held to now counts as having held since ever: there were no versions.
    op.execute(
        "INSERT INTO limits_version (zone_id, since, profile, low, high) SELECT id, 0, profile, low, high FROM zone"
        " WHERE low IS NOT NULL OR high IS NOT NULL OR profile <> 'china-2017'"
    )
    for table in ("limits_version", "interval_version"):
        forbid_change(op.get_bind(), table)
