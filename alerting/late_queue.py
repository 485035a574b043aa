"""Queue of late readings: the marked spans that are due and stored, in the order in which they are evaluated.

A span waits until telemetry has come as far as its marks and its live state. One that is marked again and again would
wait for ever: once it is overdue it waits for what it was marked with when it was first read.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms import late_spans
from core.alarms.late_spans import MarkedSpan, SeriesDay
from core.alarms.tables import FollowCursor, SeriesState
from core.db.engine import Records
from core.db.in_values import in_values
from core.runtime.clock import monotonic
from core.runtime.instant import Instant
from core.telemetry.port import Telemetry
from core.wire.shards import Shard

SPANS_PER_PASS = 200
"""Spans that are evaluated together."""
WRITER_S = 0.5
"""Real seconds that the telemetry writer is given to store what alerting has followed."""
ASIDE_S = 300.0
"""Real seconds after which a span that couldn't be evaluated is tried again."""


class Candidate(msgspec.Struct, frozen=True):
    """A span that is due, and how far the live state of its series had come at that moment."""

    span: MarkedSpan
    newest: Instant | None
    recent: bytes
    """The memory of its recent readings."""
    followed: tuple[Shard, int] | None
    """How far alerting had followed the shard that brings the series."""

    def is_stored(self, positions: Mapping[Shard, int]) -> bool:
        """Return whether telemetry has every reading that was marked or is in the live state."""
        shard, n = self.followed or (Shard(""), 0)
        return self.span.is_stored(positions) and positions.get(shard, 0) >= n


class SpanQueue:
    """The spans of one worker. To be used by one thread."""

    def __init__(self, records: Records, telemetry: Callable[[], Telemetry], slots: tuple[int, int]) -> None:
        """`slots` are those of `late_spans.due`; `telemetry` returns the store, and raises OSError without one."""
        self._records = records
        self._telemetry = telemetry
        self._slots = slots
        self._most = SPANS_PER_PASS
        """Spans that are evaluated together: fewer after a failure, until it is known whose it was."""
        self._aside: dict[SeriesDay, float] = {}
        """Spans that can't be evaluated, and when they are tried again."""
        self._overdue: dict[SeriesDay, Candidate] = {}
        """Overdue spans as they were when first read."""

    def next(self, now: Instant) -> Sequence[Candidate]:
        """Return spans that are due and stored; none while there are no such."""
        self._aside = {key: again for key, again in self._aside.items() if again > monotonic()}
        offset = 0
        while True:
            with self._records.read() as tx:
                due = _due(tx, now, self._slots, offset)
            if not due:
                self._most = SPANS_PER_PASS
                return []
            if stored := self._stored([each for each in due if each.span.key not in self._aside], now):
                return stored[: self._most]
            offset += len(due)

    def has_any(self, now: Instant) -> bool:
        """Return whether any span is due, stored or not."""
        with self._records.read() as tx:
            return late_spans.any_due(tx, now, self._slots)

    def evaluated(self, spans: Sequence[MarkedSpan]) -> None:
        """Take in that spans were evaluated."""
        self._forget(spans)
        self._most = min(SPANS_PER_PASS, self._most * 2)

    def failed(self, spans: Sequence[MarkedSpan]) -> None:
        """Take fewer spans next; put one aside that failed by itself."""
        self._forget(spans)
        if len(spans) == 1:
            self._aside[spans[0].key] = monotonic() + ASIDE_S
        self._most = max(1, len(spans) // 4)

    def is_well(self) -> bool:
        """Return whether no failure is left whose span hasn't been evaluated since."""
        return self._most == SPANS_PER_PASS and not self._aside

    def _forget(self, spans: Sequence[MarkedSpan]) -> None:
        for span in spans:
            self._overdue.pop(span.key, None)

    def _stored(self, due: Sequence[Candidate], now: Instant) -> list[Candidate]:
        """Return the spans that telemetry has; its writer, which follows the same log, is given a moment."""
        if not due:
            return []
        ends = monotonic() + WRITER_S
        while True:
            stored = list(self._among_stored(due, self._telemetry().positions()))
            if stored or monotonic() > ends:
                break
            time.sleep(0.02)
        for each in due:
            if each.span.is_overdue(now):
                self._overdue.setdefault(each.span.key, each)
        return stored

    def _among_stored(self, due: Sequence[Candidate], positions: Mapping[Shard, int]) -> Iterator[Candidate]:
        for each in due:
            first = self._overdue.get(each.span.key, each)
            if each.is_stored(positions):
                yield each
            elif first.is_stored(positions):
                yield first


def _due(tx: Session, now: Instant, slots: tuple[int, int], offset: int) -> list[Candidate]:
    """Return the spans that are due, a page at a time."""
    spans = late_spans.due(tx, now, slots, limit=SPANS_PER_PASS, offset=offset)
    asked = (
        select(
            SeriesState.series_id,
            SeriesState.newest_at,
            SeriesState.recent,
            FollowCursor.shard,
            FollowCursor.position,
        )
        .join(FollowCursor, FollowCursor.shard == SeriesState.shard)
        .where(in_values(tx, SeriesState.series_id, {span.series for span in spans}), SeriesState.newest_at > 0)
    )
    live = {row[0]: (row[1], row[2], (Shard(row[3]), row[4])) for row in tx.execute(asked)}
    return [Candidate(span, *live.get(span.series, (None, b"", None))) for span in spans]
