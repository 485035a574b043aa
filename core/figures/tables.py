"""Tables of rollups in the records: daily figures of a series, days that are due, and progress."""

from datetime import date

from sqlalchemy import Date, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from core.db.table_base import Record
from core.ids import Centi, SeriesId, UnitId, ZoneId
from core.runtime.instant import Instant, Milliseconds


class Daily(Record):
    """Figures of a series in [since, until), a part of a local day of its site.

    A day has one part, or more if the probe, the equipment or the limits changed within it. A row is always computed
    from the readings, never updated. A day without a row was never computed; it counts as a gap.
    """

    __tablename__ = "daily"
    __table_args__ = ({"sqlite_with_rowid": False},)

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    since: Mapped[Instant] = mapped_column(primary_key=True)
    until: Mapped[Instant]
    zone_id: Mapped[ZoneId | None]
    """None if the probe was bound to no zone."""
    unit_id: Mapped[UnitId | None]
    """Unit that owned the equipment; it decides who may see the row."""
    limits: Mapped[int]
    """Version of the limits, 0 for those of the default profile; `low` and `high` are its values."""
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
    """Time without a reading that holds; it counts neither as above nor as below."""
    crc: Mapped[int]
    """CRC-32 over all other columns."""


class DueDay(Record):
    """Day of a series whose figures are due for computing; `stamp` changes whenever it is marked again."""

    __tablename__ = "due_day"
    __table_args__ = ({"sqlite_with_rowid": False},)

    day: Mapped[date] = mapped_column(Date, primary_key=True)
    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    stamp: Mapped[int]


class RolledUp(Record):
    """Placements (JSON) with which the days of a series before `upto` were computed or marked as due."""

    __tablename__ = "rolled_up"

    series_id: Mapped[SeriesId] = mapped_column(ForeignKey("series.id"), primary_key=True)
    since: Mapped[Instant]
    """From here on every day has figures, also a day without readings."""
    upto: Mapped[Instant]
    stays: Mapped[bytes] = mapped_column(LargeBinary)


class RollupCursor(Record):
    """Position up to which the log was read for late readings; moves in the transaction that marks their days."""

    __tablename__ = "rollup_cursor"

    shard: Mapped[str] = mapped_column(String(2), primary_key=True)
    position: Mapped[int]
    mark: Mapped[str] = mapped_column(String(40), server_default="")
    """Log that `position` belongs to (`core.intake.cursor_marks`)."""
