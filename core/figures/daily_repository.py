"""Repository of daily figures: due days, their figures, and totals over many days of many series.

Guarantee: if a day is marked as due after its readings are stored, its figures will include them. A worker reads the
stamp of a mark before it reads the readings. Figures are saved only if the mark still has that stamp, in the
transaction that deletes the mark. So a mark set in the meantime stays, and the day is computed again; of two workers
with the same day one saves its figures; and after a crash the day is computed again.
tests/integration/test_rollups.py, test_rollup_workers.py and test_due_days.py try to break it.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, Table, and_, delete, func, insert, or_, select
from sqlalchemy.orm import Session

from core.db.insert import upsert
from core.figures.daily_figures import DayPart
from core.figures.tables import Daily, DueDay
from core.ids import Centi, SeriesId
from core.runtime.instant import Milliseconds

DaySeries = tuple[date, SeriesId]
_PAGE = 5_000
_SERIES = 5_000
"""Series in one statement, since databases limit the number of parameters."""
_COLUMNS = [getattr(Daily, name) for name in DayPart.__struct_fields__]


class DueSeriesDay(msgspec.Struct, frozen=True):
    """Day of a series that is due for computing, with the stamp of its mark."""

    day: date
    series: SeriesId
    stamp: int


class Totals(msgspec.Struct, frozen=True):
    """Totals of a series over some days."""

    series: SeriesId
    days: int
    """Days that have figures; the others count as a gap."""
    n: int
    failed: int
    min: Centi | None
    max: Centi | None
    sum: int
    above: Milliseconds
    below: Milliseconds
    gap: Milliseconds


def slot_of(series: SeriesId) -> str:
    """Return the shard whose writer computes a series. It depends on the series number, not on the gateway."""
    return f"{series & 255:02x}"


def mark(tx: Session, days: Iterable[DaySeries]) -> None:
    """Mark days as due for computing. Their readings must be stored before."""
    stamp = secrets.randbits(62)
    upsert(tx, DueDay, [{"day": day, "series_id": series, "stamp": stamp} for day, series in sorted(set(days))])


def due(tx: Session, slots: tuple[str, str], before: date, after: DaySeries, limit: int) -> list[DueSeriesDay]:
    """Return up to `limit` due days before `before`, of the series of a slot range, after `after` by (day, series)."""
    first, last = (int(slot, 16) for slot in slots)
    is_after = or_(DueDay.day > after[0], and_(DueDay.day == after[0], DueDay.series_id > after[1]))
    query = (
        select(DueDay.day, DueDay.series_id, DueDay.stamp)
        .where(DueDay.day < before, is_after, DueDay.series_id.op("&")(255).between(first, last))
        .order_by(DueDay.day, DueDay.series_id)
        .limit(limit)
    )
    return [DueSeriesDay(*row) for row in tx.execute(query)]


def keep(tx: Session, day: date, computed: Sequence[tuple[DueSeriesDay, Sequence[DayPart]]]) -> int:
    """Replace the figures of a day, except for series that were marked again meanwhile; return how many were saved."""
    is_computed = and_(DueDay.day == day, DueDay.series_id.in_([due.series for due, _ in computed]))
    marks = select(DueDay.series_id, DueDay.stamp).where(is_computed).order_by(DueDay.series_id).with_for_update()
    stamps = {row[0]: row[1] for row in tx.execute(marks)}
    current = {due.series: parts for due, parts in computed if stamps.get(due.series) == due.stamp}
    tx.execute(delete(DueDay).where(DueDay.day == day, DueDay.series_id.in_(current)))
    tx.execute(delete(Daily).where(Daily.day == day, Daily.series_id.in_(current)))
    rows = [{**msgspec.structs.asdict(part), "crc": part.crc} for parts in current.values() for part in parts]
    if rows:
        tx.execute(insert(cast("Table", Daily.__table__)), rows)
    return len(current)


def rows_of(tx: Session, series: Sequence[SeriesId], first: date, last: date) -> list[DayPart]:
    """Return the figures of series in [first, last], in order of series, day and time."""
    query = select(*_COLUMNS).where(Daily.day.between(first, last))
    order = (Daily.series_id, Daily.day, Daily.since)
    return [DayPart(*row) for page in _pages(series) for row in tx.execute(query.where(_is_of(page)).order_by(*order))]


def totals(tx: Session, series: Sequence[SeriesId], first: date, last: date) -> list[Totals]:
    """Return the totals of each series over the days [first, last]; a series without figures is left out."""
    counts = [func.sum(column) for column in (Daily.n, Daily.failed)]
    sums = [func.sum(column) for column in (Daily.sum, Daily.above, Daily.below, Daily.gap)]
    days = func.count(Daily.day.distinct())
    query = select(Daily.series_id, days, *counts, func.min(Daily.min), func.max(Daily.max), *sums)
    by_series = query.where(Daily.day.between(first, last)).group_by(Daily.series_id).order_by(Daily.series_id)
    rows = [row for page in _pages(series) for row in tx.execute(by_series.where(_is_of(page)))]
    # PostgreSQL returns the sum of bigints as a decimal.
    return [Totals(*map(_whole, row)) for row in rows]


def damage(tx: Session) -> Iterator[str]:
    """Yield a message for each row that fails its checksum."""
    last_key: tuple[int, date, int] = (-1, date.min, 0)
    while True:
        series, day, since = last_key
        is_after: ColumnElement[bool] = or_(
            Daily.series_id > series,
            and_(Daily.series_id == series, Daily.day > day),
            and_(Daily.series_id == series, Daily.day == day, Daily.since > since),
        )
        order = (Daily.series_id, Daily.day, Daily.since)
        page = tx.execute(select(*_COLUMNS, Daily.crc).where(is_after).order_by(*order).limit(_PAGE)).all()
        for *values, crc in page:
            part = DayPart(*values)
            if part.crc != crc:
                yield f"records, daily, day {part.day}, series {part.series_id}: fails its checksum"
        if len(page) < _PAGE:
            return
        last_key = page[-1][0], page[-1][1], page[-1][2]


def _whole(number: Any) -> Any:  # noqa: ANN401 (whatever the database sums to)
    return None if number is None else int(number)


def _pages(series: Sequence[SeriesId]) -> Iterator[list[SeriesId]]:
    ordered = sorted(set(series))
    for first in range(0, len(ordered), _SERIES):
        yield ordered[first : first + _SERIES]


def _is_of(series: Sequence[SeriesId]) -> ColumnElement[bool]:
    return Daily.series_id.in_(series)
