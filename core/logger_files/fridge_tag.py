"""Text export of a Berlinger Fridge-tag: indented `key: value` lines, and its readings below `Data:`."""

import re
from collections.abc import Iterable
from datetime import date
from typing import NamedTuple, Union
from zoneinfo import ZoneInfo

from config.localized_message import LocalizedMessage
from core.ids import Centi
from core.logger_files.logger_file import ColumnNames, DayFigures, LoggerFile
from core.logger_files.problems import Problems, message
from core.logger_files.temperatures import parse_temperature
from core.logger_files.times import parse_time, to_instant
from core.runtime.instant import MINUTE, Instant, Milliseconds

_TIME = "yyyy-MM-dd hh:mm"
_COLUMNS = ColumnNames((_TIME,), "T")


def is_fridge_tag(text: str) -> bool:
    """Whether a text begins as the export does."""
    return text.startswith("Device:")


class _Cell(NamedTuple):
    line: int
    key: str
    text: str


_Tree = dict[str, Union["_Tree", _Cell]]


class _Reader:
    """Reader of the fields of a Fridge-tag; notes each problem, and takes 0 for what can't be read."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def refuse(self, cell: _Cell, problem: LocalizedMessage) -> None:
        self.problems.add(problem, cell.line, cell.key, cell.text)

    def leaf(self, tree: _Tree, *path: str) -> _Cell | None:
        found: _Tree | _Cell | None = tree
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, _Cell):
            return found
        self.problems.add(message("missing", path=" / ".join(path)))
        return None

    def centi(self, cell: _Cell | None) -> Centi:
        if cell is None:
            return Centi(0)
        read = parse_temperature(cell.text)
        if isinstance(read, LocalizedMessage) or read.value is None:
            self.refuse(cell, read if isinstance(read, LocalizedMessage) else message("no_temperature"))
            return Centi(0)
        return read.value

    def whole(self, cell: _Cell | None) -> int:
        if cell is None:
            return 0
        if not re.fullmatch(r"\d{1,9}", cell.text):
            self.refuse(cell, message("no_whole_number"))
            return 0
        return int(cell.text)

    def date(self, cell: _Cell | None) -> date:
        try:
            return date.fromisoformat(cell.text) if cell else date.min
        except ValueError:
            if cell:
                self.refuse(cell, message("no_date"))
            return date.min

    def day(self, day: _Tree) -> DayFigures:
        return DayFigures(
            day=self.date(self.leaf(day, "Date")),
            min=self.centi(self.leaf(day, "Min T")),
            max=self.centi(self.leaf(day, "Max T")),
            mean=self.centi(self.leaf(day, "Avrg T")),
            minutes_below=self.whole(self.leaf(day, "Alarm", "0", "t Acc")),
            minutes_above=self.whole(self.leaf(day, "Alarm", "1", "t Acc")),
        )


def read_fridge_tag(text: str, name: str, zone: ZoneInfo) -> LoggerFile:
    """Read an export whose clock stood in `zone`.

    Raises: UnreadableFile.
    """
    problems = Problems(name)
    reader = _Reader(problems)
    lines = list(enumerate(text.split("\n"), 1))
    tree = _tree([line for line in lines if not line[1].startswith("\t")])
    unit = reader.leaf(tree, "Conf", "Temp unit")
    if unit is not None and unit.text != "C":
        reader.refuse(unit, message("fahrenheit"))
    serial = reader.leaf(tree, "Conf", "Serial")
    interval = reader.whole(reader.leaf(tree, "Conf", "Logging Interval"))
    history = tree.get("Hist")
    days = [day for day in history.values() if isinstance(day, dict)] if isinstance(history, dict) else []
    figures = sorted((reader.day(day) for day in days), key=lambda day: day.day)
    below = reader.centi(reader.leaf(tree, "Conf", "Alarm", "0", "T AL"))
    above = reader.centi(reader.leaf(tree, "Conf", "Alarm", "1", "T AL"))
    readings = _readings(lines, zone, problems)
    problems.raise_any()
    return LoggerFile(
        serial=serial.text if serial else name,
        interval=Milliseconds(interval * MINUTE),
        readings=[(at, value) for _, at, value in readings],
        lines=[line for line, _, _ in readings],
        columns=_COLUMNS,
        days=figures,
        below=below,
        above=above,
    )


def _readings(
    lines: Iterable[tuple[int, str]], zone: ZoneInfo, problems: Problems
) -> list[tuple[int, Instant, Centi | None]]:
    readings: list[tuple[int, Instant, Centi | None]] = []
    for number, line in lines:
        if not re.match(r"\t\d", line):
            continue
        time, temperature, *_ = (*line.split("\t")[1:], "")
        stamp, value = parse_time(time), parse_temperature(temperature)
        if isinstance(value, LocalizedMessage):
            problems.add(value, number, _COLUMNS.temperature, temperature)
        local = stamp if isinstance(stamp, LocalizedMessage) else stamp.local("ymd") or message("no_date")
        if isinstance(local, LocalizedMessage) or isinstance(stamp, LocalizedMessage):
            problems.add(local if isinstance(local, LocalizedMessage) else message("no_time"), number, _TIME, time)
            continue
        before = readings[-1] if readings else None
        at = to_instant(local, stamp.offset, zone, before[1] if before else None)
        if isinstance(at, LocalizedMessage):
            problems.add(at, number, _TIME, time)
        elif before and at <= before[1]:
            same = "same_time" if at == before[1] else "not_after"
            problems.add(message(same, other=before[0]), number, _TIME, time)
        elif not isinstance(value, LocalizedMessage):
            readings.append((number, at, value.value))
    return readings


def _tree(lines: Iterable[tuple[int, str]]) -> _Tree:
    """Read `key: value, key: value` lines; one space of indent more makes a line part of the one above it."""
    tree: _Tree = {}
    open_trees: list[tuple[int, _Tree]] = [(-1, tree)]
    for number, line in lines:
        depth = len(line) - len(line.lstrip(" "))
        while open_trees[-1][0] >= depth:
            open_trees.pop()
        for pair in line.strip().split(", "):
            key, _, value = pair.partition(":")
            if value:
                open_trees[-1][1][key] = _Cell(number, key, value.strip())
            elif key:
                inner: _Tree = {}
                open_trees[-1][1][key] = inner
                open_trees.append((depth, inner))
    return tree
