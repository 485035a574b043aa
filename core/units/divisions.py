"""Administrative divisions of GB/T 2260: which code names which place, and from when until when.

`config/tables/divisions.tsv` ships; docs/divisions.md says where it comes from and what it covers. An operator adds
rows in a file `divisions.tsv` of the same columns in the folder `tables` beside coldchain.toml, such as the divisions
of the production corps (兵团), which are none of GB/T 2260. tests/unit/test_divisions.py tries to break it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec

from config.text_file import decode
from core.errors import Invalid
from core.units.messages import message

COLUMNS = ("code", "name", "parent", "since", "until", "source")
FILE = "divisions.tsv"
_CODE = re.compile(r"[1-9][0-9]{5}")


class InvalidDivisions(Exception):
    """An invalid table of divisions. The text names file and line, and what is wrong."""


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """A division under one name in [since, until). None in `since` means: longer than the table knows."""

    code: str
    name: str
    parent: str | None
    """Code of the division above; None for a province and its like."""
    since: date | None = None
    until: date | None = None
    source: str

    def covers(self, day: date) -> bool:
        """Return whether the division existed on a day under this name."""
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)


class Divisions:
    """Divisions by code."""

    def __init__(self, rows: Iterable[Division]) -> None:
        self._by_code: dict[str, list[Division]] = defaultdict(list)
        for row in rows:
            self._by_code[row.code].append(row)

    def at(self, code: str, day: date) -> Division | None:
        """Return the division that had a code on a day, the later one where two overlap; None if there was none."""
        held = [row for row in self._by_code.get(code, ()) if row.covers(day)]
        return max(held, key=lambda row: row.since or date.min, default=None)

    def require(self, field: str, code: str, day: date) -> Division:
        """Return the division that has a code on a day.

        Raises: Invalid, naming the field that had the code.
        """
        division = self.at(code, day)
        if division is None:
            raise Invalid(field=field, value=code, problem=message("division", code=code))
        return division

    def below(self, code: str, day: date) -> list[Division]:
        """Return the divisions directly below one on a day, by code."""
        rows = (self.at(below, day) for below, held in self._by_code.items() if any(row.parent == code for row in held))
        return sorted((row for row in rows if row is not None and row.parent == code), key=lambda row: row.code)


def load(folder: Path | None = None) -> Divisions:
    """Return the divisions that ship, with those of the operator's folder if it has any.

    Raises: InvalidDivisions, UnreadableFile; OSError when the operator's file can't be read.
    """
    own = folder / FILE if folder else None
    if own is None or not own.is_file():
        return shipped()
    return Divisions([*_shipped_rows(), *_rows(decode(own.read_bytes(), str(own)), str(own))])


@cache
def shipped() -> Divisions:
    """Return the divisions that ship."""
    return Divisions(_shipped_rows())


@cache
def _shipped_rows() -> tuple[Division, ...]:
    text = (resources.files("config") / "tables" / FILE).read_text("utf-8")
    return tuple(_rows(text, f"config/tables/{FILE}"))


def _rows(text: str, name: str) -> Iterator[Division]:
    head, *lines = text.split("\n")
    if tuple(head.split("\t")) != COLUMNS:
        msg = f"{name}: line 1: the columns are {' '.join(COLUMNS)}, with tabs between them"
        raise InvalidDivisions(msg)
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        try:
            yield _row(line.split("\t"))
        except ValueError as error:
            msg = f"{name}: line {number}: {error}"
            raise InvalidDivisions(msg) from None


def _row(cells: list[str]) -> Division:
    if len(cells) != len(COLUMNS):
        msg = f"{len(cells)} cells in place of {len(COLUMNS)}"
        raise ValueError(msg)
    code, name, parent, since, until, source = (cell.strip() for cell in cells)
    for wrong in (value for value in (code, parent or code) if not _CODE.fullmatch(value)):
        msg = f"{wrong!r} is no code of six digits"
        raise ValueError(msg)
    if not name or not source:
        msg = "a division needs a name and a source"
        raise ValueError(msg)
    begin, end = (date.fromisoformat(day) if day else None for day in (since, until))
    if begin and end and end <= begin:
        msg = f"it ends on {until}, not after it begins"
        raise ValueError(msg)
    return Division(code=code, name=name, parent=parent or None, since=begin, until=end, source=source)
