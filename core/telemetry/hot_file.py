"""Hot file of the embedded store, hot.db: frames of open hours, blocks of sealed hours, the log's cursor.

`core.telemetry.codec` has the byte tables of frames and blocks.

| table | row |
|---|---|
| frame | readings of one hour from one write; `hour` since 1970; `data` a frame |
| hour_block | readings of one series in a sealed hour; `key` is `hour << 24 | series`; `data` a block |
| latest | newest sealed reading of a series; `value` in hundredths, null for a failed one |
| cursor | position `n` up to which a shard of the intake log is stored; `mark` says of which log |
| day_seal | how often blocks of a UTC day were put into the file of its month |
"""

from pathlib import Path

from core.telemetry.embedded_file import StoreFile

STEPS = (
    (
        # AUTOINCREMENT never reuses an id: the order of ids is the order of commits, also across deletions.
        """CREATE TABLE frame (
             id INTEGER PRIMARY KEY AUTOINCREMENT, hour INTEGER NOT NULL, data BLOB NOT NULL)""",
        "CREATE INDEX frame_hour ON frame (hour)",
        # The hour comes first in the key, so that sealing appends at the end of the tree.
        "CREATE TABLE hour_block (key INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        # Sealed readings only; those still in frames may be newer.
        """CREATE TABLE latest (
             series INTEGER PRIMARY KEY, at INTEGER NOT NULL, value INTEGER, q INTEGER NOT NULL)""",
        "CREATE TABLE cursor (shard TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID",
    ),
    # Incremented before the day's blocks are written (see day_sealing).
    ("CREATE TABLE day_seal (day INTEGER PRIMARY KEY, times INTEGER NOT NULL)",),
    # Log and entry that a cursor belongs to; empty in a file of an earlier version.
    ("ALTER TABLE cursor ADD COLUMN mark TEXT NOT NULL DEFAULT ''",),
)


class HotFile(StoreFile):
    """Hot file of a telemetry folder. A reader that opens it before the first writer finds nothing, and tries again."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Create the file if it is missing, unless `read_only`.

        Raises: NewerFile.
        """
        super().__init__(path, STEPS, read_only=read_only)
