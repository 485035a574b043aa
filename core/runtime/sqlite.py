"""How a SQLite file of ours is switched to its write-ahead log, which readers and a writer share."""

import sqlite3
import time

_PATIENCE_S = 5.0


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
