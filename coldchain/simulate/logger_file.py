"""What a logger recorded, read from the file that it wrote: so that a real fridge's history can be played again.

Two kinds: CSV with the columns `time,temperature` (an empty temperature is a failed reading), and the text export of a
Berlinger Fridge-tag, which also tells each day's own figures. A time with an offset says when it was; one without is
what the logger's clock showed, and the reader is told in which zone that clock stood.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from statistics import median_low
from typing import NamedTuple, NoReturn, Union
from zoneinfo import ZoneInfo

import msgspec

from core.ids import Centi
from core.runtime.instant import MINUTE, Instant, Milliseconds, instant

COLDEST, HOTTEST = Decimal(-200), Decimal(200)
"""°C; beyond these a number in a file is a mistake."""


class Unreadable(Exception):
    """A file that isn't what it should be; the text names file, row and column."""


class DayFigures(msgspec.Struct, frozen=True):
    """What the logger itself says of one day of its clock."""

    day: date
    min: Centi
    max: Centi
    mean: Centi
    """Truncated by the device, not rounded."""
    minutes_below: int
    minutes_above: int


class LoggerFile(msgspec.Struct, frozen=True):
    """A logger's history, oldest first."""

    serial: str
    interval: Milliseconds
    readings: list[tuple[Instant, Centi | None]]
    days: list[DayFigures] = []
    """None in a CSV file."""
    below: Centi | None = None
    above: Centi | None = None
    """The limits that `minutes_below` and `minutes_above` are of."""


def read(path: Path, zone: ZoneInfo) -> LoggerFile:
    """Read a file whose clock stood in `zone` wherever a time has no offset.

    Raises: Unreadable; OSError when there is no file.
    """
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        msg = f"{path.name}: not a text file in UTF-8"
        raise Unreadable(msg) from None
    if text.startswith("Device:"):
        return _read_fridge_tag(path.name, text, zone)
    try:
        return _read_csv(path, text, zone)
    except csv.Error as error:
        msg = f"{path.name}: neither CSV nor an export of a Fridge-tag: {error}"
        raise Unreadable(msg) from error


class _Cell(NamedTuple):
    """Where a piece of text stands."""

    file: str
    row: int
    column: str
    text: str

    def refuse(self, why: str) -> NoReturn:
        msg = f"{self.file}, row {self.row}, column {self.column}: {self.text!r} {why}"
        raise Unreadable(msg) from None


def _read_csv(path: Path, text: str, zone: ZoneInfo) -> LoggerFile:
    rows = csv.reader(text.splitlines())
    names = [name.strip().lower() for name in next(rows, [])]
    for column in ("time", "temperature"):
        if column not in names:
            msg = f"{path.name}, row 1: no column {column!r}; a logger's CSV begins with time,temperature"
            raise Unreadable(msg)
    time, temperature = names.index("time"), names.index("temperature")

    def cells() -> Iterator[tuple[_Cell, _Cell]]:
        for row in rows:
            if not row:
                continue
            if len(row) <= max(time, temperature):
                msg = f"{path.name}, row {rows.line_num}: {len(row)} columns, the header has {len(names)}"
                raise Unreadable(msg)
            yield (
                _Cell(path.name, rows.line_num, "time", row[time].strip()),
                _Cell(path.name, rows.line_num, "temperature", row[temperature].strip()),
            )

    readings = _readings(cells(), zone)
    if len(readings) < 2:  # noqa: PLR2004 (an interval lies between two)
        msg = f"{path.name}: {len(readings)} readings; at least two are needed to know the interval"
        raise Unreadable(msg)
    interval = median_low(after[0] - before[0] for before, after in pairwise(readings))
    return LoggerFile(path.stem, Milliseconds(interval), readings)


Tree = dict[str, Union["Tree", _Cell]]


