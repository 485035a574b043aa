"""Where the embedded store keeps sealed days: a file a month, named 202603.db, by days in UTC.

A file is made whole beside its place and moved there, so that one without its table is damaged, never young. Whoever
writes, makes or deletes them holds the sealer's lock; readers in any process come and go as they like, and look at the
folder anew each time: a file that is gone was deleted by retention.
"""

import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from core.runtime.instant import DAY
from core.telemetry.codec import Damaged
from core.telemetry.file import StoreFile

_STEPS = (
    # key = day << 24 | series: days are appended at the end of the tree, and a curve's are found by their number.
    ("CREATE TABLE block (key INTEGER PRIMARY KEY, data BLOB NOT NULL)",),
)
_PAGE_BYTES = 32_768
"""A day's block is 1 to 2 kB: of SQLite's usual pages of 4 kB a third would be air."""
NAME = re.compile(r"(\d{6})\.db")
_EPOCH = date(1970, 1, 1)
LAST = 999_912
"""No month is later."""
_OPEN = 24
"""Files that a reader keeps open."""


def date_of(day: int) -> date:
    """Return the date, in UTC, of a day since 1970."""
    return _EPOCH + timedelta(days=day)


def month_of(day: int) -> int:
    """Return the month, such as 202603, of a day since 1970."""
    when = date_of(day)
    return when.year * 100 + when.month


def first_day(month: int) -> int:
    """Return a month's first day since 1970."""
    return (date(month // 100, month % 100, 1) - _EPOCH).days


class Months:
    """The month files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[int, tuple[int, StoreFile]] = {}

    def path(self, month: int) -> Path:
        """Return where a month's file is or would be."""
        return self._folder / f"{month:06}.db"

    def between(self, first: int, last: int) -> list[int]:
        """Return the months in [first, last] that have a file."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        found = (int(name[1]) for name in map(NAME.fullmatch, names) if name)
        return sorted(month for month in found if first <= month <= last)

    @contextmanager
    def read(self, month: int) -> Iterator[sqlite3.Connection | None]:
        """Yield what a month's file held at one moment, None when it has none.

        Raises: Damaged, WrongVersion.
        """
        path = self.path(month)
        with self._lock:
            file = self._reader(month)
            if file is None:
                yield None
                return
            try:
                with file.read() as db:
                    if db is None and path.exists():
                        msg = f"{path}: its content is gone"
                        raise Damaged(msg)
                    yield db
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                msg = f"{path}: {error}"
                raise Damaged(msg) from error

    @contextmanager
    def write(self, month: int) -> Iterator[StoreFile]:
        """Yield a month's file to be written to, made where it is missing. Hold the sealer's lock.

        Raises: WrongVersion; sqlite3.DatabaseError for a damaged file; sqlite3.OperationalError when the disk refuses.
        """
        path = self.path(month)
        if not path.exists():
            self._make(path)
        elif not path.stat().st_size:
            msg = f"{path} is empty: put it back from a backup, or delete it"
            raise sqlite3.DatabaseError(msg)
        file = StoreFile(path, _STEPS, read_only=False)
        try:
            yield file
            file.fold()
        finally:
            file.close()

    def drop_before(self, month: int) -> None:
        """Delete the files of all months before one. Hold the sealer's lock."""
        for old in self.between(-1, month - 1):
            for suffix in ("", "-wal", "-shm"):
                self.path(old).with_name(self.path(old).name + suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for _, file in self._open.values():
                file.close()
            self._open.clear()

    def _reader(self, month: int) -> StoreFile | None:
        """Return the file to read from; another one once it was deleted and made again."""
        path = self.path(month)
        number, file = self._open.pop(month, (None, None))
        try:
            there = path.stat().st_ino
        except FileNotFoundError:
            there = None
        if file is not None and number != there:
            file.close()
            file = None
        if there is None:
            return None
        file = file or StoreFile(path, _STEPS, read_only=True)
        self._open[month] = (there, file)
        if len(self._open) > _OPEN:
            self._open.pop(next(iter(self._open)))[1].close()
        return file

    def _make(self, path: Path) -> None:
        young = path.with_suffix(".new")
        for left in self._folder.glob(f"{young.name}*"):
            left.unlink()
        file = StoreFile(young, _STEPS, read_only=False, page_bytes=_PAGE_BYTES)
        file.close()
        young.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def days_within(month: int, first: int, last: int) -> tuple[int, int]:
    """Return the part of [first, last], in days since 1970, that lies in a month."""
    following = month + 1 if month % 100 < 12 else month + 89  # noqa: PLR2004 (December)
    return max(first, first_day(month)), min(last, first_day(following) - 1)


def start_of(month: int) -> int:
    """Return the first instant of a month."""
    return first_day(month) * DAY
