"""Which sequence numbers of a spool's life have been seen, in SQLite: closed ranges, one row each, merged as they meet.

A gateway that loses nothing has one row for a year of readings, so this outlives the pruning of the log.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping

from core.intake.port import Life
from core.intake.ranges import Ranges, spans

SCHEMA = """
CREATE TABLE seen (
  gw TEXT NOT NULL, ep TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (gw, ep, first)
) WITHOUT ROWID
"""
_BEFORE = "SELECT first, last FROM seen WHERE gw = ? AND ep = ? AND first < ? ORDER BY first DESC LIMIT 1"


def near(db: sqlite3.Connection, life: Life, numbers: Iterable[tuple[int, int]]) -> Ranges:
    """Read the ranges that given ones lie in or touch."""
    found: list[tuple[int, int]] = []
    for low, high in spans(numbers):
        found += db.execute(_BEFORE, (*life, low)).fetchall()
        found += db.execute(
            "SELECT first, last FROM seen WHERE gw = ? AND ep = ? AND first BETWEEN ? AND ?", (*life, low, high + 1)
        ).fetchall()
    return Ranges(found)


def save(db: sqlite3.Connection, seen: Mapping[Life, Ranges]) -> None:
    """Write what became of the ranges."""
    db.executemany(
        "DELETE FROM seen WHERE gw = ? AND ep = ? AND first = ?",
        [(*life, first) for life, ranges in seen.items() for first in ranges.gone()],
    )
    db.executemany(
        "INSERT INTO seen (gw, ep, first, last) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (gw, ep, first) DO UPDATE SET last = excluded.last",
        [(*life, *one) for life, ranges in seen.items() for one in ranges.changed()],
    )


def all_of(db: sqlite3.Connection, life: Life) -> list[tuple[int, int]]:
    """Return all ranges, ascending; no two overlap or touch."""
    return db.execute("SELECT first, last FROM seen WHERE gw = ? AND ep = ? ORDER BY first", life).fetchall()


def some_of(db: sqlite3.Connection, life: Life, asked: Collection[int], most: int) -> list[tuple[int, int]]:
    """Return the first, the `most` highest, and those that hold a number asked about."""
    found = db.execute(
        "SELECT first, last FROM seen WHERE gw = ? AND ep = ? ORDER BY first DESC LIMIT ?", (*life, most)
    ).fetchall()
    if len(found) == most:
        found += db.execute(
            "SELECT first, last FROM seen WHERE gw = ? AND ep = ? ORDER BY first LIMIT 1", life
        ).fetchall()
        for seq in asked:
            found += db.execute(_BEFORE, (*life, seq + 1)).fetchall()
    return sorted(set(found))
