"""Predicate "in force at an instant" of spans [since, until), in SQL and on values; `until` is None while open."""

from sqlalchemy import ColumnElement, and_, or_

from core.db.table_base import Record
from core.runtime.instant import Instant


def in_force(table: type[Record], at: Instant) -> ColumnElement[bool]:
    """Return the condition that a row of a table with the columns `since` and `until` is in force at an instant."""
    since, until = table.__table__.c["since"], table.__table__.c["until"]
    return and_(since <= at, or_(until.is_(None), until > at))


def is_in_force(since: Instant, until: Instant | None, at: Instant) -> bool:
    """Return whether [since, until) contains an instant."""
    return since <= at and (until is None or at < until)
