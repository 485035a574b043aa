"""What an import file says: TOML arrays of tables, or CSV with a `type` column, as typed rows.

Every mistake in it is found at once, and told with row, field, value and what would be right.
"""

import csv
import difflib
import io
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from coldchain.importing.fields import moment
from coldchain.importing.rows import KINDS, KNOWN_BY, Row
from core.errors import Invalid
from core.runtime.instant import Instant


class Mistake(msgspec.Struct, frozen=True):
    """One thing to mend: where it stands, which field, what stands there, and what would be right."""

    where: str
    field: str
    value: str
    problem: str

    def __str__(self) -> str:
        shown = f"{self.field} = {self.value!r}: " if self.field else ""
        return f"{self.where}: {shown}{self.problem}"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file as read."""

    rows: list[Row] = []
    mistakes: list[Mistake] = []
    unreadable: list[tuple[str, ...]] = []
    """Keys of rows with mistakes: what refers to them has none of its own."""
    since: Instant | None = None
    """From when new bindings are, unless their row says so."""


def read(path: Path) -> File:
    """Read a file by its ending, .toml or .csv."""
    raw = path.read_bytes()
    known = path.suffix.lower() in {".toml", ".csv"}
    if known and not raw.strip():
        return _broken("the file", "holds nothing")
    if path.suffix.lower() == ".toml":
        return _read_toml(raw)
    if path.suffix.lower() == ".csv":
        return _collected(_csv_rows(raw), None)
    return _broken("the file", f"{path.name}: neither .toml nor .csv; name it by what it is")


def _read_toml(raw: bytes) -> File:
    try:
        tables = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return _broken("the file", f"not TOML in UTF-8: {error}")
    since = None
    if "since" in tables:
        try:
            since = moment("since", tables.pop("since"))
        except Invalid as error:
            return File(mistakes=[Mistake("the file", error.field, str(error.value), error.problem)])
    return _collected(_toml_rows(tables), since)


def _toml_rows(tables: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, object]]]:
    for kind, listed in tables.items():
        if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
            yield kind, kind, {"": f"write each as a table headed [[{kind}]]"}
            continue
        for number, table in enumerate(listed, 1):
            yield kind, f"{kind} {number}", table


def _csv_rows(raw: bytes) -> Iterator[tuple[str, str, Mapping[str, object]]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("gb18030", errors="replace")  # as Excel writes it on a Chinese Windows
    lines = csv.reader(io.StringIO(text, newline=""))
    head = [name.strip() for name in next(lines, [])]
    if "type" not in head:
        yield "", "line 1", {"": "the first line must name the columns, one of them `type`"}
        return
    for cells in lines:
        where = f"line {lines.line_num}"
        filled = {name: cell.strip() for name, cell in zip(head, cells, strict=False) if cell.strip()}
        if any(cell.strip() for cell in cells[len(head) :]):
            yield "", where, {"": f"has {len(cells)} cells under {len(head)} columns; a comma too much?"}
            continue
        kind = str(filled.pop("type", ""))
        if (kind or filled) and not kind.startswith("#"):
            yield kind, where, filled


def _collected(found: Iterator[tuple[str, str, Mapping[str, object]]], since: Instant | None) -> File:
    rows: list[Row] = []
    mistakes: list[Mistake] = []
    unreadable: list[tuple[str, ...]] = []
    for kind, where, fields in found:
        row, wrong = _typed(kind, where, fields)
        mistakes += wrong
        if row is not None:
            rows.append(row)
        else:
            unreadable.append((kind, *(str(fields.get(name, "")).strip() for name in KNOWN_BY.get(kind, ()))))
    return File(rows=rows, mistakes=mistakes, unreadable=unreadable, since=since)


def _typed(kind: str, where: str, fields: Mapping[str, object]) -> tuple[Row | None, list[Mistake]]:
    if "" in fields:
        return None, [Mistake(where, "", "", str(fields[""]))]
    if kind not in KINDS:
        return None, [Mistake(where, "type", kind, _instead(kind, KINDS))]
    made, readers = KINDS[kind]
    mistakes = [
        Mistake(where, name, str(fields[name]), f"there is no such field; {_instead(name, readers)}")
        for name in fields
        if name not in readers
    ]
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name in readers:
            try:
                values[name] = readers[name](name, value)
            except Invalid as error:
                mistakes.append(Mistake(where, name, str(value), error.problem))
    needed = [field.name for field in msgspec.structs.fields(made) if field.required and field.name != "where"]
    if lacking := [name for name in needed if name not in fields]:
        problem = f"{', '.join(lacking)} missing; a row of type {kind} needs {', '.join(needed)}"
        mistakes.append(Mistake(where, "", "", problem))
    return (None if mistakes else made(where=where, **values)), mistakes


def _instead(word: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"write one of {', '.join(known)}"


def _broken(where: str, problem: str) -> File:
    return File(mistakes=[Mistake(where, "", "", problem)])
