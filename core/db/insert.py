"""Insert rows unless they are there: what makes a message, a step or a lease exist once, whoever comes first."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from core.db.record import Record


def insert_missing(tx: Session, table: type[Record], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving out those that a unique constraint already has; column defaults apply."""
    if not rows:
        return
    insert = sqlite.insert if tx.get_bind().dialect.name == "sqlite" else postgresql.insert
    tx.execute(insert(table).on_conflict_do_nothing(), list(rows))
