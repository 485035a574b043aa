"""Every table of the first release, the guards of its timelines, and what may only be added to.

One long file: a migration is history, and history is not rewritten.
"""

import sqlalchemy as sa
from alembic import op

from core.db.table_base import BIGINT
from core.db.overlap_guard import forbid_change, forbid_overlap

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("actor", sa.String(length=40), nullable=False),
        sa.Column("act", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=60), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_at"), ["at"], unique=False)

    op.create_table(
        "device_revision",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("revision", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_revision")),
    )
    op.create_table(
        "equipment",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_equipment")),
        sa.UniqueConstraint("code", name=op.f("uq_equipment_code")),
    )
    op.create_table(
        "follow_cursor",
        sa.Column("shard", sa.String(length=2), nullable=False),
        sa.Column("position", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("shard", name=op.f("pk_follow_cursor")),
    )
    op.create_table(
        "gateway",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("number", sa.String(length=32), nullable=False),
        sa.Column("namespace", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway")),
        sa.UniqueConstraint("number", name=op.f("uq_gateway_number")),
    )
    op.create_table(
        "probe",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("namespace", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("interval", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probe")),
        sa.UniqueConstraint("namespace", "code", name=op.f("uq_probe_namespace_code")),
    )
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

    op.create_table(
        "tick",
        sa.Column("name", sa.String(length=30), nullable=False),
        sa.Column("due_at", BIGINT, nullable=False),
        sa.Column("ran_at", BIGINT, nullable=True),
        sa.Column("detail", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tick")),
    )
    op.create_table(
        "unit",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("code", sa.String(length=12), nullable=True),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("level", sa.String(length=10), nullable=False),
        sa.Column("parent_id", BIGINT, nullable=True),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("timezone", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["unit.id"], name=op.f("fk_unit_parent_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unit")),
        sa.UniqueConstraint("code", name=op.f("uq_unit_code")),
        sa.UniqueConstraint("path", name=op.f("uq_unit_path")),
    )
    op.create_table(
        "wechat_token",
        sa.Column("app_id", sa.String(length=40), nullable=False),
        sa.Column("token", sa.String(length=600), nullable=True),
        sa.Column("expires_at", BIGINT, nullable=True),
        sa.Column("lease", sa.String(length=32), nullable=True),
        sa.Column("lease_until", BIGINT, nullable=True),
        sa.PrimaryKeyConstraint("app_id", name=op.f("pk_wechat_token")),
    )
    op.create_table(
        "api_token",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("expires_at", BIGINT, nullable=True),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_api_token_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("name", name=op.f("uq_api_token_name")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_token_token_hash")),
    )
    op.create_table(
        "equipment_unit",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("equipment_id", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_equipment_unit_span")),
        sa.ForeignKeyConstraint(
            ["equipment_id"], ["equipment.id"], name=op.f("fk_equipment_unit_equipment_id_equipment")
        ),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_equipment_unit_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_equipment_unit")),
    )
    with op.batch_alter_table("equipment_unit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_equipment_unit_equipment_id"), ["equipment_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_equipment_unit_unit_id"), ["unit_id"], unique=False)

    op.create_table(
        "gateway_unit",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("gateway_id", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_gateway_unit_span")),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_gateway_unit_gateway_id_gateway")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_gateway_unit_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gateway_unit")),
    )
    with op.batch_alter_table("gateway_unit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_gateway_unit_gateway_id"), ["gateway_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_gateway_unit_unit_id"), ["unit_id"], unique=False)

    op.create_table(
        "maintenance_window",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("equipment_id", BIGINT, nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_maintenance_window_span")),
        sa.ForeignKeyConstraint(
            ["equipment_id"], ["equipment.id"], name=op.f("fk_maintenance_window_equipment_id_equipment")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance_window")),
    )
    with op.batch_alter_table("maintenance_window", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_maintenance_window_equipment_id"), ["equipment_id"], unique=False)

    op.create_table(
        "person",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("phone", sa.LargeBinary(), nullable=True),
        sa.Column("phone_index", sa.LargeBinary(), nullable=True),
        sa.Column("openid", sa.String(length=64), nullable=True),
        sa.Column("unreachable_since", BIGINT, nullable=True),
        sa.Column("left_at", BIGINT, nullable=True),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_person_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person")),
        sa.UniqueConstraint("openid", name=op.f("uq_person_openid")),
        sa.UniqueConstraint("unit_id", "name", name=op.f("uq_person_unit_id_name")),
    )
    with op.batch_alter_table("person", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_person_phone_index"), ["phone_index"], unique=False)

    op.create_table(
        "probe_gateway",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("probe_id", BIGINT, nullable=False),
        sa.Column("gateway_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_probe_gateway_span")),
        sa.ForeignKeyConstraint(["gateway_id"], ["gateway.id"], name=op.f("fk_probe_gateway_gateway_id_gateway")),
        sa.ForeignKeyConstraint(["probe_id"], ["probe.id"], name=op.f("fk_probe_gateway_probe_id_probe")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probe_gateway")),
    )
    with op.batch_alter_table("probe_gateway", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_probe_gateway_gateway_id"), ["gateway_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_probe_gateway_probe_id"), ["probe_id"], unique=False)

    op.create_table(
        "series",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("probe_id", BIGINT, nullable=False),
        sa.Column("quantity", sa.String(length=8), nullable=False),
        sa.CheckConstraint("id BETWEEN 1 AND 16777215", name=op.f("ck_series_below_2_24")),
        sa.ForeignKeyConstraint(["probe_id"], ["probe.id"], name=op.f("fk_series_probe_id_probe")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("probe_id", "quantity", name=op.f("uq_series_probe_id_quantity")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "zone",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("equipment_id", BIGINT, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("profile", sa.String(length=30), nullable=False),
        sa.Column("low", BIGINT, nullable=True),
        sa.Column("high", BIGINT, nullable=True),
        sa.Column("delay", BIGINT, nullable=True),
        sa.Column("hysteresis", BIGINT, nullable=True),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name=op.f("fk_zone_equipment_id_equipment")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_zone")),
        sa.UniqueConstraint("equipment_id", "kind", name=op.f("uq_zone_equipment_id_kind")),
    )
    op.create_table(
        "account",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("username", sa.String(length=50), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=False),
        sa.Column("person_id", BIGINT, nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("failures", BIGINT, nullable=False),
        sa.Column("locked_until", BIGINT, nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_account_person_id_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("username", name=op.f("uq_account_username")),
    )
    op.create_table(
        "alarm",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("zone_id", BIGINT, nullable=False),
        sa.Column("equipment_id", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("probe_id", BIGINT, nullable=False),
        sa.Column("rule", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("handling", sa.String(length=16), nullable=False),
        sa.Column("cycle", BIGINT, nullable=False),
        sa.Column("opened_at", BIGINT, nullable=False),
        sa.Column("onset_at", BIGINT, nullable=False),
        sa.Column("ended_at", BIGINT, nullable=True),
        sa.Column("recovered_at", BIGINT, nullable=True),
        sa.Column("closed_at", BIGINT, nullable=True),
        sa.Column("acknowledged_at", BIGINT, nullable=True),
        sa.Column("acknowledged_by", BIGINT, nullable=True),
        sa.Column("acknowledged_through", sa.String(length=10), nullable=True),
        sa.Column("opening_value", BIGINT, nullable=True),
        sa.Column("peak", BIGINT, nullable=True),
        sa.Column("limit", BIGINT, nullable=True),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.CheckConstraint("handling IN ('unacknowledged', 'acknowledged', 'handled')", name=op.f("ck_alarm_handling")),
        sa.CheckConstraint("state IN ('open', 'recovered', 'closed')", name=op.f("ck_alarm_state")),
        sa.ForeignKeyConstraint(["acknowledged_by"], ["person.id"], name=op.f("fk_alarm_acknowledged_by_person")),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name=op.f("fk_alarm_equipment_id_equipment")),
        sa.ForeignKeyConstraint(["probe_id"], ["probe.id"], name=op.f("fk_alarm_probe_id_probe")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_alarm_unit_id_unit")),
        sa.ForeignKeyConstraint(["zone_id"], ["zone.id"], name=op.f("fk_alarm_zone_id_zone")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm")),
    )
    with op.batch_alter_table("alarm", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alarm_unit_id_alarm_state"), ["unit_id", "state"], unique=False)
        batch_op.create_index(batch_op.f("ix_alarm_zone_id"), ["zone_id"], unique=False)
        batch_op.create_index(
            "uq_alarm_open",
            ["zone_id", "rule"],
            unique=True,
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        )

    op.create_table(
        "contact",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=True),
        sa.Column("equipment_id", BIGINT, nullable=True),
        sa.Column("level", BIGINT, nullable=False),
        sa.Column("person_id", BIGINT, nullable=False),
        sa.CheckConstraint("(unit_id IS NULL) <> (equipment_id IS NULL)", name=op.f("ck_contact_one_owner")),
        sa.CheckConstraint("level BETWEEN 1 AND 3", name=op.f("ck_contact_level")),
        sa.ForeignKeyConstraint(["equipment_id"], ["equipment.id"], name=op.f("fk_contact_equipment_id_equipment")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_contact_person_id_person")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_contact_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact")),
        sa.UniqueConstraint("equipment_id", "level", "person_id", name=op.f("uq_contact_equipment_id_level_person_id")),
        sa.UniqueConstraint("unit_id", "level", "person_id", name=op.f("uq_contact_unit_id_level_person_id")),
    )
    with op.batch_alter_table("contact", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_contact_person_id"), ["person_id"], unique=False)

    op.create_table(
        "probe_zone",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("probe_id", BIGINT, nullable=False),
        sa.Column("zone_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_probe_zone_span")),
        sa.ForeignKeyConstraint(["probe_id"], ["probe.id"], name=op.f("fk_probe_zone_probe_id_probe")),
        sa.ForeignKeyConstraint(["zone_id"], ["zone.id"], name=op.f("fk_probe_zone_zone_id_zone")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probe_zone")),
    )
    with op.batch_alter_table("probe_zone", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_probe_zone_probe_id"), ["probe_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_probe_zone_zone_id"), ["zone_id"], unique=False)

    op.create_table(
        "rule_state",
        sa.Column("series_id", BIGINT, nullable=False),
        sa.Column("rule", sa.String(length=16), nullable=False),
        sa.Column("zone_id", BIGINT, nullable=False),
        sa.Column("condition", sa.String(length=10), nullable=False),
        sa.Column("due_at", BIGINT, nullable=True),
        sa.Column("memory", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", BIGINT, nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_rule_state_series_id_series")),
        sa.ForeignKeyConstraint(["zone_id"], ["zone.id"], name=op.f("fk_rule_state_zone_id_zone")),
        sa.PrimaryKeyConstraint("series_id", "rule", name=op.f("pk_rule_state")),
    )
    with op.batch_alter_table("rule_state", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rule_state_due_at"), ["due_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_rule_state_zone_id_rule_state_rule"), ["zone_id", "rule"], unique=False)

    op.create_table(
        "series_state",
        sa.Column("series_id", BIGINT, nullable=False),
        sa.Column("shard", sa.String(length=2), nullable=False),
        sa.Column("newest_at", BIGINT, nullable=False),
        sa.Column("received_at", BIGINT, nullable=True),
        sa.Column("value", BIGINT, nullable=True),
        sa.Column("q", BIGINT, nullable=False),
        sa.Column("recent", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_series_state_series_id_series")),
        sa.PrimaryKeyConstraint("series_id", name=op.f("pk_series_state")),
    )
    op.create_table(
        "alarm_event",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("alarm_id", BIGINT, nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("person_id", BIGINT, nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_alarm_event_alarm_id_alarm")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_alarm_event_person_id_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_event")),
    )
    with op.batch_alter_table("alarm_event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alarm_event_alarm_id"), ["alarm_id"], unique=False)

    op.create_table(
        "alarm_step",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("alarm_id", BIGINT, nullable=False),
        sa.Column("cycle", BIGINT, nullable=False),
        sa.Column("tier", BIGINT, nullable=False),
        sa.Column("turn", BIGINT, nullable=False),
        sa.Column("due_at", BIGINT, nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("fired_at", BIGINT, nullable=True),
        sa.CheckConstraint("state IN ('due', 'held', 'suppressed', 'fired', 'cancelled')", name=op.f("ck_alarm_step_state")),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_alarm_step_alarm_id_alarm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarm_step")),
        sa.UniqueConstraint("alarm_id", "cycle", "tier", "turn", name=op.f("uq_alarm_step_alarm_id_cycle_tier_turn")),
    )
    with op.batch_alter_table("alarm_step", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_alarm_step_state_alarm_step_due_at"), ["state", "due_at"], unique=False)

    op.create_table(
        "grant",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("account_id", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_grant_span")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_grant_account_id_account")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_grant_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grant")),
    )
    with op.batch_alter_table("grant", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_grant_account_id"), ["account_id"], unique=False)

    op.create_table(
        "handling_record",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("alarm_id", BIGINT, nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("by", sa.String(length=100), nullable=False),
        sa.Column("cause", sa.String(length=300), nullable=False),
        sa.Column("action", sa.String(length=300), nullable=False),
        sa.Column("disposition", sa.String(length=300), nullable=False),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_handling_record_alarm_id_alarm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_handling_record")),
        sa.UniqueConstraint("alarm_id", name=op.f("uq_handling_record_alarm_id")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("key", sa.String(length=120), nullable=False),
        sa.Column("alarm_id", BIGINT, nullable=True),
        sa.Column("cycle", BIGINT, nullable=False),
        sa.Column("tier", BIGINT, nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("person_id", BIGINT, nullable=False),
        sa.Column("channel", sa.String(length=12), nullable=False),
        sa.Column("address", sa.String(length=100), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("created_at", BIGINT, nullable=False),
        sa.Column("sent_at", BIGINT, nullable=True),
        sa.Column("attempts", BIGINT, nullable=False),
        sa.Column("next_at", BIGINT, nullable=False),
        sa.Column("lease", sa.String(length=32), nullable=True),
        sa.Column("lease_until", BIGINT, nullable=True),
        sa.Column("receipt", sa.String(length=64), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'sent', 'failed', 'superseded')", name=op.f("ck_outbox_state")),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarm.id"], name=op.f("fk_outbox_alarm_id_alarm")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_outbox_person_id_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("key", name=op.f("uq_outbox_key")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outbox_alarm_id"), ["alarm_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_outbox_state_outbox_next_at"), ["state", "next_at"], unique=False)

    op.create_table(
        "web_session",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", BIGINT, nullable=True),
        sa.Column("person_id", BIGINT, nullable=True),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("created_at", BIGINT, nullable=False),
        sa.Column("expires_at", BIGINT, nullable=False),
        sa.CheckConstraint("(account_id IS NULL) <> (person_id IS NULL)", name=op.f("ck_web_session_one_subject")),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_web_session_account_id_account")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_web_session_person_id_person")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_web_session")),
    )
    with op.batch_alter_table("web_session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_web_session_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "attempt",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("outbox_id", BIGINT, nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("code", sa.String(length=20), nullable=False),
        sa.Column("detail", sa.String(length=300), nullable=False),
        sa.ForeignKeyConstraint(["outbox_id"], ["outbox.id"], name=op.f("fk_attempt_outbox_id_outbox")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
    )
    with op.batch_alter_table("attempt", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_attempt_outbox_id"), ["outbox_id"], unique=False)

    op.bulk_insert(sa.table("device_revision", sa.column("id"), sa.column("revision")), [{"id": 1, "revision": 0}])
    connection = op.get_bind()
    forbid_overlap(connection, "probe_zone", "probe_id")
    forbid_overlap(connection, "probe_gateway", "probe_id")
    forbid_overlap(connection, "gateway_unit", "gateway_id")
    forbid_overlap(connection, "equipment_unit", "equipment_id")
    forbid_change(connection, "audit")
    forbid_change(connection, "alarm_event")
