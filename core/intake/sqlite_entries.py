"""SQL of the SQLite log for its entries: reading, pruning, and the search for missing ones."""

import sqlite3
from collections.abc import Iterable, Mapping

from core.intake import row_codec
from core.intake.missing_entries import NO_ENTRIES, ShardEnds, require_unbroken
from core.intake.port import EntryGap, LogEntry
from core.runtime.instant import Instant
from core.wire.shards import Shard

SCHEMA = (
    # Up to where each shard was pruned: every entry above it is there.
    "CREATE TABLE pruned (shard TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID",
    # Earlier versions pruned what all readers had passed, and didn't note up to where.
    """INSERT INTO pruned SELECT shard, max(
         coalesce((SELECT min(n) - 1 FROM entry WHERE entry.shard = head.shard), 0),
         coalesce((SELECT min(n) FROM cursor WHERE cursor.shard = head.shard), 0)) FROM head""",
)
_AFTER = f"SELECT {row_codec.COLUMNS} FROM entry WHERE shard = ? AND n > ? ORDER BY n LIMIT ?"  # noqa: S608 (names are ours)
_NOTE = "INSERT INTO pruned (shard, n) VALUES (?, ?) ON CONFLICT (shard) DO UPDATE SET n = max(n, excluded.n)"
_GAPS = """
SELECT n + 1, next - 1 FROM (SELECT n, lead(n) OVER (ORDER BY n) AS next FROM (
  SELECT :pruned AS n
  UNION ALL SELECT n FROM entry WHERE shard = :shard AND n > :pruned AND n <= :head
  UNION ALL SELECT :head + 1)) WHERE next > n + 1
"""


def ends(db: sqlite3.Connection) -> dict[Shard, ShardEnds]:
    """Return head and pruned position of every shard that ever had a row."""
    query = "SELECT head.shard, head.n, coalesce(pruned.n, 0) FROM head LEFT JOIN pruned USING (shard)"
    return {shard: ShardEnds(head, pruned) for shard, head, pruned in db.execute(query)}


def read_each(db: sqlite3.Connection, after: Mapping[Shard, int], limit: int) -> dict[Shard, list[LogEntry]]:
    """Return up to `limit` entries behind each position.

    Raises: EntriesMissing.
    """
    known = ends(db)
    found = {shard: entries_after(db, shard, n, limit) for shard, n in after.items()}
    for shard, entries in found.items():
        require_unbroken(shard, after[shard], limit, entries, known.get(shard, NO_ENTRIES))
    return found


def entries_after(db: sqlite3.Connection, shard: Shard, after: int, limit: int) -> list[LogEntry]:
    """Return up to `limit` entries behind a position that are there, whatever is missing."""
    return [row_codec.unpack(shard, row) for row in db.execute(_AFTER, (shard, after, limit)).fetchall()]


def first_missing(db: sqlite3.Connection, positions: Mapping[Shard, int]) -> dict[Shard, int]:
    """Return of each shard the next entry behind a position, where it must be there and isn't."""
    query = "SELECT 1 FROM entry WHERE shard = ? AND n = ?"
    following = {
        shard: max(positions.get(shard, 0), known.pruned) + 1
        for shard, known in ends(db).items()
        if max(positions.get(shard, 0), known.pruned) < known.head
    }
    return {shard: n for shard, n in following.items() if db.execute(query, (shard, n)).fetchone() is None}


def gaps(db: sqlite3.Connection) -> list[EntryGap]:
    """Return all that is missing."""
    return [
        EntryGap(shard, first, last)
        for shard, known in sorted(ends(db).items())
        for first, last in db.execute(_GAPS, {"shard": shard, "pruned": known.pruned, "head": known.head})
    ]


def note_pruned(db: sqlite3.Connection, positions: Iterable[tuple[Shard, int]]) -> None:
    """Note up to where shards were pruned; never moves backwards."""
    db.executemany(_NOTE, positions)


def prune(db: sqlite3.Connection, shard: Shard, *, behind: int, before: Instant, most: int) -> int:
    """Drop up to `most` entries of a shard, the oldest first, and note up to where; returns how many."""
    gone = db.execute(
        "DELETE FROM entry WHERE (shard, n) IN (SELECT shard, n FROM entry"
        " WHERE shard = ? AND n <= ? AND received < ? ORDER BY n LIMIT ?) RETURNING n",
        (shard, behind, before, most),
    ).fetchall()
    if gone:
        note_pruned(db, [(shard, max(n for (n,) in gone))])
    return len(gone)
