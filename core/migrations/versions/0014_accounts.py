"""Accounts of named persons; histories of passwords and accounts, substitutions, designated managers, incidents."""

import sqlalchemy as sa
from alembic import op

from core.db.overlap_guard import forbid_change, forbid_overlap
from core.db.table_base import BIGINT

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("person") as batch:
        batch.drop_constraint("uq_person_unit_id_name", type_="unique")
        batch.add_column(sa.Column("identity", sa.LargeBinary(), nullable=True))
        batch.add_column(sa.Column("identity_index", sa.LargeBinary(), nullable=True))
        batch.create_index(op.f("ix_person_unit_id_person_name"), ["unit_id", "name"])
        batch.create_index(op.f("ix_person_identity_index"), ["identity_index"])
    op.add_column("web_session", sa.Column("user_agent", sa.String(length=200), nullable=True))
    _widen_accounts()
    op.create_table(
        "used_password",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("account_id", BIGINT, nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=False),
        sa.Column("set_at", BIGINT, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_used_password_account_id_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_used_password")),
    )
    op.create_index(op.f("ix_used_password_account_id"), "used_password", ["account_id"])
    op.execute(
        "INSERT INTO used_password (account_id, password_hash, set_at) "
        "SELECT id, password_hash, password_set_at FROM account ORDER BY id"
    )
    op.create_table(
        "account_event",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("account_id", BIGINT, nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("actor", sa.String(length=40), nullable=False),
        sa.Column("unit_id", BIGINT, nullable=True),
        sa.Column("role", sa.String(length=20), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_account_event_account_id_account")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_account_event_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_event")),
    )
    op.create_index(op.f("ix_account_event_account_id"), "account_event", ["account_id"])
    forbid_change(op.get_bind(), "account_event")
    op.create_table(
        "substitution",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("absent_id", BIGINT, nullable=False),
        sa.Column("substitute_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=False),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_substitution_span")),
        sa.CheckConstraint("absent_id <> substitute_id", name=op.f("ck_substitution_two_accounts")),
        sa.ForeignKeyConstraint(["absent_id"], ["account.id"], name=op.f("fk_substitution_absent_id_account")),
        sa.ForeignKeyConstraint(["substitute_id"], ["account.id"], name=op.f("fk_substitution_substitute_id_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_substitution")),
    )
    op.create_index(op.f("ix_substitution_absent_id"), "substitution", ["absent_id"])
    op.create_index(op.f("ix_substitution_substitute_id"), "substitution", ["substitute_id"])
    op.create_table(
        "designated_manager",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("person_id", BIGINT, nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_designated_manager_span")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_designated_manager_person_id_person")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_designated_manager_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_designated_manager")),
    )
    op.create_index(op.f("ix_designated_manager_unit_id"), "designated_manager", ["unit_id"])
    forbid_overlap(op.get_bind(), "designated_manager", "unit_id")
    op.create_table(
        "account_incident",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("account_id", BIGINT, nullable=False),
        sa.Column("opened_at", BIGINT, nullable=False),
        sa.Column("due_at", BIGINT, nullable=False),
        sa.Column("resolved_at", BIGINT, nullable=True),
        sa.Column("resolved_by", sa.String(length=40), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_account_incident_account_id_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_incident")),
    )
    op.create_index(op.f("ix_account_incident_account_id"), "account_incident", ["account_id"])


def _widen_accounts() -> None:
    """Give an account the unit and role of its first grant, else the unit of its person; passwords age from now on."""
    with op.batch_alter_table("account") as batch:
        batch.add_column(sa.Column("unit_id", BIGINT, nullable=True))
        batch.add_column(sa.Column("account_type", sa.String(length=20), nullable=False, server_default="user"))
        batch.add_column(sa.Column("state", sa.String(length=10), nullable=False, server_default="open"))
        batch.add_column(sa.Column("password_set_at", BIGINT, nullable=True))
        batch.create_foreign_key(op.f("fk_account_unit_id_unit"), "unit", ["unit_id"], ["id"])
        batch.create_index(op.f("ix_account_unit_id"), ["unit_id"])
    op.execute("UPDATE account SET state = 'closed' WHERE disabled")
    first = 'SELECT min(id) FROM "grant" WHERE "grant".account_id = account.id'
    op.execute(
        "UPDATE account SET "
        f'unit_id = (SELECT unit_id FROM "grant" WHERE id = ({first})), '  # noqa: S608  # names of our own tables
        f"account_type = coalesce((SELECT role FROM \"grant\" WHERE id = ({first})), 'user')"
    )
    op.execute(
        "UPDATE account SET unit_id = (SELECT unit_id FROM person WHERE person.id = account.person_id) "
        "WHERE unit_id IS NULL"
    )
    # When a password was chosen is not known: its age begins with the last change that the audit log has.
    op.execute("UPDATE account SET password_set_at = coalesce((SELECT max(at) FROM audit), 0)")
    with op.batch_alter_table("account") as batch:
        batch.alter_column("account_type", server_default=None)
        batch.alter_column("state", server_default=None)
        batch.drop_column("disabled")
