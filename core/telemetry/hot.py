"""Where the embedded store keeps what is recent: frames as they were written, blocks of sealed hours, the log's cursor.

A reader that comes before the first writer finds nothing, and looks again.
"""

from pathlib import Path

from core.telemetry.file import StoreFile

STEPS = (
    (
        # Never reused ids: order of id = order of commit, also across deletions (AUTOINCREMENT).
        """CREATE TABLE frame (
             id INTEGER PRIMARY KEY AUTOINCREMENT, hour INTEGER NOT NULL, data BLOB NOT NULL)""",
        "CREATE INDEX frame_hour ON frame (hour)",
        # key = hour << 24 | series, so that sealing appends at the end of the tree.
        "CREATE TABLE hour_block (key INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        # Of sealed readings; those still in frames may be newer.
        """CREATE TABLE latest (
             series INTEGER PRIMARY KEY, at INTEGER NOT NULL, value INTEGER, q INTEGER NOT NULL)""",
        "CREATE TABLE cursor (shard TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID",
    ),
    # How often blocks of a day were put into its month's file; counted up before it is done (see sealing).
    ("CREATE TABLE day_seal (day INTEGER PRIMARY KEY, times INTEGER NOT NULL)",),
    # Which log, and which entry of it, a cursor is of; empty for one of an earlier version.
    ("ALTER TABLE cursor ADD COLUMN mark TEXT NOT NULL DEFAULT ''",),
)


class Hot(StoreFile):
    """hot.db of a folder."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Make the file where it is missing, unless `read_only`.

        Raises: WrongVersion.
        """
        super().__init__(path, STEPS, read_only=read_only)
