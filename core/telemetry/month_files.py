"""Month files of the embedded store: the day blocks of a month in UTC, in a SQLite file such as 202603.db.

A new file is completed under another name and then moved into place. So a file without its table is damaged, never new.
A process that writes, creates or deletes month files holds the sealer's lock. Readers in any process take no lock; they
look at the folder each time, and a missing file was deleted by retention.
tests/integration/test_embedded_months.py tries to break it.
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
from core.telemetry.embedded_file import StoreFile

_STEPS = (
    # key = day << 24 | series: new days are appended at the end of the tree.
    ("CREATE TABLE block (key INTEGER PRIMARY KEY, data BLOB NOT NULL)",),
)
_PAGE_BYTES = 32_768
"""A day block has 1 to 2 kB, so a third of SQLite's usual 4 kB pages would stay empty."""
NAME = re.compile(r"(\d{6})\.db")
_EPOCH = date(1970, 1, 1)
LAST = 999_912
"""Last month that a file can have."""
_OPEN = 24
"""Files that a process keeps open for reading."""


def date_of(day: int) -> date:
    """Return the UTC date of a day number since 1970."""
    return _EPOCH + timedelta(days=day)


def month_of(day: int) -> int:
    """Return the month, such as 202603, of a day number since 1970."""
    of_day = date_of(day)
    return of_day.year * 100 + of_day.month


def first_day(month: int) -> int:
    """Return the day number since 1970 of the first day of a month."""
    return (date(month // 100, month % 100, 1) - _EPOCH).days


class MonthFiles:
    """Month files of a telemetry folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[int, tuple[int, StoreFile]] = {}

    def path(self, month: int) -> Path:
        """Return the path of a month's file, whether it exists or not."""
        return self._folder / f"{month:06}.db"

    def between(self, first: int, last: int) -> list[int]:
        """Return the months in [first, last] that have a file."""
        try:
            names = [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []
        months = (int(name[1]) for name in map(NAME.fullmatch, names) if name)
        return sorted(month for month in months if first <= month <= last)

    @contextmanager
    def read(self, month: int) -> Iterator[sqlite3.Connection | None]:
        """Yield a snapshot of a month's file, None if the file doesn't exist.

        Raises: Damaged, NewerFile.
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
        """Yield a month's file for writing, created if it is missing. The caller holds the sealer's lock.

        Raises: NewerFile; sqlite3.DatabaseError for a damaged file; sqlite3.OperationalError if the disk refuses.
        """
        path = self.path(month)
        if not path.exists():
            self._create(path)
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
        """Delete the files of all months before `month`. The caller holds the sealer's lock."""
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
        """Return a month's file for reading, opened again if it was replaced; None if it doesn't exist."""
        path = self.path(month)
        open_inode, file = self._open.pop(month, (None, None))
        try:
            inode = path.stat().st_ino
        except FileNotFoundError:
            inode = None
        if file is not None and open_inode != inode:
            file.close()
            file = None
        if inode is None:
            return None
        file = file or StoreFile(path, _STEPS, read_only=True)
        self._open[month] = (inode, file)
        if len(self._open) > _OPEN:
            self._open.pop(next(iter(self._open)))[1].close()
        return file

    def _create(self, path: Path) -> None:
        temporary = path.with_suffix(".new")
        for leftover in self._folder.glob(f"{temporary.name}*"):
            leftover.unlink()
        file = StoreFile(temporary, _STEPS, read_only=False, page_bytes=_PAGE_BYTES)
        file.close()
        temporary.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def days_within(month: int, first: int, last: int) -> tuple[int, int]:
    """Return the part of the days [first, last] that lies in a month, all as day numbers since 1970."""
    following = month + 1 if month % 100 < 12 else month + 89  # noqa: PLR2004 (December)
    return max(first, first_day(month)), min(last, first_day(following) - 1)


def start_of(month: int) -> int:
    """Return the first instant of a month."""
    return first_day(month) * DAY
