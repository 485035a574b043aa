"""Late spans: which spans of which series are due for evaluation, and when.

A mark is set in the transaction that moves alerting's cursor over the reading, so no mark is lost, and one that is set
twice has no effect. The marks of a series and a day are one row. A row is due one minute after its last mark, at the
latest five minutes after the first mark that no evaluation has included.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, tuple_, update
from sqlalchemy.orm import Session

from core.alarms.tables import LateSpan, SeriesState
from core.db.in_values import in_values
from core.db.insert import upsert
from core.ids import SeriesId
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds
from core.wire.shards import Shard

QUIET_TIME = Milliseconds(MINUTE)
"""Server time without a new mark after which a span is due."""
LONGEST_WAIT = Milliseconds(5 * MINUTE)
"""Server time after the first mark at which a span is due at the latest, and after which an excursion without an end is
evaluated again."""
SeriesDay = tuple[SeriesId, int]
Positions = Mapping[Shard, int]
_pack = msgspec.msgpack.Encoder().encode
_positions = msgspec.msgpack.Decoder(dict[str, int]).decode


class _Mark:
    __slots__ = ("positions", "since", "until")

    def __init__(self, at: Instant) -> None:
        self.since = self.until = at
        self.positions: dict[str, int] = {}


class LateMarks:
    """The late readings of one transaction: `add` them, then `write`."""

    def __init__(self) -> None:
        self._marks: dict[SeriesDay, _Mark] = {}

    def add(self, series: SeriesId, at: Instant, shard: Shard, n: int) -> None:
        """Add a reading at position `n` of its shard of the log."""
        key = (series, at // DAY)
        mark = self._marks.get(key)
        if mark is None:
            mark = self._marks[key] = _Mark(at)
        elif at < mark.since:
            mark.since = at
        elif at > mark.until:
            mark.until = at
        mark.positions[shard] = n

    def write(self, tx: Session, now: Instant) -> int:
        """Write the marks, each joined with the known span of its day; return the number of rows."""
        if not self._marks:
            return 0
        days = {day for _, day in self._marks}
        mine = and_(
            in_values(tx, LateSpan.series_id, {series for series, _ in self._marks}), in_values(tx, LateSpan.day, days)
        )
        query = select(*LateSpan.__table__.c).where(mine).order_by(LateSpan.series_id, LateSpan.day)
        known = {(row.series_id, row.day): row for row in tx.execute(query.with_for_update())}
        rows = []
        for key, mark in self._marks.items():
            row = known.get(key)
            first_at = now if row is None or row.seen_at is not None else row.first_at
            positions = {} if row is None else _positions(row.positions)
            for shard, n in mark.positions.items():
                positions[shard] = max(n, positions.get(shard, 0))
            rows.append(
                {
                    "series_id": key[0],
                    "day": key[1],
                    "since": mark.since if row is None else min(row.since, mark.since),
                    "until": mark.until if row is None else max(row.until, mark.until),
                    "positions": _pack(positions),
                    "revision": 1 if row is None else row.revision + 1,
                    "first_at": first_at,
                    "due_at": min(now + QUIET_TIME, first_at + LONGEST_WAIT),
                    "seen_at": None,
                }
            )
        upsert(tx, LateSpan, rows)
        return len(rows)


class MarkedSpan(msgspec.Struct, frozen=True):
    """A marked span, as it was when it was read."""

    series: SeriesId
    day: int
    since: Instant
    until: Instant
    positions: dict[str, int]
    revision: int
    first_at: Instant

    @property
    def key(self) -> SeriesDay:
        """Return the primary key of the row."""
        return self.series, self.day

    def is_overdue(self, now: Instant) -> bool:
        """Return whether the span waits no longer for its marks to end."""
        return now >= self.first_at + LONGEST_WAIT

    def is_stored(self, stored: Positions) -> bool:
        """Return whether telemetry has come as far as the marks."""
        return all(stored.get(Shard(shard), 0) >= n for shard, n in self.positions.items())


def due(tx: Session, now: Instant, slots: tuple[int, int], *, limit: int, offset: int = 0) -> list[MarkedSpan]:
    """Return spans that are due, the longest waiting first.

    `slots` share the series out between workers, by the last byte of their numbers (0 to 255, both within).
    """
    columns = (LateSpan.series_id, LateSpan.day, LateSpan.since, LateSpan.until, LateSpan.positions)
    query = (
        select(*columns, LateSpan.revision, LateSpan.first_at)
        .where(_is_due(now, slots))
        .order_by(LateSpan.due_at, LateSpan.day, LateSpan.series_id)
    )
    rows = tx.execute(query.limit(limit).offset(offset))
    return [MarkedSpan(*row[:4], _positions(row[4]), *row[5:]) for row in rows]


def any_due(tx: Session, now: Instant, slots: tuple[int, int]) -> bool:
    """Return whether any span is due."""
    return bool(tx.scalar(select(exists().where(_is_due(now, slots)))))


def take(tx: Session, spans: Iterable[MarkedSpan]) -> list[MarkedSpan]:
    """Lock the rows of spans; return the spans without a new mark since they were read."""
    by_key = {span.key: span for span in spans}
    mine = _among(by_key)
    query = select(LateSpan.series_id, LateSpan.day, LateSpan.revision).where(mine)
    rows = tx.execute(query.order_by(LateSpan.series_id, LateSpan.day).with_for_update()).all()
    return [by_key[series, day] for series, day, revision in rows if by_key[series, day].revision == revision]


def finish(tx: Session, spans: Sequence[MarkedSpan]) -> None:
    """Delete evaluated spans, which were taken in this transaction."""
    if spans:
        tx.execute(delete(LateSpan).where(_among({span.key for span in spans})))


def postpone(tx: Session, spans: Sequence[MarkedSpan], now: Instant) -> None:
    """Count spans that were marked during their evaluation as marked now for the first time."""
    if spans:
        mine = _among({span.key for span in spans})
        tx.execute(update(LateSpan).where(mine).values(first_at=now, due_at=now + QUIET_TIME, seen_at=None))


def keep(tx: Session, span: MarkedSpan, newest: Instant, now: Instant) -> None:
    """Evaluate a span again once its series has a reading newer than `newest`."""
    mine = and_(LateSpan.series_id == span.series, LateSpan.day == span.day)
    tx.execute(update(LateSpan).where(mine).values(seen_at=newest, due_at=now + LONGEST_WAIT))


def forget_positions(tx: Session) -> None:
    """Clear the log positions: they are of another log, so telemetry would be waited for in vain."""
    tx.execute(update(LateSpan).values(positions=_pack({})))


def _is_due(now: Instant, slots: tuple[int, int]) -> ColumnElement[bool]:
    newer = select(SeriesState.series_id).where(
        SeriesState.series_id == LateSpan.series_id, SeriesState.newest_at > LateSpan.seen_at
    )
    mine = LateSpan.series_id.op("&")(255).between(*slots)
    return and_(LateSpan.due_at <= now, mine, or_(LateSpan.seen_at.is_(None), exists(newer)))


def _among(keys: Collection[SeriesDay]) -> ColumnElement[bool]:
    return tuple_(LateSpan.series_id, LateSpan.day).in_(sorted(keys))
