"""SQLite helpers: switching a file to its write-ahead log, and opening one without changing anything."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

_BUSY_S = 5.0

FileId = tuple[int, int]
"""Device and inode of a file. They differ for another file at the same path."""


def file_id(path: Path) -> FileId | None:
    """Return the id of the file at a path, None if there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def to_wal(db: sqlite3.Connection) -> None:
    """Switch a file to WAL, permanently.

    While another process does the same to a new file, SQLite ignores its time-out and fails as locked at once. Hence
    the loop.
    """
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def malformed_text() -> Iterator[None]:
    """Turn a UnicodeDecodeError, from text in a damaged file or in SQLite's message about it, into a DatabaseError."""
    try:
        yield
    except UnicodeDecodeError as error:
        msg = f"database disk image is malformed: {error}"
        raise sqlite3.DatabaseError(msg) from error


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open an existing file for reading it once; nothing is written to it or created beside it.

    Without a write-ahead log no process uses the file now, and it is opened as immutable. Otherwise SQLite would create
    the log.
    """
    is_unused = not path.with_name(f"{path.name}-wal").exists()
    immutable = "&immutable=1" if is_unused else ""
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro{immutable}", uri=True, timeout=_BUSY_S)
