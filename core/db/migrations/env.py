"""What Alembic runs around the migrations: always on the connection that `core.db.migrate` hands over."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import BigInteger

from core.db.tables import METADATA


def written(kind: str, item: object, to: AutogenContext) -> str | Literal[False]:
    """Write the integer of all ids and instants by its name."""
    if kind == "type" and isinstance(item, BigInteger):
        to.imports.add("from core.db.record import BIGINT")
        return "BIGINT"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    render_item=written,
)
with context.begin_transaction():
    context.run_migrations()
