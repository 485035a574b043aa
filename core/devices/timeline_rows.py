"""Timeline rows: beginning, ending and looking up intervals [since, until). The database itself forbids overlap."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from core.db.in_force import in_force, is_in_force
from core.db.in_values import in_values
from core.devices.messages import message
from core.devices.tables import TIMELINES, EquipmentUnit, GatewayUnit, ProbeGateway, ProbeZone
from core.errors import BackDated, Conflict
from core.runtime.instant import Instant, rfc3339

TimelineRow = TypeVar("TimelineRow", ProbeZone, ProbeGateway, GatewayUnit, EquipmentUnit)


def row_in_force(tx: Session, table: type[TimelineRow], subject: int, at: Instant) -> TimelineRow | None:
    """Return the row of a subject that covers an instant."""
    return tx.scalar(select(table).where(_of(table, subject), in_force(table, at)))


def newest(tx: Session, table: type[TimelineRow], subject: int) -> TimelineRow | None:
    """Return the newest row of a subject, open or ended."""
    return tx.scalar(select(table).where(_of(table, subject)).order_by(table.since.desc()).limit(1))


def rows_of(tx: Session, table: type[TimelineRow], subjects: Collection[int]) -> dict[int, list[TimelineRow]]:
    """Return all rows of several subjects, oldest first. Subjects without rows are left out."""
    column = TIMELINES[table.__tablename__]
    rows: dict[int, list[TimelineRow]] = defaultdict(list)
    query = select(table).where(in_values(tx, getattr(table, column), subjects)).order_by(table.since)
    for row in tx.scalars(query):
        rows[getattr(row, column)].append(row)
    return dict(rows)


def covering(rows: Sequence[TimelineRow], at: Instant) -> TimelineRow | None:
    """Return the one of a subject's rows that covers an instant."""
    return next((row for row in rows if is_in_force(row.since, row.until, at)), None)


def begin(tx: Session, row: TimelineRow) -> TimelineRow:
    """Add an open row after all other rows of its subject.

    Raises: Conflict while another row is open, BackDated when `row` begins before the end of the last one.
    """
    last = newest(tx, type(row), getattr(row, TIMELINES[row.__tablename__]))
    if last is not None and last.until is None:
        raise Conflict(message("in_force", what=_name(row), since=rfc3339(last.since)))
    if last is not None and last.until is not None and row.since < last.until:
        raise BackDated(message("last_ended", what=_name(row), until=rfc3339(last.until), since=rfc3339(row.since)))
    tx.add(row)
    tx.flush()
    return row


def open_row(tx: Session, table: type[TimelineRow], subject: int) -> TimelineRow:
    """Return the open row of a subject.

    Raises: Conflict when there is none.
    """
    last = newest(tx, table, subject)
    if last is None or last.until is not None:
        raise Conflict(message("none_in_force", what=table.__tablename__.replace("_", " to ")))
    return last


def end(tx: Session, row: TimelineRow, at: Instant) -> None:
    """End an open row at an instant (exclusive).

    Raises: BackDated when the row didn't begin before `at`.
    """
    if at <= row.since:
        raise BackDated(message("began", what=_name(row), since=rfc3339(row.since), at=rfc3339(at)))
    row.until = at
    # Flush now: otherwise the session could insert the next row before it ends this one, and the database refuses that.
    tx.flush()


def _of(table: type[TimelineRow], subject: int) -> ColumnElement[bool]:
    column: ColumnElement[int] = getattr(table, TIMELINES[table.__tablename__])
    return column == subject


def _name(row: ProbeZone | ProbeGateway | GatewayUnit | EquipmentUnit) -> str:
    return row.__tablename__.replace("_", " to ")
