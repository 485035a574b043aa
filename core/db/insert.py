"""Insert rows unless they are there, or in place of those that are: what exists once, whoever comes first.

Rows are written in the order of their primary key, where they have one before they are written: two that write the same
at once wait for each other, but never crosswise, which PostgreSQL would end with an error for one of them.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, cast

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from core.db.record import Record

# Both name the bare table: of entities the ORM makes twice the work. A statement is made once, since that takes longer
# than what it does.


def insert_missing(tx: Session, table: type[Record], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving out those that a unique constraint already has; column defaults apply."""
    if rows:
        tx.execute(_missing(table, tx.get_bind().dialect.name), _in_order(table, rows))


def upsert(tx: Session, table: type[Record], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or give those whose primary key is there their other columns."""
    if rows:
        tx.execute(_upsert(table, tx.get_bind().dialect.name, tuple(rows[0])), _in_order(table, rows))


def _in_order(table: type[Record], rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    key = [column.name for column in table.__table__.primary_key]
    return sorted(rows, key=itemgetter(*key)) if rows[0].keys() >= set(key) else list(rows)


@cache
def _missing(table: type[Record], dialect: str) -> Insert:
    return _insert(table, dialect).on_conflict_do_nothing()


@cache
def _upsert(table: type[Record], dialect: str, columns: tuple[str, ...]) -> Insert:
    made = _insert(table, dialect)
    key = [column.name for column in table.__table__.primary_key]
    changed = {name: made.excluded[name] for name in columns if name not in key}
    return made.on_conflict_do_update(index_elements=key, set_=changed)


def _insert(table: type[Record], dialect: str) -> "sqlite.Insert | postgresql.Insert":
    return (sqlite.insert if dialect == "sqlite" else postgresql.insert)(cast("Table", table.__table__))
