"""Applications with their rows, submissions, review steps, decisions and executed effects; facts of hardware."""

import sqlalchemy as sa
from alembic import op

from core.db.overlap_guard import forbid_change
from core.db.table_base import BIGINT

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "application",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("kind_version", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("linked_id", BIGINT, nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("round", BIGINT, nullable=False),
        sa.Column("revision", BIGINT, nullable=False),
        sa.Column("created_at", BIGINT, nullable=False),
        sa.Column("created_by", sa.String(length=40), nullable=False),
        sa.Column("filed_at", BIGINT, nullable=True),
        sa.Column("executed_at", BIGINT, nullable=True),
        sa.Column("differences", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "state IN ('draft', 'in_review', 'returned', 'withdrawn', 'filed', 'blocked', 'executed')",
            name=op.f("ck_application_state"),
        ),
        sa.ForeignKeyConstraint(["linked_id"], ["application.id"], name=op.f("fk_application_linked_id_application")),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_application_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_application")),
    )
    with op.batch_alter_table("application", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_application_unit_id_application_state"), ["unit_id", "state"], unique=False
        )

    op.create_table(
        "application_row",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("application_id", BIGINT, nullable=False),
        sa.Column("round", BIGINT, nullable=False),
        sa.Column("number", BIGINT, nullable=False),
        sa.Column("written", sa.Text(), nullable=False),
        sa.Column("resolved", sa.Text(), nullable=False),
        sa.Column("payer", sa.String(length=16), nullable=True),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"], ["application.id"], name=op.f("fk_application_row_application_id_application")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_application_row")),
        sa.UniqueConstraint(
            "application_id", "round", "number", name=op.f("uq_application_row_application_id_round_number")
        ),
    )
    op.create_table(
        "attachment",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("application_id", BIGINT, nullable=False),
        sa.Column("round", BIGINT, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("media_type", sa.String(length=60), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("added_at", BIGINT, nullable=False),
        sa.Column("added_by", sa.String(length=40), nullable=False),
        sa.CheckConstraint("length(content) BETWEEN 1 AND 1048576", name=op.f("ck_attachment_content")),
        sa.ForeignKeyConstraint(
            ["application_id"], ["application.id"], name=op.f("fk_attachment_application_id_application")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachment")),
    )
    with op.batch_alter_table("attachment", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_attachment_application_id_attachment_round"), ["application_id", "round"], unique=False
        )

    op.create_table(
        "execution",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("application_id", BIGINT, nullable=False),
        sa.Column("row", BIGINT, nullable=False),
        sa.Column("effect", sa.String(length=200), nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("recorded_at", BIGINT, nullable=False),
        sa.Column("actor", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"], ["application.id"], name=op.f("fk_execution_application_id_application")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution")),
        sa.UniqueConstraint("application_id", "row", "effect", name=op.f("uq_execution_application_id_row_effect")),
    )
    op.create_table(
        "probe_window",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("probe_id", BIGINT, nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("since", BIGINT, nullable=False),
        sa.Column("until", BIGINT, nullable=True),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.CheckConstraint("until IS NULL OR until > since", name=op.f("ck_probe_window_span")),
        sa.ForeignKeyConstraint(["probe_id"], ["probe.id"], name=op.f("fk_probe_window_probe_id_probe")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probe_window")),
    )
    with op.batch_alter_table("probe_window", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_probe_window_probe_id"), ["probe_id"], unique=False)

    op.create_table(
        "review_step",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("application_id", BIGINT, nullable=False),
        sa.Column("round", BIGINT, nullable=False),
        sa.Column("unit_id", BIGINT, nullable=False),
        sa.Column("level", sa.String(length=10), nullable=False),
        sa.Column("opened_at", BIGINT, nullable=False),
        sa.Column("due_at", BIGINT, nullable=True),
        sa.Column("closed_at", BIGINT, nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"], ["application.id"], name=op.f("fk_review_step_application_id_application")
        ),
        sa.ForeignKeyConstraint(["unit_id"], ["unit.id"], name=op.f("fk_review_step_unit_id_unit")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_step")),
    )
    with op.batch_alter_table("review_step", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_review_step_application_id_review_step_round"), ["application_id", "round"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_review_step_unit_id_review_step_closed_at"), ["unit_id", "closed_at"], unique=False
        )
        batch_op.create_index(
            "uq_review_step_open",
            ["application_id"],
            unique=True,
            sqlite_where=sa.text("closed_at IS NULL"),
            postgresql_where=sa.text("closed_at IS NULL"),
        )

    op.create_table(
        "submission",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("application_id", BIGINT, nullable=False),
        sa.Column("round", BIGINT, nullable=False),
        sa.Column("revision", BIGINT, nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("actor", sa.String(length=40), nullable=False),
        sa.Column("person_id", BIGINT, nullable=True),
        sa.Column("person_name", sa.String(length=60), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"], ["application.id"], name=op.f("fk_submission_application_id_application")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_submission_person_id_person")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submission")),
        sa.UniqueConstraint("application_id", "round", name=op.f("uq_submission_application_id_round")),
    )
    op.create_table(
        "decision",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("step_id", BIGINT, nullable=False),
        sa.Column("application_id", BIGINT, nullable=False),
        sa.Column("round", BIGINT, nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("opinion", sa.String(length=500), nullable=False),
        sa.Column("at", BIGINT, nullable=False),
        sa.Column("actor", sa.String(length=40), nullable=False),
        sa.Column("person_id", BIGINT, nullable=True),
        sa.Column("person_name", sa.String(length=60), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("outcome IN ('passed_up', 'final_here', 'refused')", name=op.f("ck_decision_outcome")),
        sa.ForeignKeyConstraint(
            ["application_id"], ["application.id"], name=op.f("fk_decision_application_id_application")
        ),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_decision_person_id_person")),
        sa.ForeignKeyConstraint(["step_id"], ["review_step.id"], name=op.f("fk_decision_step_id_review_step")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision")),
        sa.UniqueConstraint("step_id", name=op.f("uq_decision_step_id")),
    )
    with op.batch_alter_table("decision", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_decision_application_id_decision_round"), ["application_id", "round"], unique=False
        )
    for table in ("submission", "decision", "execution"):
        forbid_change(op.get_bind(), table)
    # In plain SQL, which both databases take: a batch would make the tables anew, and others refer to their rows.
    number = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    for table in ("equipment", "gateway", "probe"):
        for column, kind in (
            ("supplier", "VARCHAR(100)"),
            ("source", "VARCHAR(16)"),
            ("warranty_start", "DATE"),
            ("warranty_end", "DATE"),
            ("installed_on", "DATE"),
            ("state", "VARCHAR(10)"),
            ("holder_id", f"{number} CONSTRAINT fk_{table}_holder_id_unit REFERENCES unit (id)"),
            ("returned_at", number),
            ("returned_by", "VARCHAR(60)"),
        ):
            op.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
