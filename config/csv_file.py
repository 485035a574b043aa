"""Strict CSV reader: each line is one record, or a problem with its line number.

A quoted cell may not contain a line break, since an unclosed quote would swallow the rows after it. The delimiter is a
comma, semicolon or tab; a first line `sep=;`, which Excel reads and writes, names it.
tests/unit/test_csv_file.py tries to break it.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from config.localized_message import LocalizedMessage
from config.text_file import FileProblem

DELIMITERS = (",", ";", "\t")
_SHOWN = 4_096
"""Characters of a line that are searched for the wrong quote."""
_SEP = re.compile(r'"?sep=(?P<delimiter>[,;\t])"?', re.IGNORECASE)


class CsvRecord(NamedTuple):
    """Cells of one line."""

    line: int
    cells: list[str]


class Lines(NamedTuple):
    """Numbered lines of a file, without a `sep=` line, and the delimiter that this line names, if there is one."""

    lines: list[tuple[int, str]]
    delimiter: str | None


def lines_of(text: str) -> Lines:
    """Split a text into numbered lines."""
    lines = list(enumerate(text.split("\n"), 1))
    separator = _SEP.fullmatch(lines[0][1].strip(" "))
    if separator:
        return Lines(lines[1:], separator["delimiter"])
    return Lines(lines, None)


def likely_delimiter(line: str) -> str:
    """Return the delimiter that occurs most often in a header line; a comma if there is none."""
    unquoted = re.sub(r'"[^"]*"', "", line)
    return max(DELIMITERS, key=unquoted.count)


def records(lines: Sequence[tuple[int, str]], delimiter: str) -> Iterator[CsvRecord | FileProblem]:
    """Yield the record of each line that isn't empty, or its problem."""
    for index, (number, line) in enumerate(lines):
        if not line.strip():
            continue
        yield _record(number, line, delimiter) or _quote_problem(lines, index, delimiter)


def header_problems(record: CsvRecord) -> list[FileProblem]:
    """Return the problems with the names of columns. Each column must have a name, and no two the same."""
    problems = []
    first: dict[str, int] = {}
    for place, cell in enumerate(record.cells, 1):
        name = cell.strip()
        if not name:
            problems.append(FileProblem(_message("unnamed", place=place), record.line))
        elif name in first:
            values = {"name": name, "first": first[name], "second": place}
            problems.append(FileProblem(_message("duplicate", **values), record.line))
        else:
            first[name] = place
    return problems


def too_many_cells(record: CsvRecord, columns: int, delimiter: str) -> FileProblem | None:
    """Return the problem of a record with a non-empty cell beyond the last column."""
    if not any(cell.strip() for cell in record.cells[columns:]):
        return None
    delimiter_name = _message({",": "comma", ";": "semicolon", "\t": "tab"}[delimiter])
    return FileProblem(
        _message("too_many", cells=len(record.cells), columns=columns, delimiter=delimiter_name), record.line
    )


def _record(number: int, line: str, delimiter: str) -> CsvRecord | None:
    """Return the record of a line, None if its quotes are wrong."""
    try:
        (cells,) = csv.reader([line], delimiter=delimiter, strict=True)
    except csv.Error:
        return None
    if '"' in line and any(cell.lstrip().startswith('"') for cell in cells) and _blank_before_quote(line, delimiter):
        return None
    return CsvRecord(number, cells)


def _blank_before_quote(line: str, delimiter: str) -> str:
    """Return a cell that begins with blanks and a quote, which CSV doesn't take as a quote then; empty if none does."""
    match = re.search(rf'(?:^|{re.escape(delimiter)})([ \u00a0\u3000]+"[^{re.escape(delimiter)}]*)', line)
    return match[1] if match else ""


def _quote_problem(lines: Sequence[tuple[int, str]], index: int, delimiter: str) -> FileProblem:
    number, line = lines[index]
    if len(line) > csv.field_size_limit():
        return FileProblem(_message("too_long", characters=len(line)), number)
    line = line[:_SHOWN]
    if blank := _blank_before_quote(line, delimiter):
        return FileProblem(_message("quote_behind_blank", cell=blank.strip()), number)
    closed = re.search(rf'(?:^|{re.escape(delimiter)})"(?:[^"]|"")*"(?!["{re.escape(delimiter)}]|$)(.*)', line)
    if closed:
        return FileProblem(_message("quote_inside", rest=closed[1][:20]), number)
    for below, (_, other) in enumerate(lines[index + 1 : index + 6], 1):
        if re.match(rf'(?:[^"]|"")*"(?:{re.escape(delimiter)}|$)', other):
            return FileProblem(_message("line_break", lines=below), number)
    return FileProblem(_message("quote_open"), number)


def _message(key: str, **values: object) -> LocalizedMessage:
    return LocalizedMessage("config", f"csv_file.{key}", values)
