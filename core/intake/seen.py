"""Which sequence numbers of a spool's life have been seen: closed ranges, one row each, merged as they meet.

A gateway that loses nothing has one row for a year of readings, so this outlives the pruning of the log.
"""

import sqlite3

SCHEMA = """
CREATE TABLE seen (
  gw TEXT NOT NULL, ep TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (gw, ep, first)
) WITHOUT ROWID
"""


def has(db: sqlite3.Connection, gw: str, ep: str, seq: int) -> bool:
    """Whether a number has been seen."""
    row = db.execute(
        "SELECT last FROM seen WHERE gw = ? AND ep = ? AND first <= ? ORDER BY first DESC LIMIT 1", (gw, ep, seq)
    ).fetchone()
    return row is not None and row[0] >= seq


def add(db: sqlite3.Connection, gw: str, ep: str, first: int, last: int) -> None:
    """Mark [first, last] as seen, and merge it with whatever it overlaps or touches."""
    before = db.execute(
        "SELECT first, last FROM seen WHERE gw = ? AND ep = ? AND first < ? ORDER BY first DESC LIMIT 1",
        (gw, ep, first),
    ).fetchone()
    if before is not None and before[1] >= first - 1:
        first, last = before[0], max(last, before[1])
    end = db.execute(
        "SELECT max(last) FROM seen WHERE gw = ? AND ep = ? AND first BETWEEN ? AND ?", (gw, ep, first, last + 1)
    ).fetchone()[0]
    last = last if end is None else max(last, end)
    db.execute("DELETE FROM seen WHERE gw = ? AND ep = ? AND first > ? AND first <= ?", (gw, ep, first, last))
    db.execute(
        "INSERT INTO seen (gw, ep, first, last) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (gw, ep, first) DO UPDATE SET last = excluded.last",
        (gw, ep, first, last),
    )


def ranges(db: sqlite3.Connection, gw: str, ep: str) -> list[tuple[int, int]]:
    """Return all ranges, ascending; no two overlap or touch."""
    return [
        (first, last)
        for first, last in db.execute(
            "SELECT first, last FROM seen WHERE gw = ? AND ep = ? ORDER BY first", (gw, ep)
        ).fetchall()
    ]
