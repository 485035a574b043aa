"""SQL of an append to the SQLite log, and of the rows that it looks at first."""

import sqlite3
from collections.abc import Iterable, Sequence

from core.intake import deduplication, row_codec
from core.intake.port import IntakeBatch, LogEntry
from core.wire.shards import GatewayNumber, Shard


def names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM name ORDER BY number")]


def head(db: sqlite3.Connection, shard: Shard) -> int:
    row = db.execute("SELECT n FROM head WHERE shard = ?", (shard,)).fetchone()
    return 0 if row is None else int(row[0])


def heads(db: sqlite3.Connection, batches: Sequence[IntakeBatch]) -> dict[Shard, int]:
    """Return the last positions of the shards of batches."""
    known = dict(db.execute("SELECT shard, n FROM head"))
    return {shard: known.get(shard, 0) for shard in {batch.shard for batch in batches}}


def hashes(db: sqlite3.Connection, batches: Sequence[IntakeBatch]) -> dict[tuple[GatewayNumber, str, int], bytes]:
    """Return the hashes of what is in the log under the same numbers."""
    found = {}
    for batch in batches:
        key = batch.gw, batch.ep, batch.seq
        query = "SELECT hash FROM entry WHERE gw = ? AND ep = ? AND seq = ? AND origin <> 'released'"
        row = db.execute(query, key).fetchone()
        if row:
            found[key] = row[0]
    return found


def insert(db: sqlite3.Connection, entries: Sequence[LogEntry]) -> None:
    """Write entries, and the counters that they move."""
    db.executemany(
        "INSERT INTO entry (shard, n, gw, ep, seq, hash, received, origin, batch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (b.shard, entry.n, b.gw, b.ep, b.seq, b.hash, b.received, b.origin, row_codec.pack(b))
            for entry in entries
            for b in (entry.batch,)
        ],
    )
    db.executemany(
        "INSERT INTO head (shard, n) VALUES (?, ?) ON CONFLICT (shard) DO UPDATE SET n = excluded.n",
        {entry.batch.shard: entry.n for entry in entries}.items(),  # the last of a shard is its highest
    )


def hold(db: sqlite3.Connection, held: Iterable[deduplication.Hold]) -> None:
    """Put readings into quarantine."""
    db.executemany(
        "INSERT INTO held (shard, n, place, gw, ep, boot, seq, reading, reason, detail, since)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (
                b.shard,
                n,
                place,
                b.gw,
                b.ep,
                b.boot,
                b.seq,
                row_codec.pack_reading(w.reading, b),
                w.reason,
                w.detail,
                since,
            )
            for n, place, b, w, since in held
        ],
    )


def batch_at(db: sqlite3.Connection, shard: Shard, n: int) -> IntakeBatch | None:
    query = f"SELECT {row_codec.COLUMNS} FROM entry WHERE shard = ? AND n = ?"  # noqa: S608 (names are ours)
    row = db.execute(query, (shard, n)).fetchone()
    return None if row is None else row_codec.unpack(shard, row).batch
