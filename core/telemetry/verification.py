"""Verification of the embedded store: checks each frame and block against its checksum, file by file.

A part that SQLite itself can't read is reported as damage too, and the check goes on with the rest.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from core.runtime.instant import DAY, HOUR
from core.telemetry import month_files
from core.telemetry.codec import Damaged, decode_block, decode_frame
from core.telemetry.hot_file import HotFile
from core.telemetry.month_files import MonthFiles, date_of, days_within
from core.telemetry.reading_columns import SERIES_BITS, ReadingColumns

_PAGE = 500
_ALL = (-(2**62), 2**62)

_SEALED = """
SELECT day FROM day_seal WHERE NOT EXISTS (
  SELECT 1 FROM hour_block WHERE key >= day_seal.day * 24 << 24 AND key < (day_seal.day + 1) * 24 << 24)
ORDER BY day
"""
_HAS_DAY = "SELECT 1 FROM block WHERE key >= ? AND key < ? LIMIT 1"

_OpenRead = Callable[[], AbstractContextManager[sqlite3.Connection | None]]
_Row = tuple[int, int, bytes]


class VerificationResult(msgspec.Struct):
    """Result of a verification."""

    frames: int = 0
    hours: int = 0
    """Blocks of an hour of a series."""
    days: int = 0
    """Blocks of a day of a series."""
    readings: int = 0
    damage: list[str] = msgspec.field(default_factory=list)


def verify(hot: HotFile, kept: MonthFiles) -> VerificationResult:
    """Check all files, while others read and write.

    Raises: NewerFile.
    """
    result = VerificationResult()
    if _is_sound(hot.read, hot.path, result):
        for id_, hour, data in _rows(hot.read, "frame", ("id", "hour"), _ALL, f"{hot.path}", result):
            result.frames += 1
            _count(result, f"{hot.path}, frame {id_}", decode_frame, hour, data)
        for key, _, data in _rows(hot.read, "hour_block", ("key", "key"), _ALL, f"{hot.path}", result):
            result.hours += 1
            _count(result, f"{hot.path}, hour_block {key}", _decode_hour, key, data)
    result.damage += _missing_days(hot, kept)
    for month in kept.between(0, month_files.LAST):
        path = kept.path(month)

        def open_read(month: int = month) -> AbstractContextManager[sqlite3.Connection | None]:
            return kept.read(month)

        if not _is_sound(open_read, path, result):
            continue
        first, last = days_within(month, *_ALL)
        for day in range(first, last + 1):
            where = f"{path}, day {date_of(day)}"
            bounds = (day << SERIES_BITS, ((day + 1) << SERIES_BITS) - 1)
            for key, _, data in _rows(open_read, "block", ("key", "key"), bounds, where, result):
                result.days += 1
                _count(result, where, _decode_day, key, data)
    return result


def _missing_days(hot: HotFile, kept: MonthFiles) -> list[str]:
    """Report sealed days that are in neither their month's file nor hot.db: the file is missing or an older copy."""
    try:
        with hot.read() as db:
            sealed = [day for (day,) in db.execute(_SEALED)] if db else []
    except sqlite3.DatabaseError:
        return []  # reported with hot.db itself
    missing: dict[int, list[int]] = {}
    for day in sealed:
        month = month_files.month_of(day)
        try:
            with kept.read(month) as db:
                bounds = day << SERIES_BITS, (day + 1) << SERIES_BITS
                has_day = db is not None and db.execute(_HAS_DAY, bounds).fetchone()
        except (Damaged, sqlite3.DatabaseError):
            continue
        if not has_day:
            missing.setdefault(month, []).append(day)
    return [
        f"{kept.path(month)}: {len(days)} sealed days are not in it, from {date_of(min(days))} to {date_of(max(days))}"
        for month, days in missing.items()
    ]


def _is_sound(open_read: _OpenRead, path: Path, result: VerificationResult) -> bool:
    """Add what SQLite finds wrong with a file's pages to the result; return False if it can't be read at all."""
    try:
        with open_read() as db:
            for (problem,) in db.execute("PRAGMA quick_check(3)") if db else ():
                if problem != "ok":
                    result.damage.append(f"{path}: {problem}")
    except Damaged as damage:  # its text names the file
        result.damage.append(str(damage))
        return False
    except sqlite3.DatabaseError as error:
        result.damage.append(f"{path}: {error}")
        return False
    return True


def _rows(
    open_read: _OpenRead,
    table: str,
    names: tuple[str, str],
    bounds: tuple[int, int],
    where: str,
    result: VerificationResult,
) -> Iterator[_Row]:
    """Yield (id, key, data) of a table in pages; stop where SQLite can't read on, and add that to the result."""
    id_, key = names
    query = f"SELECT {id_}, {key}, data FROM {table} WHERE {id_} BETWEEN ? AND ? ORDER BY {id_} LIMIT {_PAGE}"  # noqa: S608 (names are ours)
    first, last = bounds
    while True:
        try:
            with open_read() as db:
                page: list[_Row] = db.execute(query, (first, last)).fetchall() if db else []
        except (Damaged, sqlite3.DatabaseError) as error:
            result.damage.append(f"{where}: {error}")
            return
        yield from page
        if len(page) < _PAGE:
            return
        first = page[-1][0] + 1


def _count(
    result: VerificationResult, where: str, decode: Callable[[int, bytes], ReadingColumns], key: int, data: bytes
) -> None:
    try:
        result.readings += decode(key, data).size
    except Damaged as damage:
        result.damage.append(f"{where}: {damage}")


def _decode_hour(key: int, data: bytes) -> ReadingColumns:
    return decode_block(key, (key >> SERIES_BITS) * HOUR, data)


def _decode_day(key: int, data: bytes) -> ReadingColumns:
    return decode_block(key, (key >> SERIES_BITS) * DAY, data)
