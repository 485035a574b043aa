"""Alarms that open again keep their first t0, and say how long they were out in all."""

import json

import sqlalchemy as sa
from alembic import op

from core.db.table_base import BIGINT

revision = "0006"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("alarm", schema=None) as batch_op:
        batch_op.add_column(sa.Column("cycle_opened_at", BIGINT, nullable=True))
        batch_op.add_column(sa.Column("cycle_onset_at", BIGINT, nullable=True))
        batch_op.add_column(sa.Column("probe_ended_at", BIGINT, nullable=True))
        batch_op.add_column(sa.Column("earlier_out", BIGINT, nullable=False, server_default="0"))
    _tell_cycles_apart()


def _tell_cycles_apart() -> None:
    """Give alarms that had opened again their first t0 back, and what their history says of each cycle.

    `opened_at` was the opening of the last cycle. When its excursion began was not kept: from the opening it counts.
    """
    tx = op.get_bind()
    joined = sa.text("SELECT id, opened_at, onset_at FROM alarm WHERE cycle > 1")
    for alarm, opened_at, onset_at in tx.execute(joined).all():
        of_alarm = sa.text(
            "SELECT kind, at, detail FROM alarm_event WHERE alarm_id = :alarm"
            " AND kind IN ('opened', 'reopened', 'recovered') ORDER BY id"
        )
        first, onset, ended, out = opened_at, onset_at, onset_at, 0
        for kind, at, detail in tx.execute(of_alarm, {"alarm": alarm}).all():
            told = json.loads(detail)
            if kind == "opened":
                first = min(first, at)
            elif kind == "reopened":
                out += max(0, ended - onset)
                onset = ended = max(ended, at)
            else:
                ended = max(onset, told.get("ended") or onset)
        values = {"alarm": alarm, "first": first, "opened": opened_at, "onset": onset, "out": out}
        tx.execute(
            sa.text(
                "UPDATE alarm SET opened_at = :first, cycle_opened_at = :opened, cycle_onset_at = :onset,"
                " earlier_out = :out WHERE id = :alarm"
            ),
            values,
        )
