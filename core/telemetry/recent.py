"""What the frames of unsealed hours say, decoded once a process.

A frame never changes and its id is never reused, so what was decoded stays true for as long as the frame is there; a
reader only decodes what has come since it last looked.
"""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from core.telemetry.codec import decode_frame
from core.telemetry.columns import Columns, later_wins

KEPT = 4_000_000
"""Readings that stay decoded, 17 bytes each; more are only open while a long outage of many is being filled in."""


class _Hour(NamedTuple):
    """The first `frames` frames of an hour, the last of which is `upto`; pieces in order of writing, each ordered."""

    frames: int
    upto: int
    pieces: tuple[Columns, ...]

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)


_UNSEEN = _Hour(0, 0, ())


class Recent:
    """Decoded frames by hour. To be used by one thread at a time."""

    def __init__(self) -> None:
        self._hours: dict[int, _Hour] = {}
        self._size = 0

    def newest_first(self, db: sqlite3.Connection, first: int, last: int) -> Iterator[tuple[int, tuple[Columns, ...]]]:
        """Yield the open hours in [first, last] with their readings: pieces in order of writing, each ordered.

        Consume it within the transaction; what isn't asked for isn't decoded. Raises: Damaged.
        """
        open_hours = db.execute(
            "SELECT hour, count(*), max(id) FROM frame WHERE hour BETWEEN ? AND ? GROUP BY hour ORDER BY hour DESC",
            (first, last),
        ).fetchall()
        for hour in self._hours.keys() - {hour for hour, _, _ in open_hours}:
            if first <= hour <= last:
                self._forget(hour)
        for hour, frames, upto in open_hours:
            yield hour, self._look(db, hour, frames, upto)

    def _look(self, db: sqlite3.Connection, hour: int, frames: int, upto: int) -> tuple[Columns, ...]:
        known = self._forget(hour)
        new = _frames_behind(db, hour, known.upto)
        if known.frames + len(new) != frames:  # what was known has been sealed meanwhile
            known = _UNSEEN
            new = _frames_behind(db, hour, 0)
        pieces = _even((*known.pieces, later_wins(new))) if new else known.pieces
        self._hours[hour] = seen = _Hour(frames, upto, pieces)
        self._size += seen.size
        while self._size > KEPT and len(self._hours) > 1:
            self._forget(next(iter(self._hours)))  # the one that was looked at longest ago
        return pieces

    def _forget(self, hour: int) -> _Hour:
        known = self._hours.pop(hour, _UNSEEN)
        self._size -= known.size
        return known


def _frames_behind(db: sqlite3.Connection, hour: int, upto: int) -> list[Columns]:
    rows = db.execute("SELECT data FROM frame WHERE hour = ? AND id > ? ORDER BY id", (hour, upto))
    return [decode_frame(hour, data) for (data,) in rows]


def _even(pieces: tuple[Columns, ...]) -> tuple[Columns, ...]:
    """Merge neighbours while the newer isn't much smaller: few pieces to look in, each reading moved few times."""
    while len(pieces) > 1 and pieces[-2].size < 4 * pieces[-1].size:
        pieces = (*pieces[:-2], later_wins(pieces[-2:]))
    return pieces
