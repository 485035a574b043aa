"""Insert rows, or only those that aren't there, or in place of those that are: many at a time.

Rows are written in the order of their primary key, where they have one before they are written: two that write the same
at once wait for each other, but never crosswise, which PostgreSQL would end with an error for one of them.

There all rows are one statement, whose columns are arrays: one a row takes several times as long. SQLite's driver is
given the rows as they are: looking at each parameter, as SQLAlchemy does, takes as long as writing it.
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

from core.db.record import Record

Rows = Sequence[Mapping[str, Any]]
"""All have the same columns; those left out get their defaults."""
_Where = Literal["all", "missing", "replaced"]


def insert_all(tx: Session, table: type[Record], rows: Rows) -> None:
    """Insert rows. Raises IntegrityError when one is there; the transaction must end then."""
    _write(tx, table, rows, "all")


def insert_missing(tx: Session, table: type[Record], rows: Rows) -> None:
    """Insert rows, leaving out those that a unique constraint already has."""
    _write(tx, table, rows, "missing")


def upsert(tx: Session, table: type[Record], rows: Rows) -> None:
    """Insert rows, or give those whose primary key is there their other columns; of two with a key the last counts."""
    _write(tx, table, rows, "replaced")


class _Text(NamedTuple):
    """A statement for SQLite's driver."""

    sql: str
    pick: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    """Returns its parameters of a row."""
    defaults: Mapping[str, Any]
    converted: Mapping[str, Callable[[Any], Any]]
    """Columns whose values the driver doesn't take as they are."""


def _write(tx: Session, table: type[Record], rows: Rows, where: _Where) -> None:
    if not rows:
        return
    columns, ordered = tuple(rows[0]), _in_order(table, rows, where)
    if any(len(row) != len(columns) for row in rows):
        msg = f"rows of {table.__tablename__} with different columns"
        raise ValueError(msg)
    if tx.get_bind().dialect.name == "sqlite":
        sql, pick, defaults, converted = _text(table, columns, where)
        whole = [{**defaults, **row} for row in ordered]
        for name, convert in converted.items():
            for row in whole:
                row[name] = convert(row[name])
        tx.connection().exec_driver_sql(sql, list(map(pick, whole)))
    else:
        tx.execute(_of_arrays(table, columns, where), {name: _array(table, name, ordered) for name in columns})


def _in_order(table: type[Record], rows: Rows, where: _Where) -> Rows:
    names = [column.name for column in table.__table__.primary_key]
    if not rows[0].keys() >= set(names):
        return rows
    key = itemgetter(*names)
    return sorted({key(row): row for row in rows}.values() if where == "replaced" else rows, key=key)


# Statements are made once, since that takes longer than what they do; of the bare table, since of an entity the ORM
# makes twice the work.


@cache
def _text(table: type[Record], columns: tuple[str, ...], where: _Where) -> _Text:
    bare = cast("Table", table.__table__)
    defaults = {}
    for column in bare.c:
        if column.name not in columns and column.default is not None:
            if not isinstance(column.default, ScalarElementColumnDefault):
                msg = f"the default of {column} is no plain value"
                raise TypeError(msg)
            defaults[column.name] = column.default.arg
    dialect = sqlite.dialect()
    made = sqlite.insert(bare).values({name: bindparam(name) for name in (*columns, *defaults)})
    compiled = _unless(made, bare, columns, where).compile(dialect=dialect)
    order = compiled.positiontup or []
    several = itemgetter(*order)
    converted = {
        name: convert for name in order if (convert := bare.c[name].type.dialect_impl(dialect).bind_processor(dialect))
    }
    return _Text(compiled.string, several if len(order) > 1 else lambda row: (several(row),), defaults, converted)


@cache
def _of_arrays(table: type[Record], columns: tuple[str, ...], where: _Where) -> Insert:
    bare = cast("Table", table.__table__)
    arrays = (bindparam(name, type_=postgresql.ARRAY(_whole(bare.c[name].type))) for name in columns)
    each = func.unnest(*arrays).table_valued(*columns).render_derived()
    made = postgresql.insert(bare).from_select(columns, select(*(each.c[name] for name in columns)))
    return _unless(made, bare, columns, where)


def _unless(
    made: sqlite.Insert | postgresql.Insert, bare: Table, columns: Sequence[str], where: _Where
) -> sqlite.Insert | postgresql.Insert:
    """Say what becomes of a row that is there."""
    if where == "missing":
        return made.on_conflict_do_nothing()
    if where == "replaced":
        key = [column.name for column in bare.primary_key]
        changed = {name: made.excluded[name] for name in columns if name not in key}
        return made.on_conflict_do_update(index_elements=key, set_=changed)
    return made


def _whole(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return a type that takes a value as it is: one that is too long shall fail, not be cut by a cast."""
    return Text() if isinstance(kind, String) else kind


def _array(table: type[Record], name: str, rows: Rows) -> list[Any]:
    values = [row[name] for row in rows]
    if isinstance(table.__table__.c[name].type, String):
        return [None if value is None else str(value) for value in values]  # an enumeration is no text to an array
    return values
