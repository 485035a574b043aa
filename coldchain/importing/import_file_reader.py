"""Import files: TOML arrays of tables, or CSV with a `type` column, read into typed rows.

Every mistake in a file is found at once, and told with its place, field, value and what would be right. A row whose
fields are wrong is kept as an entry too, since others refer to it and it refers to others.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from coldchain.importing.columns import KINDS, KNOWN_BY, ImportRow
from coldchain.importing.field_readers import check_characters, moment
from coldchain.importing.mistakes import FilePosition, Mistake, WrongField, message
from config.characters import shown
from config.csv_file import CsvRecord, header_problems, likely_delimiter, lines_of, records, too_many_cells
from config.text_file import FileProblem, UnreadableFile, decode, decoded, forbidden_characters, parse_toml
from core.runtime.instant import Instant

FILE = FilePosition(0)
_WHOLE = ""
"""Stands for the row itself where no single field is wrong."""
_COLUMNS = {"type", *(field for _, readers in KINDS.values() for field in readers)}


class FileEntry(msgspec.Struct, frozen=True):
    """A row of the file as far as it could be read."""

    place: FilePosition
    kind: str
    values: Mapping[str, Any]
    """Values of the fields that could be read."""
    row: ImportRow | None
    """None when something in it is wrong."""
    key: tuple[str, ...]
    """Name by which other rows refer to it."""


class ImportFile(msgspec.Struct, frozen=True, kw_only=True):
    """Contents of an import file."""

    entries: list[FileEntry] = []
    mistakes: list[Mistake] = []
    since: Instant | None = None
    """Beginning of new bindings whose row gives none."""


class _Raw(NamedTuple):
    place: FilePosition
    kind: str
    fields: Mapping[str, object]


def read(path: Path) -> ImportFile:
    """Read a file by its ending, .toml or .csv."""
    kind = path.suffix.lower()
    if kind not in {".toml", ".csv"}:
        return ImportFile(mistakes=[Mistake(FILE, message("ending", file=path.name))])
    try:
        content = decoded(path.read_bytes(), path.name)
        if not content.strip():
            return ImportFile(mistakes=[Mistake(FILE, message("nothing"))])
        if kind == ".csv":
            return _with_characters(_read_csv(content), content)
        return _read_toml(parse_toml(decode(path.read_bytes(), path.name), path.name))
    except UnreadableFile as error:
        return ImportFile(mistakes=[_mistake(problem) for problem in error.problems])


def _mistake(problem: FileProblem) -> Mistake:
    return Mistake(FilePosition(problem.line, problem.line), problem.problem)


def _with_characters(file: ImportFile, content: str) -> ImportFile:
    """Return invisible characters on lines where no field was reported for one."""
    reported_lines = {mistake.place.number for mistake in file.mistakes if mistake.is_about("character")}
    more = [_mistake(problem) for problem in forbidden_characters(content) if problem.line not in reported_lines]
    return msgspec.structs.replace(file, mistakes=[*file.mistakes, *more])


def _read_toml(tables: dict[str, Any]) -> ImportFile:
    mistakes: list[Mistake] = []
    since = None
    if "since" in tables:
        value = tables.pop("since")
        try:
            since = moment(value)
        except WrongField as error:
            mistakes.append(Mistake(FILE, error.problem, "since", str(value)))
    return _collected(_toml_rows(tables, mistakes), since, mistakes)


def _toml_rows(tables: Mapping[str, Any], mistakes: list[Mistake]) -> Iterator[_Raw]:
    position = 1
    for kind, listed in tables.items():
        if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
            mistakes.append(Mistake(FilePosition(position, kind=kind), message("no_table", kind=shown(kind))))
            continue
        for number, table in enumerate(listed, 1):
            position += 1
            yield _Raw(FilePosition(position, number, kind), kind, table)


def _read_csv(content: str) -> ImportFile:
    lines, named = lines_of(content)
    first = next((place for place, (_, line) in enumerate(lines) if line.strip()), 0)
    delimiter = named or likely_delimiter(lines[first][1])
    found = records(lines[first:], delimiter)
    header = next(found)
    if isinstance(header, FileProblem):
        return ImportFile(
            mistakes=[_mistake(header), *(_mistake(each) for each in found if isinstance(each, FileProblem))]
        )
    mistakes = [_mistake(problem) for problem in header_problems(header)]
    names = [cell.strip() for cell in header.cells]
    place = FilePosition(header.line, header.line)
    if "type" not in names:
        signs = next((sign for sign in "，；|" if sign in lines[first][1]), "")
        problem = (
            message("other_delimiter", sign=signs)
            if signs
            else message("no_type", columns=", ".join(map(repr, names))[:200])
        )
        return ImportFile(mistakes=[*mistakes, Mistake(place, problem)])
    strange = [name for name in dict.fromkeys(names) if name and name not in _COLUMNS]
    mistakes += [Mistake(place, _no_such("no_column", name, sorted(_COLUMNS))) for name in strange]
    return _collected(_csv_rows(found, names, delimiter, mistakes), None, mistakes)


def _csv_rows(
    found: Iterator[CsvRecord | FileProblem], names: Sequence[str], delimiter: str, mistakes: list[Mistake]
) -> Iterator[_Raw]:
    for record in found:
        if isinstance(record, FileProblem):
            mistakes.append(_mistake(record))
            continue
        filled = {name: cell.strip() for name, cell in zip(names, record.cells, strict=False) if cell.strip()}
        kind = filled.pop("type", "")
        if kind.startswith("#"):
            continue
        place = FilePosition(record.line, record.line)
        if problem := too_many_cells(record, len(names), delimiter):
            mistakes.append(_mistake(problem))
            yield _Raw(place, kind, {_WHOLE: "", **filled})
        elif kind or filled:
            yield _Raw(place, kind, {name: value for name, value in filled.items() if name in _COLUMNS})


def _collected(found: Iterator[_Raw], since: Instant | None, mistakes: list[Mistake]) -> ImportFile:
    entries = []
    for raw in found:
        entry, wrong = _typed(raw)
        mistakes += wrong
        entries.append(entry)
    return ImportFile(entries=entries, mistakes=mistakes, since=since)


def _typed(raw: _Raw) -> tuple[FileEntry, list[Mistake]]:
    place, kind, fields = raw
    if kind not in KINDS:
        problem = _no_such("no_kind", kind, list(KINDS)) if kind else message("no_kind_given")
        return FileEntry(place, kind, {}, None, (kind,)), [Mistake(place, problem, "type", kind)]
    made, readers = KINDS[kind]
    mistakes: list[Mistake] = []
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name == _WHOLE:
            continue
        if name not in readers:
            mistakes.append(Mistake(place, _no_such("no_field", name, list(readers)), name, str(value)))
            continue
        try:
            check_characters(value)
            values[name] = readers[name](value)
        except WrongField as error:
            mistakes.append(Mistake(place, error.problem, name, str(value)))
    needed = [field.name for field in msgspec.structs.fields(made) if field.required and field.name != "place"]
    lacking = [name for name in needed if name not in fields]
    if lacking and _WHOLE not in fields:
        values_lacking = {"lacking": ", ".join(lacking), "kind": kind, "needed": ", ".join(needed)}
        mistakes.append(Mistake(place, message("lacking", **values_lacking)))
    row = None if mistakes or lacking or _WHOLE in fields else made(place=place, **values)
    if row is not None:
        return FileEntry(place, kind, values, row, row.key), []
    key = (kind, *(str(values.get(name, fields.get(name, ""))).strip() for name in KNOWN_BY.get(kind, ())))
    return FileEntry(place, kind, values, None, key), mistakes


def _no_such(name: str, word: str, known: Sequence[str]) -> Any:  # noqa: ANN401
    near = difflib.get_close_matches(word, known, 1)
    if near:
        return message(f"{name}_near", word=word, near=near[0])
    return message(name, word=word, known=", ".join(known))
