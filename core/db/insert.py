"""Insert rows unless they are there, or in place of those that are: what exists once, whoever comes first."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from core.db.record import Record

# Both name the bare table: of entities the ORM makes twice the work.


def insert_missing(tx: Session, table: type[Record], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving out those that a unique constraint already has; column defaults apply."""
    if not rows:
        return
    insert = sqlite.insert if tx.get_bind().dialect.name == "sqlite" else postgresql.insert
    tx.execute(insert(cast("Table", table.__table__)).on_conflict_do_nothing(), list(rows))


def upsert(tx: Session, table: type[Record], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or give those whose primary key is there their other columns."""
    if not rows:
        return
    insert = sqlite.insert if tx.get_bind().dialect.name == "sqlite" else postgresql.insert
    made = insert(cast("Table", table.__table__))
    key = [column.name for column in table.__table__.primary_key]
    changed = {name: made.excluded[name] for name in rows[0] if name not in key}
    tx.execute(made.on_conflict_do_update(index_elements=key, set_=changed), list(rows))
