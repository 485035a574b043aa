"""Tables of loggers: CSV with commas, semicolons or tabs, some lines of other text before their header."""

import re
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from statistics import median_low
from typing import NamedTuple
from zoneinfo import ZoneInfo

from config.csv_file import DELIMITERS, CsvRecord, header_problems, likely_delimiter, lines_of, records, too_many_cells
from config.localized_message import LocalizedMessage
from config.text_file import FileProblem, UnreadableFile
from core.ids import Centi
from core.logger_files.columns import ColumnPositions, find_columns, is_header, other_scale_above
from core.logger_files.logger_file import LoggerFile
from core.logger_files.problems import Problems, message
from core.logger_files.temperatures import Temperature, parse_temperature, plain
from core.logger_files.times import (
    DateOrder,
    ParsedTime,
    offset_of_header,
    order_of_dates,
    parse_time,
    stated_order,
    to_instant,
)
from core.runtime.instant import Instant, Milliseconds

_PREAMBLE = 200
"""Lines in which a header is looked for."""
_SERIAL = re.compile(
    r"(?:serial|s/n|序列号|设备编号|仪器编号).{0,12}?[\s:：,;]+\"?(?P<serial>(?=[A-Za-z-]*\d)[A-Za-z0-9-]{2,32})",
    re.IGNORECASE,
)


class TableRow(NamedTuple):
    """One row that can be read."""

    line: int
    stamp: ParsedTime
    value: Temperature
    time_text: str


class _Header(NamedTuple):
    record: CsvRecord
    delimiter: str
    below: int
    """Position of the first line behind it."""


def read_table(text: str, name: str, serial: str, zone: ZoneInfo) -> LoggerFile:
    """Read a table whose clock stood in `zone` wherever a time has no offset.

    Raises: UnreadableFile.
    """
    problems = Problems(name)
    lines, delimiter = lines_of(text)
    header = _header(lines, delimiter)
    if header is None:
        raise UnreadableFile(name, [FileProblem(_no_header(lines, delimiter), 1 if text.strip() else 0)])
    above = [line for _, line in lines[: header.below - 1]]
    for number, line in lines[: header.below - 1]:
        if scale := other_scale_above(line):
            problems.add(scale, number)
    problems.found += header_problems(header.record)
    place = find_columns(header.record.cells)
    if not isinstance(place, ColumnPositions):
        raise UnreadableFile(name, [*problems.found, *(FileProblem(problem, header.record.line) for problem in place)])
    order = stated_order([*above, *place.columns.time])
    rows = _rows(lines[header.below :], header, place, order, problems)
    readings = _readings(rows, place, zone, problems)
    problems.raise_any()
    if len(readings) < 2:  # noqa: PLR2004 (an interval lies between two)
        problems.add(message("too_few", count=len(readings)))
        problems.raise_any()
    interval = median_low(after[1] - before[1] for before, after in pairwise(readings))
    found = _SERIAL.search("\n".join(above))
    return LoggerFile(
        serial=found["serial"] if found else serial,
        interval=Milliseconds(interval),
        readings=[(at, value) for _, at, value in readings],
        lines=[line for line, _, _ in readings],
        columns=place.columns,
        rounded=sum(row.value.rounded for row in rows),
    )


def _header(lines: Sequence[tuple[int, str]], named: str | None) -> _Header | None:
    """Find the first line that names the columns, with the delimiter that gives most of them."""
    for place, (number, line) in enumerate(lines[:_PREAMBLE]):
        found = [
            _Header(record, delimiter, place + 1)
            for delimiter in ((named,) if named else DELIMITERS)
            for record in records([(number, line)], delimiter)
            if isinstance(record, CsvRecord) and is_header(record.cells)
        ]
        if found:
            return max(found, key=lambda header: len(header.record.cells))
    return None


def _no_header(lines: Sequence[tuple[int, str]], named: str | None) -> LocalizedMessage:
    """Return a message that names the columns of the first line."""
    first = next((line for _, line in lines if line.strip()), "")
    if not first:
        return message("nothing")
    (record, *_) = records([(1, first)], named or likely_delimiter(first))
    cells = record.cells if isinstance(record, CsvRecord) else [first]
    return message("no_columns", names=", ".join(repr(cell.strip()[:40]) for cell in cells[:12]))


def _rows(
    lines: Sequence[tuple[int, str]],
    header: _Header,
    place: ColumnPositions,
    order: DateOrder | None,
    problems: Problems,
) -> list[TableRow]:
    rows = []
    columns = len(header.record.cells)
    for index, record in enumerate(records(lines, header.delimiter)):
        if isinstance(record, FileProblem):
            problems.found.append(record)
        elif not any(cell.strip() for cell in record.cells) or (index == 0 and _is_units(record.cells)):
            continue
        elif beyond := too_many_cells(record, columns, header.delimiter):
            problems.found.append(beyond)
        elif len(record.cells) <= max(*place.time, place.temperature):
            problems.add(message("too_short", cells=len(record.cells), columns=columns), record.line)
        elif row := _row(record, place, order, problems):
            rows.append(row)
    return rows


def _is_units(cells: Sequence[str]) -> bool:
    """Whether the line below the header has the units of its columns: no figure, and a degree sign."""
    text = plain(" ".join(cells)).lower()
    return "°c" in text and not re.search(r"\d", text)


def _row(record: CsvRecord, place: ColumnPositions, order: DateOrder | None, problems: Problems) -> TableRow | None:
    time_text = " ".join(record.cells[column].strip() for column in place.time)
    temperature_text = record.cells[place.temperature].strip()
    stamp = parse_time(time_text, order)
    if isinstance(stamp, LocalizedMessage):
        problems.add(stamp, record.line, " ".join(place.columns.time), time_text)
    value = parse_temperature(temperature_text)
    if isinstance(value, LocalizedMessage):
        problems.add(value, record.line, place.columns.temperature, temperature_text)
    if isinstance(stamp, LocalizedMessage) or isinstance(value, LocalizedMessage):
        return None
    return TableRow(record.line, stamp, value, time_text)


def _readings(
    rows: Sequence[TableRow], place: ColumnPositions, zone: ZoneInfo, problems: Problems
) -> list[tuple[int, Instant, Centi | None]]:
    """Return (line, time, value), oldest first; a file that begins with its newest reading is reversed."""
    column = " ".join(place.columns.time)
    order = order_of_dates([row.stamp for row in rows])
    if isinstance(order, LocalizedMessage):
        first = next(row for row in rows if row.stamp.order is None)
        problems.add(order, first.line, column, first.time_text)
        return []
    of_header = next((offset for name in place.columns.time if (offset := offset_of_header(name)) is not None), None)
    timed = [(row, row.stamp.local(order)) for row in rows]
    steps = [after - before for (_, before), (_, after) in pairwise(timed) if before and after]
    if sum(step < timedelta(0) for step in steps) > sum(step > timedelta(0) for step in steps):
        timed.reverse()
    readings: list[tuple[int, Instant, Centi | None]] = []
    for row, local in timed:
        if local is None:
            problems.add(message("no_date"), row.line, column, row.time_text)
            continue
        offset = row.stamp.offset if row.stamp.offset is not None else of_header
        at = to_instant(local, offset, zone, readings[-1][1] if readings else None)
        if isinstance(at, LocalizedMessage):
            problems.add(at, row.line, column, row.time_text)
        elif readings and at <= readings[-1][1]:
            same = "same_time" if at == readings[-1][1] else "not_after"
            problems.add(message(same, other=readings[-1][0]), row.line, column, row.time_text)
        else:
            readings.append((row.line, at, row.value.value))
    return readings