def _read_fridge_tag(file: str, text: str, zone: ZoneInfo) -> LoggerFile:
    lines = list(enumerate(text.splitlines(), 1))
    tree = _tree(file, [line for line in lines if not line[1].startswith("\t")])
    unit = _leaf(file, tree, "Conf", "Temp unit")
    if unit.text != "C":
        unit.refuse("is not read; set the logger to C and export again")
    data = [(row, line.split("\t")) for row, line in lines if re.match(r"\t\d", line)]
    cells = ((_Cell(file, row, "time", parts[1]), _Cell(file, row, "T", (*parts, "")[2])) for row, parts in data)
    history = tree.get("Hist")
    days = [day for day in history.values() if isinstance(day, dict)] if isinstance(history, dict) else []
    return LoggerFile(
        serial=_leaf(file, tree, "Conf", "Serial").text,
        interval=Milliseconds(_whole(_leaf(file, tree, "Conf", "Logging Interval")) * MINUTE),
        readings=_readings(cells, zone),
        days=sorted((_day(file, day) for day in days), key=lambda day: day.day),
        below=_centi(_leaf(file, tree, "Conf", "Alarm", "0", "T AL")),
        above=_centi(_leaf(file, tree, "Conf", "Alarm", "1", "T AL")),
    )


def _day(file: str, day: Tree) -> DayFigures:
    said = _leaf(file, day, "Date")
    try:
        when = date.fromisoformat(said.text)
    except ValueError:
        said.refuse("is no date")
    return DayFigures(
        day=when,
        min=_centi(_leaf(file, day, "Min T")),
        max=_centi(_leaf(file, day, "Max T")),
        mean=_centi(_leaf(file, day, "Avrg T")),
        minutes_below=_whole(_leaf(file, day, "Alarm", "0", "t Acc")),
        minutes_above=_whole(_leaf(file, day, "Alarm", "1", "t Acc")),
    )


def _tree(file: str, lines: Iterable[tuple[int, str]]) -> Tree:
    """Read `key: value, key: value` lines; one space of indent more makes a line part of the one above it."""
    tree: Tree = {}
    open_trees: list[tuple[int, Tree]] = [(-1, tree)]
    for row, line in lines:
        depth = len(line) - len(line.lstrip(" "))
        while open_trees[-1][0] >= depth:
            open_trees.pop()
        for pair in line.strip().split(", "):
            key, _, value = pair.partition(":")
            if value:
                open_trees[-1][1][key] = _Cell(file, row, key, value.strip())
            elif key:
                inner: Tree = {}
                open_trees[-1][1][key] = inner
                open_trees.append((depth, inner))
    return tree


def _leaf(file: str, tree: Tree, *path: str) -> _Cell:
    found: Tree | _Cell | None = tree
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, _Cell):
        msg = f"{file}: {' / '.join(path)!r} is missing; export the file again"
        raise Unreadable(msg)
    return found


def _readings(cells: Iterable[tuple[_Cell, _Cell]], zone: ZoneInfo) -> list[tuple[Instant, Centi | None]]:
    readings: list[tuple[Instant, Centi | None]] = []
    for time, temperature in cells:
        at = _instant(time, zone, behind=readings[-1][0] if readings else None)
        readings.append((at, _centi(temperature) if temperature.text not in {"", "-"} else None))
    return readings


def _instant(cell: _Cell, zone: ZoneInfo, *, behind: Instant | None) -> Instant:
    try:
        moment = datetime.fromisoformat(cell.text)
    except ValueError:
        cell.refuse("is no time; write it like 2026-03-28T03:02:40+08:00 or 2026-03-28 03:02")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
        if moment.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment.replace(tzinfo=None):
            cell.refuse(f"was skipped by summer time in {zone}; name a zone without, such as Etc/GMT-8")
        if behind is not None and instant(moment) <= behind:
            moment = moment.replace(fold=1)  # the hour that clocks show twice
    at = instant(moment)
    if behind is not None and at <= behind:
        cell.refuse("is not after the reading before it")
    return at


def _centi(cell: _Cell) -> Centi:
    try:
        degrees = Decimal(cell.text)
    except InvalidOperation:
        cell.refuse("is no temperature; write it like -18.5, and nothing for a failed reading")
    if not degrees.is_finite() or not COLDEST <= degrees <= HOTTEST:
        cell.refuse(f"is no temperature in °C between {COLDEST} and {HOTTEST}")
    return Centi(round(degrees * 100))


def _whole(cell: _Cell) -> int:
    try:
        return int(cell.text)
    except ValueError:
        cell.refuse("is no whole number")
