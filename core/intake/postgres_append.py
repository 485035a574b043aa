"""SQL of an append to the PostgreSQL log: each function is a statement or two for a whole group of batches."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from core.intake import row_codec
from core.intake.deduplication import Hold
from core.intake.port import IntakeBatch, Life, LogEntry
from core.intake.postgres_server import Db
from core.intake.seq_ranges import SeqRangeSet, spans
from core.wire.shards import GatewayNumber, Shard, shard_of


def lock_heads(db: Db, shards: set[Shard]) -> dict[Shard, int]:
    """Lock the counters of shards until the end of the transaction, always in the same order; return where they are."""
    query = "SELECT shard, n FROM intake.head WHERE shard = ANY(%s) ORDER BY shard FOR UPDATE"
    return dict(db.execute(query, (list(shards),)).fetchall())


def near(db: Db, numbers: Mapping[Life, Sequence[tuple[int, int]]]) -> dict[Life, SeqRangeSet]:
    """Read the ranges that given ones lie in or touch: those between, and one before.

    A life with a damaged one is left out.
    """
    kept: dict[Life, list[tuple[int, int, int | None]]] = {life: [] for life in numbers}
    found = db.execute(
        "SELECT k.gw, k.ep, s.first, s.last, s.crc"
        " FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[]) AS k (gw, ep, low, high) CROSS JOIN LATERAL ("
        " (SELECT first, last, crc FROM intake.seen WHERE gw = k.gw AND ep = k.ep AND first < k.low"
        "  ORDER BY first DESC LIMIT 1) UNION ALL"
        " (SELECT first, last, crc FROM intake.seen"
        "  WHERE gw = k.gw AND ep = k.ep AND first BETWEEN k.low AND k.high + 1)"
        ") AS s",
        columns([(*life, *span) for life, asked in numbers.items() for span in spans(asked)], 4),
    )
    for gw, ep, *row in found:
        kept[gw, ep].append((row[0], row[1], row[2]))
    sound = {life: row_codec.sound_ranges(life, ranges) for life, ranges in kept.items()}
    return {life: SeqRangeSet(ranges) for life, ranges in sound.items() if len(ranges) == len(kept[life])}


def known(db: Db, asked: Mapping[Life, Collection[int]], most: int) -> dict[Life, list[tuple[int, int]]]:
    """Return of each life the first range, the `most` highest, and those that hold a number asked about.

    Damaged ones are left out.
    """
    kept: dict[Life, set[tuple[int, int, int | None]]] = {life: set() for life in asked}
    highest = db.execute(
        "SELECT k.gw, k.ep, s.first, s.last, s.crc FROM unnest(%s::text[], %s::text[]) AS k (gw, ep)"
        " CROSS JOIN LATERAL (SELECT first, last, crc FROM intake.seen WHERE gw = k.gw AND ep = k.ep"
        "  ORDER BY first DESC LIMIT %s) AS s",
        (*columns(list(asked), 2), most),
    )
    for gw, ep, first, last, crc in highest:
        kept[gw, ep].add((first, last, crc))
    many = [(*life, seq) for life, seqs in asked.items() if len(kept[life]) == most for seq in seqs or (0,)]
    if many:
        rest = db.execute(
            "SELECT k.gw, k.ep, s.first, s.last, s.crc"
            " FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS k (gw, ep, seq) CROSS JOIN LATERAL ("
            " (SELECT first, last, crc FROM intake.seen WHERE gw = k.gw AND ep = k.ep ORDER BY first LIMIT 1) UNION ALL"
            " (SELECT first, last, crc FROM intake.seen WHERE gw = k.gw AND ep = k.ep AND first <= k.seq"
            "  ORDER BY first DESC LIMIT 1)) AS s",
            columns(many, 3),
        )
        for gw, ep, first, last, crc in rest:
            kept[gw, ep].add((first, last, crc))
    return {life: sorted(row_codec.sound_ranges(life, ranges)) for life, ranges in kept.items()}


def rebuild(db: Db, life: Life) -> None:
    """Replace damaged ranges of a life by the numbers of its entries, under the lock of its shard."""
    shard = shard_of(life[0])
    lock_heads(db, {shard})
    ranges = SeqRangeSet([])
    rows = db.execute("SELECT first, last, crc FROM intake.seen WHERE gw = %s AND ep = %s", life).fetchall()
    for first, last in row_codec.sound_ranges(life, rows):
        ranges.add(first, last)
    query = (
        "SELECT seq FROM intake.entry WHERE shard = %s AND gw = %s AND ep = %s AND origin <> 'released' ORDER BY seq"
    )
    for (seq,) in db.execute(query, (shard, *life)).fetchall():
        ranges.add(seq, seq)
    db.execute("DELETE FROM intake.seen WHERE gw = %s AND ep = %s", life)
    save(db, {life: ranges})


def hashes(db: Db, batches: Sequence[IntakeBatch]) -> dict[tuple[GatewayNumber, str, int], bytes]:
    """Return the hashes of what is in the log under the same numbers; LATERAL finds them by index, come what may."""
    if not batches:
        return {}
    found = db.execute(
        "SELECT k.gw, k.ep, k.seq, e.hash"
        " FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[]) AS k (shard, gw, ep, seq) CROSS JOIN LATERAL ("
        " SELECT hash FROM intake.entry WHERE shard = k.shard AND gw = k.gw AND ep = k.ep AND seq = k.seq"
        " AND origin <> 'released' LIMIT 1) AS e",
        columns([(batch.shard, batch.gw, batch.ep, batch.seq) for batch in batches], 4),
    )
    return {(gw, ep, seq): hash_ for gw, ep, seq, hash_ in found}


def insert(db: Db, entries: Sequence[LogEntry], heads: Mapping[Shard, int]) -> None:
    """Write entries, and the counters that they moved."""
    if not entries:
        return
    lines = [
        (b.shard, entry.n, b.gw, b.ep, b.seq, b.hash, b.received, b.origin, row_codec.pack(b))
        for entry in entries
        for b in (entry.batch,)
    ]
    with db.cursor() as cursor, cursor.copy(f"COPY intake.entry (shard, {row_codec.COLUMNS}) FROM STDIN") as copy:
        for line in lines:
            copy.write_row(line)
    moved = {entry.batch.shard for entry in entries}
    db.execute(
        "UPDATE intake.head SET n = new.n FROM unnest(%s::text[], %s::bigint[]) AS new (shard, n)"
        " WHERE head.shard = new.shard",
        columns([(shard, n) for shard, n in heads.items() if shard in moved], 2),
    )


def renewed(db: Db, begun: Mapping[Life, IntakeBatch]) -> list[IntakeBatch]:
    """Return the first batches of lives of which nothing was seen, though something was of another of the gateway."""
    if not begun:
        return []
    found = db.execute(
        "SELECT k.gw, k.ep FROM unnest(%s::text[], %s::text[]) AS k (gw, ep)"
        " WHERE EXISTS (SELECT FROM intake.seen WHERE gw = k.gw)"
        " AND NOT EXISTS (SELECT FROM intake.seen WHERE gw = k.gw AND ep = k.ep)",
        columns(list(begun), 2),
    )
    return [begun[gw, ep] for gw, ep in found]


def save(db: Db, seen: Mapping[Life, SeqRangeSet]) -> None:
    """Write the ranges that have changed."""
    gone = [(gw, ep, first) for (gw, ep), ranges in seen.items() for first in ranges.gone()]
    if gone:
        db.execute(
            "DELETE FROM intake.seen USING unnest(%s::text[], %s::text[], %s::bigint[]) AS k (gw, ep, first)"
            " WHERE seen.gw = k.gw AND seen.ep = k.ep AND seen.first = k.first",
            columns(gone, 3),
        )
    changed = [
        (gw, ep, *each, row_codec.range_crc(gw, ep, *each))
        for (gw, ep), ranges in seen.items()
        for each in ranges.changed()
    ]
    if changed:
        db.execute(
            "INSERT INTO intake.seen (gw, ep, first, last, crc)"
            " SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[])"
            " ON CONFLICT (gw, ep, first) DO UPDATE SET last = excluded.last, crc = excluded.crc",
            columns(changed, 5),
        )


def hold(db: Db, held: Iterable[Hold]) -> None:
    """Put readings into quarantine, in an order that no two transactions block each other by."""
    lines: list[tuple[Any, ...]] = [
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
            text(w.detail),
            since,
        )
        for n, place, b, w, since in held
    ]
    lines.sort(key=lambda line: (line[0], line[1], abs(line[2])))  # places below 0 count down
    if lines:
        db.cursor().executemany(
            "INSERT INTO intake.held (shard, n, place, gw, ep, boot, seq, reading, reason, detail, since)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            lines,
        )


def text(text: str) -> str:
    """Return it without NUL, which PostgreSQL's text can't hold and a message may."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def columns(table: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    """Return the columns of rows, for unnest."""
    return [[row[column] for row in table] for column in range(width)]
