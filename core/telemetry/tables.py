"""Rows of rollups, which live in the records beside what they are computed by: one day of a series, and what is due."""

from datetime import date

from sqlalchemy import Date, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from core.db.record import Record
from core.ids import Centi, SeriesId, UnitId, ZoneId
from core.runtime.instant import Instant, Milliseconds


class Daily(Record):
    """What a series measured in the part [since, until) of a local day of its site, in which nothing else changed.

    A day has one part, and more where the probe, the equipment or the limits changed within it. Only ever computed
    anew from the readings, never added to. A day without a row was never looked at: it is a gap.
    """

    __tablename__ = "daily"
    __table_args__ = ({"sqlite_with_rowid": False},)

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    since: Mapped[Instant] = mapped_column(primary_key=True)
    until: Mapped[Instant]
    zone_id: Mapped[ZoneId | None]
    """None while the probe was bound to none."""
    unit_id: Mapped[UnitId | None]
    """Whose the equipment was: who may see this."""
    limits: Mapped[int]
    """The version of the limits, 0 for the default profile's; `low` and `high` are what it says."""
    low: Mapped[Centi | None]
    high: Mapped[Centi | None]
    n: Mapped[int]
    """Readings that have a value."""
    failed: Mapped[int]
    min: Mapped[Centi | None]
    max: Mapped[Centi | None]
    sum: Mapped[int]
    above: Mapped[Milliseconds]
    below: Mapped[Milliseconds]
    gap: Mapped[Milliseconds]
    """No reading tells: never exposure, never cold."""
    crc: Mapped[int]
    """Of all other columns."""


class DueDay(Record):
    """A day of a series whose figures are to be computed anew; `stamp` is another whenever it is marked again."""

    __tablename__ = "due_day"
    __table_args__ = ({"sqlite_with_rowid": False},)

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    stamp: Mapped[int]


class RolledUp(Record):
    """The course of stays by which the days of a series before `upto` were computed, or marked as due."""

    __tablename__ = "rolled_up"

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    since: Mapped[Instant]
    """From this on every day has figures, also those without readings."""
    upto: Mapped[Instant]
    stays: Mapped[bytes] = mapped_column(LargeBinary)


class RollupCursor(Record):
    """How far the log has been followed for late readings; moves in the transaction of the days that it marks."""

    __tablename__ = "rollup_cursor"

    shard: Mapped[str] = mapped_column(String(2), primary_key=True)
    position: Mapped[int]
    mark: Mapped[str] = mapped_column(String(40), server_default="")
    """Which log `position` is of (`core.intake.identity`)."""
