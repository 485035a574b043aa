"""The number of a step's repeat is called that. The history of alarms is append only: its older events say `turn`."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("alarm_step", "turn", new_column_name="repeat")
    with op.batch_alter_table("alarm_step", schema=None) as batch_op:
        batch_op.drop_constraint("uq_alarm_step_alarm_id_cycle_tier_turn", type_="unique")
        batch_op.create_unique_constraint(
            "uq_alarm_step_alarm_id_cycle_tier_repeat", ["alarm_id", "cycle", "tier", "repeat"]
        )
