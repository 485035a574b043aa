"""What the frames of unsealed hours say, decoded once a process.

A frame never changes and its id is never reused, so what was decoded stays true for as long as the frame is there; a
reader only decodes what has come since it last looked.
"""

import sqlite3
from typing import NamedTuple

from core.telemetry.codec import decode_frame
from core.telemetry.columns import Columns, later_wins

KEPT_HOURS = 48
"""Hours whose frames stay decoded; more are only open while a long outage is being filled in."""


class _Hour(NamedTuple):
    """The first `frames` frames of an hour, the last of which is `upto`; pieces in order of writing, each ordered."""

    frames: int
    upto: int
    pieces: tuple[Columns, ...]


class Recent:
    """Decoded frames by hour. To be used by one thread at a time."""

    def __init__(self) -> None:
        self._hours: dict[int, _Hour] = {}

    def pieces(self, db: sqlite3.Connection, first: int, last: int) -> dict[int, tuple[Columns, ...]]:
        """Return each open hour in [first, last] with its readings: pieces in order of writing, each ordered.

        Raises: Damaged.
        """
        found: dict[int, tuple[Columns, ...]] = {}
        open_hours = db.execute(
            "SELECT hour, count(*), max(id) FROM frame WHERE hour BETWEEN ? AND ? GROUP BY hour", (first, last)
        ).fetchall()
        for hour, frames, upto in open_hours:
            found[hour] = self._look(db, hour, frames, upto).pieces
        for hour in [hour for hour in self._hours if first <= hour <= last and hour not in found]:
            del self._hours[hour]
        return found

    def _look(self, db: sqlite3.Connection, hour: int, frames: int, upto: int) -> _Hour:
        known = self._hours.pop(hour, _Hour(0, 0, ()))
        new = _frames_behind(db, hour, known.upto)
        if known.frames + len(new) != frames:  # what was known has been sealed meanwhile
            known = _Hour(0, 0, ())
            new = _frames_behind(db, hour, 0)
        pieces = (*known.pieces, later_wins(new)) if new else known.pieces
        self._hours[hour] = seen = _Hour(frames, upto, _even(pieces))
        if len(self._hours) > KEPT_HOURS:
            del self._hours[next(iter(self._hours))]
        return seen


def _frames_behind(db: sqlite3.Connection, hour: int, upto: int) -> list[Columns]:
    rows = db.execute("SELECT data FROM frame WHERE hour = ? AND id > ? ORDER BY id", (hour, upto))
    return [decode_frame(hour, data) for (data,) in rows]


def _even(pieces: tuple[Columns, ...]) -> tuple[Columns, ...]:
    """Merge neighbours while the newer isn't much smaller: few pieces to look in, each reading moved few times."""
    while len(pieces) > 1 and pieces[-2].size < 4 * pieces[-1].size:
        pieces = (*pieces[:-2], later_wins(pieces[-2:]))
    return pieces
