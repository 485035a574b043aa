"""How a SQLite file of ours is switched to its write-ahead log, and how one looks into it without a trace."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

_PATIENCE_S = 5.0

FileId = tuple[int, int]
"""Device and number of a file: another one at the same path has others."""


def file_id(path: Path) -> FileId | None:
    """Return which file is at a path now, None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def to_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL, as the file stays from then on.

    While another process does the same to a new file SQLite says locked at once, whatever its time-out: hence the loop.
    """
    ends = time.monotonic() + _PATIENCE_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def malformed_text() -> Iterator[None]:
    """Turn what Python says of a damaged file's text, or of SQLite's words about it, into an error of SQLite."""
    try:
        yield
    except UnicodeDecodeError as error:
        msg = f"database disk image is malformed: {error}"
        raise sqlite3.DatabaseError(msg) from error


def look_into(path: Path) -> sqlite3.Connection:
    """Open a file that is there to read it once; nothing is written, made or left beside it.

    Without a write-ahead log nobody works with it now, and SQLite may take it as one that never changes: else it would
    make that log itself.
    """
    alone = not path.with_name(f"{path.name}-wal").exists()
    never = "&immutable=1" if alone else ""
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro{never}", uri=True, timeout=_PATIENCE_S)
