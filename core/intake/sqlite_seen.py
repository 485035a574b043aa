"""Ranges of sequence numbers seen of each spool's life, in SQLite: closed, one row each, merged as they meet.

A gateway that loses nothing has one row for a year of readings, so this outlives the pruning of the log. Every row has
a checksum: a range with one bit turned could have a batch acknowledged that was never stored.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping

import msgspec

from core.intake.port import IntakeBatch, Life
from core.intake.row_codec import SeenRow, checked_ranges, range_crc, sound_ranges
from core.intake.seq_ranges import SeqRangeSet, spans

SCHEMA = """
CREATE TABLE seen (
  gw TEXT NOT NULL, ep TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (gw, ep, first)
) WITHOUT ROWID
"""
_ROWS = "SELECT first, last, crc FROM seen WHERE gw = ? AND ep = ?"
_BEFORE = f"{_ROWS} AND first < ? ORDER BY first DESC LIMIT 1"
_NEAR = """
WITH asked (gw, ep, low, high) AS (
  SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]') FROM json_each(?)
)
SELECT gw, ep, first, last, crc FROM asked CROSS JOIN seen USING (gw, ep)
WHERE first BETWEEN
  coalesce((SELECT max(first) FROM seen AS s WHERE s.gw = asked.gw AND s.ep = asked.ep AND s.first < low), low)
  AND high + 1
"""
"""One statement for all lives of a group: each lets go of Python's lock, and waits for it beside a busy thread."""


def near(db: sqlite3.Connection, asked: Mapping[Life, Iterable[tuple[int, int]]]) -> dict[Life, SeqRangeSet]:
    """Read the ranges of each life that given ones lie in or touch; a life with a damaged one is left out."""
    places = [(*life, low, high) for life, numbers in asked.items() for low, high in spans(numbers)]
    kept: dict[Life, list[tuple[int, int, int | None]]] = {life: [] for life in asked}
    for gw, ep, *row in db.execute(_NEAR, (msgspec.json.encode(places).decode(),)):
        kept[gw, ep].append((row[0], row[1], row[2]))
    sound = {life: sound_ranges(life, ranges) for life, ranges in kept.items()}
    return {life: SeqRangeSet(ranges) for life, ranges in sound.items() if len(ranges) == len(kept[life])}


def renewed(db: sqlite3.Connection, begun: Mapping[Life, IntakeBatch]) -> list[IntakeBatch]:
    """Return the first batches of lives of which nothing was seen, though something was of another of the gateway."""
    query = "SELECT 1 FROM seen WHERE gw = ?1 AND NOT EXISTS (SELECT 1 FROM seen WHERE gw = ?1 AND ep = ?2) LIMIT 1"
    return [batch for life, batch in begun.items() if db.execute(query, life).fetchone()]


def save(db: sqlite3.Connection, seen: Mapping[Life, SeqRangeSet]) -> None:
    """Write the ranges that have changed."""
    db.executemany(
        "DELETE FROM seen WHERE gw = ? AND ep = ? AND first = ?",
        [(*life, first) for life, ranges in seen.items() for first in ranges.gone()],
    )
    db.executemany(
        "INSERT INTO seen (gw, ep, first, last, crc) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (gw, ep, first) DO UPDATE SET last = excluded.last, crc = excluded.crc",
        [(*life, *each, range_crc(*life, *each)) for life, ranges in seen.items() for each in ranges.changed()],
    )


def all_of(db: sqlite3.Connection, life: Life) -> list[tuple[int, int]]:
    """Return all ranges, ascending; no two overlap or touch.

    Raises: IntakeUnavailable when one is damaged.
    """
    return checked_ranges(life, db.execute(f"{_ROWS} ORDER BY first", life))


def some_of(db: sqlite3.Connection, life: Life, asked: Collection[int], most: int) -> list[tuple[int, int]]:
    """Return the first, the `most` highest, and those that hold a number asked about; damaged ones are left out."""
    found = db.execute(f"{_ROWS} ORDER BY first DESC LIMIT ?", (*life, most)).fetchall()
    if len(found) == most:
        found += db.execute(f"{_ROWS} ORDER BY first LIMIT 1", life).fetchall()
        for seq in asked:
            found += db.execute(_BEFORE, (*life, seq + 1)).fetchall()
    return sorted(set(sound_ranges(life, found)))


def rebuild(db: sqlite3.Connection, life: Life) -> None:
    """Replace damaged ranges of a life by the numbers of its entries."""
    ranges = SeqRangeSet([])
    for first, last in sound_ranges(life, db.execute(_ROWS, life).fetchall()):
        ranges.add(first, last)
    for (seq,) in db.execute(
        "SELECT seq FROM entry WHERE gw = ? AND ep = ? AND origin <> 'released' ORDER BY seq", life
    ):
        ranges.add(seq, seq)
    db.execute("DELETE FROM seen WHERE gw = ? AND ep = ?", life)
    save(db, {life: ranges})


def after(db: sqlite3.Connection, last: tuple[str, str, int], limit: int) -> list[SeenRow]:
    """Return rows of all lives behind one."""
    query = "SELECT gw, ep, first, last, crc FROM seen WHERE (gw, ep, first) > (?, ?, ?) ORDER BY gw, ep, first LIMIT ?"
    return db.execute(query, (*last, limit)).fetchall()
