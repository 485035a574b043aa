"""Cache of decoded frames of unsealed hours, one in each process.

A frame never changes and its id is never reused. So a decoded frame stays valid as long as the frame exists, and a read
decodes only frames that are new since the last one.
"""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from core.telemetry.codec import decode_frame
from core.telemetry.reading_columns import ReadingColumns, later_wins

CACHED_READINGS = 4_000_000
"""Readings in the cache, of 18 bytes each. More are unsealed only while the backlog of a long outage arrives."""


class _Hour(NamedTuple):
    """First `frames` frames of an hour, up to the id `upto`; pieces in order of writing, each ordered."""

    frames: int
    upto: int
    pieces: tuple[ReadingColumns, ...]

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)


_EMPTY = _Hour(0, 0, ())


class FrameCache:
    """Decoded frames by hour. Not thread-safe."""

    def __init__(self) -> None:
        self._hours: dict[int, _Hour] = {}
        self._size = 0

    def newest_first(
        self, db: sqlite3.Connection, first: int, last: int
    ) -> Iterator[tuple[int, tuple[ReadingColumns, ...]]]:
        """Yield the open hours in [first, last], newest first, with their pieces in order of writing, each ordered.

        Hours are decoded one by one, so consume the iterator within the transaction. Raises: Damaged.
        """
        open_hours = db.execute(
            "SELECT hour, count(*), max(id) FROM frame WHERE hour BETWEEN ? AND ? GROUP BY hour ORDER BY hour DESC",
            (first, last),
        ).fetchall()
        for hour in self._hours.keys() - {hour for hour, _, _ in open_hours}:
            if first <= hour <= last:
                self._forget(hour)
        for hour, frames, upto in open_hours:
            yield hour, self._refresh(db, hour, frames, upto)

    def _refresh(self, db: sqlite3.Connection, hour: int, frames: int, upto: int) -> tuple[ReadingColumns, ...]:
        cached = self._forget(hour)
        new = _frames_after(db, hour, cached.upto)
        if cached.frames + len(new) != frames:  # cached frames have been sealed meanwhile
            cached = _EMPTY
            new = _frames_after(db, hour, 0)
        pieces = _balance((*cached.pieces, later_wins(new))) if new else cached.pieces
        self._hours[hour] = refreshed = _Hour(frames, upto, pieces)
        self._size += refreshed.size
        while self._size > CACHED_READINGS and len(self._hours) > 1:
            self._forget(next(iter(self._hours)))  # the least recently used hour
        return pieces

    def _forget(self, hour: int) -> _Hour:
        cached = self._hours.pop(hour, _EMPTY)
        self._size -= cached.size
        return cached


def _frames_after(db: sqlite3.Connection, hour: int, upto: int) -> list[ReadingColumns]:
    rows = db.execute("SELECT data FROM frame WHERE hour = ? AND id > ? ORDER BY id", (hour, upto))
    return [decode_frame(hour, data) for (data,) in rows]


def _balance(pieces: tuple[ReadingColumns, ...]) -> tuple[ReadingColumns, ...]:
    """Merge the last two pieces until the newer is much smaller: few pieces, and few moves of each reading."""
    while len(pieces) > 1 and pieces[-2].size < 4 * pieces[-1].size:
        pieces = (*pieces[:-2], later_wins(pieces[-2:]))
    return pieces
