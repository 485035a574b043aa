"""Keeping the figures of days: what is due, what was found, and a month of many probes at once.

Guarantee: whoever marks a day after its readings can be read, gets figures that have them. A mark is taken with its
stamp before readings are asked for, and figures are kept only if it has the same stamp still, in the transaction that
takes it away. So a mark that comes meanwhile stays and the day is computed again; of two workers that have the same
day one keeps its figures; and a crash anywhere computes it again.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, Table, and_, delete, func, insert, or_, select
from sqlalchemy.orm import Session

from core.db.insert import upsert
from core.ids import Centi, SeriesId
from core.runtime.instant import Milliseconds
from core.telemetry.daily import Part
from core.telemetry.tables import Daily, DueDay

DaySeries = tuple[date, SeriesId]
_PAGE = 5_000
_SERIES = 5_000
"""In one question: databases take some ten thousands of parameters."""
_COLUMNS = [getattr(Daily, name) for name in Part.__struct_fields__]


class Due(msgspec.Struct, frozen=True):
    """A day of a series to be computed, and the stamp of its mark."""

    day: date
    series: SeriesId
    stamp: int


class Totals(msgspec.Struct, frozen=True):
    """What a series measured over some days."""

    series: SeriesId
    days: int
    """Days that have figures; the others are a gap."""
    n: int
    failed: int
    min: Centi | None
    max: Centi | None
    sum: int
    above: Milliseconds
    below: Milliseconds
    gap: Milliseconds


def slot_of(series: SeriesId) -> str:
    """Return the shard whose collector computes a series: by its number, whichever gateway carries it."""
    return f"{series & 255:02x}"


def mark(tx: Session, days: Iterable[DaySeries]) -> None:
    """Let days be computed anew. Their readings can be read already."""
    stamp = secrets.randbits(62)
    upsert(tx, DueDay, [{"day": day, "series_id": series, "stamp": stamp} for day, series in sorted(set(days))])


def due(tx: Session, slots: tuple[str, str], before: date, after: DaySeries, limit: int) -> list[Due]:
    """Return marked days before a day, of the series of a range of slots, behind `after` in order of (day, series)."""
    first, last = (int(slot, 16) for slot in slots)
    behind = or_(DueDay.day > after[0], and_(DueDay.day == after[0], DueDay.series_id > after[1]))
    query = (
        select(DueDay.day, DueDay.series_id, DueDay.stamp)
        .where(DueDay.day < before, behind, DueDay.series_id.op("&")(255).between(first, last))
        .order_by(DueDay.day, DueDay.series_id)
        .limit(limit)
    )
    return [Due(*row) for row in tx.execute(query)]


def keep(tx: Session, day: date, found: Sequence[tuple[Due, Sequence[Part]]]) -> int:
    """Put figures in place of the former, but for what was marked again meanwhile; returns how many were kept."""
    mine = and_(DueDay.day == day, DueDay.series_id.in_([due.series for due, _ in found]))
    marked = select(DueDay.series_id, DueDay.stamp).where(mine).order_by(DueDay.series_id).with_for_update()
    stamps = {row[0]: row[1] for row in tx.execute(marked)}
    good = {due.series: rows for due, rows in found if stamps.get(due.series) == due.stamp}
    tx.execute(delete(DueDay).where(DueDay.day == day, DueDay.series_id.in_(good)))
    tx.execute(delete(Daily).where(Daily.day == day, Daily.series_id.in_(good)))
    made = [{**msgspec.structs.asdict(row), "crc": row.crc} for rows in good.values() for row in rows]
    if made:
        tx.execute(insert(cast("Table", Daily.__table__)), made)
    return len(good)


def rows_of(tx: Session, series: Sequence[SeriesId], first: date, last: date) -> list[Part]:
    """Return the figures of series from a day to a day, both within, in order of series, day and time."""
    query = select(*_COLUMNS).where(Daily.day.between(first, last))
    order = (Daily.series_id, Daily.day, Daily.since)
    return [Part(*row) for some in _pages(series) for row in tx.execute(query.where(_of(some)).order_by(*order))]


def totals(tx: Session, series: Sequence[SeriesId], first: date, last: date) -> list[Totals]:
    """Return what each series measured from a day to a day, both within; a series without any figures is left out."""
    sums = [func.sum(column) for column in (Daily.n, Daily.failed)]
    later = [func.sum(column) for column in (Daily.sum, Daily.above, Daily.below, Daily.gap)]
    days = func.count(Daily.day.distinct())
    query = select(Daily.series_id, days, *sums, func.min(Daily.min), func.max(Daily.max), *later)
    asked = query.where(Daily.day.between(first, last)).group_by(Daily.series_id).order_by(Daily.series_id)
    found = [row for some in _pages(series) for row in tx.execute(asked.where(_of(some)))]
    # PostgreSQL sums bigints into decimals.
    return [Totals(*map(_whole, row)) for row in found]


def damage(tx: Session) -> Iterator[str]:
    """Yield what fails its checksum, by day and series."""
    behind: tuple[int, date, int] = (-1, date.min, 0)
    while True:
        series, day, since = behind
        further: ColumnElement[bool] = or_(
            Daily.series_id > series,
            and_(Daily.series_id == series, Daily.day > day),
            and_(Daily.series_id == series, Daily.day == day, Daily.since > since),
        )
        order = (Daily.series_id, Daily.day, Daily.since)
        page = tx.execute(select(*_COLUMNS, Daily.crc).where(further).order_by(*order).limit(_PAGE)).all()
        for *values, crc in page:
            part = Part(*values)
            if part.crc != crc:
                yield f"records, daily, day {part.day}, series {part.series_id}: fails its checksum"
        if len(page) < _PAGE:
            return
        behind = page[-1][0], page[-1][1], page[-1][2]


def _whole(number: Any) -> Any:  # noqa: ANN401 (whatever the database sums to)
    return None if number is None else int(number)


def _pages(series: Sequence[SeriesId]) -> Iterator[list[SeriesId]]:
    ordered = sorted(set(series))
    for first in range(0, len(ordered), _SERIES):
        yield ordered[first : first + _SERIES]


def _of(series: Sequence[SeriesId]) -> ColumnElement[bool]:
    return Daily.series_id.in_(series)
