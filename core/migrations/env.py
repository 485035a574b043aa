"""Alembic environment of the migrations. It runs on the connection that `core.migrations.migrate` passes."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import BigInteger

from core.migrations.all_tables import METADATA


def render_bigint(kind: str, item: object, to: AutogenContext) -> str | Literal[False]:
    """Render the integer type of ids and instants by its name, `BIGINT`."""
    if kind == "type" and isinstance(item, BigInteger):
        to.imports.add("from core.db.table_base import BIGINT")
        return "BIGINT"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    render_item=render_bigint,
)
with context.begin_transaction():
    context.run_migrations()
