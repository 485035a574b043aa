"""Accounts are no longer locked by wrong passwords: who guesses is slowed instead."""

from alembic import op

revision = "0007"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite drops a column by itself; a copy of the table would take its references along.
    op.drop_column("account", "failures")
    op.drop_column("account", "locked_until")
