"""SQL of the PostgreSQL log for its entries: reading, pruning, and the search for missing ones."""

from collections.abc import Iterable, Mapping, Sequence

from core.intake import row_codec
from core.intake.missing_entries import NO_ENTRIES, ShardEnds, require_unbroken
from core.intake.port import EntryGap, IntakeBatch, LogEntry
from core.intake.postgres_append import columns
from core.intake.postgres_server import Db, make_partitions
from core.runtime.instant import Instant
from core.wire.shards import Shard

_GAPS = """
WITH ends AS (SELECT h.n AS head, coalesce(p.n, 0) AS pruned
  FROM intake.head h LEFT JOIN intake.pruned p USING (shard) WHERE h.shard = %(shard)s)
SELECT n + 1, next - 1 FROM (SELECT n, lead(n) OVER (ORDER BY n) AS next FROM (
  SELECT pruned AS n FROM ends
  UNION ALL SELECT e.n FROM intake.entry e, ends WHERE e.shard = %(shard)s AND e.n > pruned AND e.n <= head
  UNION ALL SELECT head + 1 FROM ends) AS there) AS neighbours WHERE next > n + 1 ORDER BY n
"""


def ends(db: Db) -> dict[Shard, ShardEnds]:
    """Return head and pruned position of every shard that ever had a row."""
    query = (
        "SELECT h.shard, h.n, coalesce(p.n, 0) FROM intake.head h LEFT JOIN intake.pruned p USING (shard)"
        " WHERE h.n > 0 ORDER BY h.shard"
    )
    return {shard: ShardEnds(head, pruned) for shard, head, pruned in db.execute(query)}


def read_each(db: Db, after: Mapping[Shard, int], limit: int) -> dict[Shard, list[LogEntry]]:
    """Return up to `limit` entries behind each position, by one statement: all of it as of one moment.

    Raises: EntriesMissing.
    """
    found = db.execute(
        f"SELECT k.shard, h.n, coalesce(p.n, 0), e.* FROM unnest(%s::text[], %s::bigint[]) AS k (shard, after)"  # noqa: S608 (names are ours)
        " JOIN intake.head h ON h.shard = k.shard LEFT JOIN intake.pruned p ON p.shard = k.shard"
        f" LEFT JOIN LATERAL (SELECT {row_codec.COLUMNS} FROM intake.entry e WHERE e.shard = k.shard AND e.n > k.after"
        " ORDER BY n LIMIT %s) AS e ON true ORDER BY h.shard, e.n",
        (*columns(list(after.items()), 2), limit),
    ).fetchall()
    known: dict[Shard, ShardEnds] = {}
    entries: dict[Shard, list[LogEntry]] = {shard: [] for shard in after}
    for shard, head, pruned, *row in found:
        if shard not in known:
            known[shard] = ShardEnds(head, pruned)
        if row[0] is not None:
            entries[shard].append(row_codec.unpack(shard, tuple(row)))
    for shard, some in entries.items():
        require_unbroken(shard, after[shard], limit, some, known.get(shard, NO_ENTRIES))
    return entries


def entries_after(db: Db, shard: Shard, after: int, limit: int) -> list[LogEntry]:
    """Return up to `limit` entries behind a position that are there, whatever is missing."""
    query = f"SELECT {row_codec.COLUMNS} FROM intake.entry WHERE shard = %s AND n > %s ORDER BY n LIMIT %s"  # noqa: S608 (names are ours)
    return [row_codec.unpack(shard, row) for row in db.execute(query, (shard, after, limit)).fetchall()]


def at(db: Db, positions: Sequence[tuple[Shard, int]]) -> dict[tuple[Shard, int], IntakeBatch]:
    """Return the batches at positions, as far as they are still there; LIMIT makes it look into the index of each."""
    found = db.execute(
        f"SELECT e.shard, {row_codec.COLUMNS} FROM unnest(%s::text[], %s::bigint[]) AS k (shard, at_n)"  # noqa: S608 (names are ours)
        " CROSS JOIN LATERAL (SELECT * FROM intake.entry e WHERE e.shard = k.shard AND e.n = k.at_n LIMIT 1) AS e",
        columns(positions, 2),
    ).fetchall()
    return {(row[0], row[1]): row_codec.unpack(row[0], row[1:]).batch for row in found}


def first_missing(db: Db, positions: Mapping[Shard, int]) -> dict[Shard, int]:
    """Return of each shard the next entry behind a position, where it must be there and isn't."""
    found = db.execute(
        "SELECT h.shard, k.known + 1 FROM intake.head h LEFT JOIN intake.pruned p USING (shard)"
        " LEFT JOIN unnest(%s::text[], %s::bigint[]) AS given (shard, n) ON given.shard = h.shard"
        " CROSS JOIN LATERAL (SELECT greatest(coalesce(p.n, 0), coalesce(given.n, 0)) AS known) AS k"
        " LEFT JOIN LATERAL (SELECT received FROM intake.entry e WHERE e.shard = h.shard AND e.n = k.known + 1"
        " LIMIT 1) AS e ON true WHERE h.n > k.known AND e.received IS NULL",
        columns(list(positions.items()), 2),
    )
    return dict(found.fetchall())


def gaps(db: Db) -> list[EntryGap]:
    """Return all that is missing, by a statement for each shard."""
    return [
        EntryGap(shard, first, last)
        for shard in ends(db)
        for first, last in db.execute(_GAPS, {"shard": shard}).fetchall()
    ]


def note_pruned(db: Db, positions: Iterable[tuple[Shard, int]]) -> None:
    """Note up to where shards were pruned; never moves backwards."""
    db.execute(
        "INSERT INTO intake.pruned AS kept (shard, n)"
        " SELECT shard, max(n) FROM unnest(%s::text[], %s::bigint[]) AS new (shard, n) GROUP BY shard ORDER BY shard"
        " ON CONFLICT (shard) DO UPDATE SET n = greatest(kept.n, excluded.n)",
        columns(list(positions), 2),
    )


def accept_gaps(db: Db, positions: Iterable[tuple[Shard, int]]) -> None:
    """Count as pruned what is missing up to positions, and make partitions again that were dropped."""
    make_partitions(db)
    note_pruned(db, positions)


def prune(db: Db, shard: Shard, *, behind: int, before: Instant, most: int) -> int:
    """Drop up to `most` entries of a shard, the oldest first, and note up to where; returns how many."""
    gone = db.execute(
        "DELETE FROM intake.entry WHERE shard = %(shard)s AND n = ANY(ARRAY("
        " SELECT n FROM intake.entry WHERE shard = %(shard)s AND n <= %(behind)s"
        " AND received < %(before)s ORDER BY n LIMIT %(most)s)) RETURNING n",
        {"shard": shard, "behind": behind, "before": before, "most": most},
    ).fetchall()
    if gone:
        note_pruned(db, [(shard, max(n for (n,) in gone))])
    return len(gone)
