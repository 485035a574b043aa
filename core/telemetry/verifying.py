"""Whether every stored byte is still what was written: each frame and block against its checksum, file by file.

What SQLite itself can't read is damage like any other: it is named, and the rest is looked at all the same.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from core.runtime.instant import DAY, HOUR
from core.telemetry import months
from core.telemetry.codec import Damaged, decode_block, decode_frame
from core.telemetry.columns import SERIES_BITS, Columns
from core.telemetry.hot import Hot
from core.telemetry.months import Months, date_of, days_within

_PAGE = 500
_EVER = (-(2**62), 2**62)

_SEALED = """
SELECT day FROM day_seal WHERE NOT EXISTS (
  SELECT 1 FROM hour_block WHERE key >= day_seal.day * 24 << 24 AND key < (day_seal.day + 1) * 24 << 24)
ORDER BY day
"""
_HAS_DAY = "SELECT 1 FROM block WHERE key >= ? AND key < ? LIMIT 1"

_Reading = Callable[[], AbstractContextManager[sqlite3.Connection | None]]
_Row = tuple[int, int, bytes]


class Verified(msgspec.Struct):
    """What a look at every stored byte found."""

    frames: int = 0
    hours: int = 0
    """Blocks of an hour of a series."""
    days: int = 0
    """Blocks of a day of a series."""
    readings: int = 0
    damage: list[str] = msgspec.field(default_factory=list)


def verify(hot: Hot, kept: Months) -> Verified:
    """Read everything again. Others read and write meanwhile.

    Raises: WrongVersion.
    """
    found = Verified()
    if _is_sound(hot.read, hot.path, found):
        for id_, hour, data in _rows(hot.read, "frame", ("id", "hour"), _EVER, f"{hot.path}", found):
            found.frames += 1
            _count(found, f"{hot.path}, frame {id_}", decode_frame, hour, data)
        for key, _, data in _rows(hot.read, "hour_block", ("key", "key"), _EVER, f"{hot.path}", found):
            found.hours += 1
            _count(found, f"{hot.path}, hour_block {key}", _hour, key, data)
    found.damage += _missing_days(hot, kept)
    for month in kept.between(0, months.LAST):
        path = kept.path(month)

        def reading(month: int = month) -> AbstractContextManager[sqlite3.Connection | None]:
            return kept.read(month)

        if not _is_sound(reading, path, found):
            continue
        first, last = days_within(month, *_EVER)
        for day in range(first, last + 1):
            where = f"{path}, day {date_of(day)}"
            bounds = (day << SERIES_BITS, ((day + 1) << SERIES_BITS) - 1)
            for key, _, data in _rows(reading, "block", ("key", "key"), bounds, where, found):
                found.days += 1
                _count(found, where, _day, key, data)
    return found


def _missing_days(hot: Hot, kept: Months) -> list[str]:
    """Name sealed days that neither their month's file has nor hot.db: the file is gone, or an older one."""
    try:
        with hot.read() as db:
            sealed = [day for (day,) in db.execute(_SEALED)] if db else []
    except sqlite3.DatabaseError:
        return []  # told with the file itself
    missing: dict[int, list[int]] = {}
    for day in sealed:
        month = months.month_of(day)
        try:
            with kept.read(month) as db:
                bounds = day << SERIES_BITS, (day + 1) << SERIES_BITS
                there = db is not None and db.execute(_HAS_DAY, bounds).fetchone()
        except (Damaged, sqlite3.DatabaseError):
            continue
        if not there:
            missing.setdefault(month, []).append(day)
    return [
        f"{kept.path(month)}: {len(days)} sealed days are not in it, from {date_of(min(days))} to {date_of(max(days))}"
        for month, days in missing.items()
    ]


def _is_sound(reading: _Reading, path: Path, found: Verified) -> bool:
    """Note what SQLite finds wrong with a file's pages; False when it can't be read at all."""
    try:
        with reading() as db:
            for (said,) in db.execute("PRAGMA quick_check(3)") if db else ():
                if said != "ok":
                    found.damage.append(f"{path}: {said}")
    except Damaged as damage:  # names the file
        found.damage.append(str(damage))
        return False
    except sqlite3.DatabaseError as error:
        found.damage.append(f"{path}: {error}")
        return False
    return True


def _rows(
    reading: _Reading, table: str, names: tuple[str, str], bounds: tuple[int, int], where: str, found: Verified
) -> Iterator[_Row]:
    """Yield (place, key, data) of a table in pages; where SQLite can't go on, that is noted and the end."""
    place, key = names
    query = f"SELECT {place}, {key}, data FROM {table} WHERE {place} BETWEEN ? AND ? ORDER BY {place} LIMIT {_PAGE}"  # noqa: S608 (names are ours)
    first, last = bounds
    while True:
        try:
            with reading() as db:
                page: list[_Row] = db.execute(query, (first, last)).fetchall() if db else []
        except (Damaged, sqlite3.DatabaseError) as error:
            found.damage.append(f"{where}: {error}")
            return
        yield from page
        if len(page) < _PAGE:
            return
        first = page[-1][0] + 1


def _count(found: Verified, where: str, decode: Callable[[int, bytes], Columns], key: int, data: bytes) -> None:
    try:
        found.readings += decode(key, data).size
    except Damaged as damage:
        found.damage.append(f"{where}: {damage}")


def _hour(key: int, data: bytes) -> Columns:
    return decode_block(key, (key >> SERIES_BITS) * HOUR, data)


def _day(key: int, data: bytes) -> Columns:
    return decode_block(key, (key >> SERIES_BITS) * DAY, data)
