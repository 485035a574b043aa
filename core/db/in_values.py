"""SQL condition for rows with one of many values."""

from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, any_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session


def in_values(
    tx: Session, column: InstrumentedAttribute[Any], values: Collection[int] | Collection[str]
) -> ColumnElement[bool]:
    """Return the condition that a column has one of these values.

    All values are one parameter. With `column.in_(values)` each is a parameter of its own, and compiling a thousand of
    them takes longer than the query.
    """
    if tx.get_bind().dialect.name == "postgresql":
        return column == any_(bindparam(None, list(values), ARRAY(column.type)))
    rows = func.json_each(msgspec.json.encode(list(values)).decode()).table_valued("value")
    return column.in_(select(rows.c.value))
