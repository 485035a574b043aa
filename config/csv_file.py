"""CSV files, read strictly: one record a line, every cell where it belongs, or a problem with its line.

A cell may be quoted but not go on in another line: a quote that nobody closed would take the rows behind it into its
cell. Commas, semicolons and tabs separate cells; a first line `sep=;`, which Excel reads and writes, says which.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from config.messages import Message
from config.text_file import FileProblem

DELIMITERS = (",", ";", "\t")
_SHOWN = 4_096
"""Characters of a line in which the wrong quote is looked for, to name it."""
_SEP = re.compile(r'"?sep=(?P<delimiter>[,;\t])"?', re.IGNORECASE)


class Record(NamedTuple):
    """The cells of one line."""

    line: int
    cells: list[str]


class Lines(NamedTuple):
    """Lines of a file, and the delimiter that its first line names, if it does; that line isn't among them."""

    lines: list[tuple[int, str]]
    delimiter: str | None


def lines_of(text: str) -> Lines:
    """Split a text into numbered lines."""
    lines = list(enumerate(text.split("\n"), 1))
    named = _SEP.fullmatch(lines[0][1].strip(" "))
    if named:
        return Lines(lines[1:], named["delimiter"])
    return Lines(lines, None)


def likely_delimiter(line: str) -> str:
    """Return the delimiter that a header line has most of; a comma where it has none."""
    bare = re.sub(r'"[^"]*"', "", line)
    return max(DELIMITERS, key=bare.count)


def records(lines: Sequence[tuple[int, str]], delimiter: str) -> Iterator[Record | FileProblem]:
    """Yield the cells of each line that isn't empty, or what is wrong with it."""
    for place, (number, line) in enumerate(lines):
        if not line.strip():
            continue
        yield _record(number, line, delimiter) or _quote_problem(lines, place, delimiter)


def header_problems(record: Record) -> list[FileProblem]:
    """Return what is wrong with the names of columns: each needs one of its own."""
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


def too_many_cells(record: Record, columns: int, delimiter: str) -> FileProblem | None:
    """Return the problem of a record in which something stands beyond the last column."""
    if not any(cell.strip() for cell in record.cells[columns:]):
        return None
    sign = _message({",": "comma", ";": "semicolon", "\t": "tab"}[delimiter])
    return FileProblem(_message("too_many", cells=len(record.cells), columns=columns, delimiter=sign), record.line)


def _record(number: int, line: str, delimiter: str) -> Record | None:
    """Return the cells of a line whose quotes are as they should be."""
    try:
        (cells,) = csv.reader([line], delimiter=delimiter, strict=True)
    except csv.Error:
        return None
    if '"' in line and any(cell.lstrip().startswith('"') for cell in cells) and _blank_before_quote(line, delimiter):
        return None
    return Record(number, cells)


def _blank_before_quote(line: str, delimiter: str) -> str:
    """Return a cell that begins with blanks and a quote, which isn't taken for one then."""
    found = re.search(rf'(?:^|{re.escape(delimiter)})([ \u00a0\u3000]+"[^{re.escape(delimiter)}]*)', line)
    return found[1] if found else ""


def _quote_problem(lines: Sequence[tuple[int, str]], place: int, delimiter: str) -> FileProblem:
    number, line = lines[place]
    if len(line) > csv.field_size_limit():
        return FileProblem(_message("too_long", characters=len(line)), number)
    line = line[:_SHOWN]
    if blank := _blank_before_quote(line, delimiter):
        return FileProblem(_message("quote_behind_blank", cell=blank.strip()), number)
    closed = re.search(rf'(?:^|{re.escape(delimiter)})"(?:[^"]|"")*"(?!["{re.escape(delimiter)}]|$)(.*)', line)
    if closed:
        return FileProblem(_message("quote_inside", rest=closed[1][:20]), number)
    for below, (_, other) in enumerate(lines[place + 1 : place + 6], 1):
        if re.match(rf'(?:[^"]|"")*"(?:{re.escape(delimiter)}|$)', other):
            return FileProblem(_message("line_break", lines=below), number)
    return FileProblem(_message("quote_open"), number)


def _message(key: str, **values: object) -> Message:
    return Message("config", f"csv_file.{key}", values)
