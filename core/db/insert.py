"""Bulk insert and upsert of many rows.

Rows that have a primary key are written in its order. So two transactions that write the same rows wait for each other,
but never in a cycle, which PostgreSQL would end as a deadlock.

On PostgreSQL all rows are one statement with arrays as columns; one statement for each row takes several times as long.
On SQLite the rows go straight to the driver, since SQLAlchemy's processing of each parameter takes as long as writing
it. tests/integration/test_many_rows.py tries to break it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, Literal, NamedTuple, cast

from sqlalchemy import Insert, String, Table, Text, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlalchemy.types import TypeEngine

from core.db.table_base import Record

Rows = Sequence[Mapping[str, Any]]
"""Rows with the same columns; columns left out get their defaults."""
_OnConflict = Literal["fail", "skip", "replace"]


def insert_all(tx: Session, table: type[Record], rows: Rows) -> None:
    """Insert rows.

    Raises: IntegrityError if one exists already; the transaction must be rolled back then.
    """
    _write(tx, table, rows, "fail")


def insert_missing(tx: Session, table: type[Record], rows: Rows) -> None:
    """Insert rows, except those that a unique constraint refuses."""
    _write(tx, table, rows, "skip")


def upsert(tx: Session, table: type[Record], rows: Rows) -> None:
    """Insert rows; if a primary key exists, update the other columns. Of two rows with one key the last counts."""
    _write(tx, table, rows, "replace")


class _SqliteInsert(NamedTuple):
    """Statement for SQLite's driver."""

    sql: str
    parameters_of: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    """Returns the parameters of a row, in the order of the statement."""
    defaults: Mapping[str, Any]
    converters: Mapping[str, Callable[[Any], Any]]
    """Conversions for columns whose values the driver doesn't accept as they are."""


def _write(tx: Session, table: type[Record], rows: Rows, on_conflict: _OnConflict) -> None:
    if not rows:
        return
    columns, ordered = tuple(rows[0]), _in_key_order(table, rows, on_conflict)
    if any(len(row) != len(columns) for row in rows):
        msg = f"rows of {table.__tablename__} with different columns"
        raise ValueError(msg)
    if tx.get_bind().dialect.name == "sqlite":
        sql, parameters_of, defaults, converters = _sqlite_insert(table, columns, on_conflict)
        complete_rows = [{**defaults, **row} for row in ordered]
        for name, convert in converters.items():
            for row in complete_rows:
                row[name] = convert(row[name])
        tx.connection().exec_driver_sql(sql, list(map(parameters_of, complete_rows)))
    else:
        statement = _postgresql_insert(table, columns, on_conflict)
        tx.execute(statement, {name: _array(table, name, ordered) for name in columns})


def _in_key_order(table: type[Record], rows: Rows, on_conflict: _OnConflict) -> Rows:
    names = [column.name for column in table.__table__.primary_key]
    if not rows[0].keys() >= set(names):
        return rows
    key = itemgetter(*names)
    return sorted({key(row): row for row in rows}.values() if on_conflict == "replace" else rows, key=key)


# Statements are cached, since building one takes longer than running it. They use the bare table, since with an entity
# the ORM does twice the work.


@cache
def _sqlite_insert(table: type[Record], columns: tuple[str, ...], on_conflict: _OnConflict) -> _SqliteInsert:
    bare = cast("Table", table.__table__)
    defaults = {}
    for column in bare.c:
        if column.name not in columns and column.default is not None:
            if not isinstance(column.default, ScalarElementColumnDefault):
                msg = f"the default of {column} is no plain value"
                raise TypeError(msg)
            defaults[column.name] = column.default.arg
    dialect = sqlite.dialect()
    insert = sqlite.insert(bare).values({name: bindparam(name) for name in (*columns, *defaults)})
    compiled = _with_conflict_clause(insert, bare, columns, on_conflict).compile(dialect=dialect)
    order = compiled.positiontup or []
    getter = itemgetter(*order)
    converters = {
        name: convert for name in order if (convert := bare.c[name].type.dialect_impl(dialect).bind_processor(dialect))
    }
    parameters_of = getter if len(order) > 1 else lambda row: (getter(row),)
    return _SqliteInsert(compiled.string, parameters_of, defaults, converters)


@cache
def _postgresql_insert(table: type[Record], columns: tuple[str, ...], on_conflict: _OnConflict) -> Insert:
    bare = cast("Table", table.__table__)
    arrays = (bindparam(name, type_=postgresql.ARRAY(_untruncated(bare.c[name].type))) for name in columns)
    rows = func.unnest(*arrays).table_valued(*columns).render_derived()
    insert = postgresql.insert(bare).from_select(columns, select(*(rows.c[name] for name in columns)))
    return _with_conflict_clause(insert, bare, columns, on_conflict)


def _with_conflict_clause(
    insert: sqlite.Insert | postgresql.Insert, bare: Table, columns: Sequence[str], on_conflict: _OnConflict
) -> sqlite.Insert | postgresql.Insert:
    if on_conflict == "skip":
        return insert.on_conflict_do_nothing()
    if on_conflict == "replace":
        key = [column.name for column in bare.primary_key]
        changed = {name: insert.excluded[name] for name in columns if name not in key}
        return insert.on_conflict_do_update(index_elements=key, set_=changed)
    return insert


def _untruncated(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type for the array. A text that is too long must fail, but a cast to VARCHAR(n) would cut it."""
    return Text() if isinstance(kind, String) else kind


def _array(table: type[Record], name: str, rows: Rows) -> list[Any]:
    values = [row[name] for row in rows]
    if isinstance(table.__table__.c[name].type, String):
        # An array doesn't accept an enum as text.
        return [None if value is None else str(value) for value in values]
    return values
