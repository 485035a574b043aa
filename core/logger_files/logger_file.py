"""Contents of a logger's file: readings with their lines, columns, and the logger's own figures."""

from datetime import date

import msgspec

from core.ids import Centi
from core.runtime.instant import Instant, Milliseconds


class DayFigures(msgspec.Struct, frozen=True):
    """The logger's own figures of one day."""

    day: date
    min: Centi
    max: Centi
    mean: Centi
    """Truncated by the device, not rounded."""
    minutes_below: int
    minutes_above: int


class ColumnNames(msgspec.Struct, frozen=True):
    """Names of the columns that were read, and of those that were not."""

    time: tuple[str, ...]
    """One, or date and time apart."""
    temperature: str
    unused: tuple[str, ...] = ()


class LoggerFile(msgspec.Struct, frozen=True):
    """A logger's history, oldest first."""

    serial: str
    interval: Milliseconds
    readings: list[tuple[Instant, Centi | None]]
    """None: the logger tried and had no value."""
    lines: list[int]
    """The line of each reading."""
    columns: ColumnNames
    rounded: int = 0
    """Readings that were written with more than two decimals, and are rounded to 0.01 °C."""
    days: list[DayFigures] = []
    """Of a Fridge-tag alone."""
    below: Centi | None = None
    above: Centi | None = None
    """The limits that `minutes_below` and `minutes_above` are of."""
