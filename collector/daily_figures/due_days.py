"""Marker of due days: finds the days of each series whose figures must be computed, for the first time or again.

There are two sources. Each keeps its marks and its own progress in one transaction, in the records:

* The log, *followed* behind the telemetry writer: a reading of a day that is over marks that day. A reading of a day
  that isn't over needs no mark: the end of the day will, later than this. So where the writer has seen no reading from
  before the last midnight (`collector.storing.freshness_index`) there is nothing to mark, and the log isn't read a
  second time.
* The records, *surveyed* when they have changed or a day has ended: a day is marked if the placements of a series
  differ from those by which the day was computed. A day that has just ended differs, since it wasn't there. So a day
  without readings gets figures too (a gap from end to end), and a late correction of a binding or of limits recomputes
  the days it touches; nobody is paged.

A pass first reads how far telemetry has come, then surveys, and last follows the log up to there, so that it knows
every series that it meets. Together: every readable reading is followed by a computation of its day, whatever is
killed. Each writer process follows the log of its own shards and surveys the series whose number falls on them
(`slot_of`): the work is shared without a coordinator.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from collector.alignment_gate import AlignmentGate
from core.db.engine import Records
from core.db.insert import insert_missing, upsert
from core.devices.tables import Gateway, Probe, Series
from core.figures import daily_repository
from core.figures.daily_repository import DaySeries, slot_of
from core.figures.tables import Daily, RolledUp, RollupCursor
from core.ids import SeriesId
from core.intake.cursor_marks import mark
from core.intake.port import IntakeLog, LogEntry
from core.limits import placements
from core.limits.placements import Placement
from core.runtime.clock import Clock
from core.runtime.instant import Instant, LocalDays, day_bounds, local_day
from core.units import device_revision
from core.wire.shards import Shard

READER = "rollups"
ENTRIES = 500
SERIES = 50
"""Series that are noted in one transaction, for which others may wait."""
PAUSE_S = 0.02
_EPOCH = Instant(0)


class Moved(Exception):
    """Error: the cursor isn't where this process left it."""


class DueDays:
    """Marker of one writer process. To be used by one thread."""

    def __init__(
        self,
        intake: IntakeLog,
        records: Records,
        clock: Clock,
        *,
        shards: tuple[Shard, Shard],
        stored: Callable[[], Mapping[Shard, int]],
        fresh_until: Callable[[Shard, int, Instant], int],
        timezone: str,
        alignment: AlignmentGate | None = None,
    ) -> None:
        """`stored` returns how far the log is in telemetry; `timezone` is that of probes in no unit.

        `fresh_until` returns, for a shard, a position and an instant, the position up to which no reading is from
        before it. The log isn't followed while `alignment` has no epoch.
        """
        self.shards = shards
        self.placements: dict[SeriesId, list[Placement]] = {}
        """Placements of every series, as of the last pass."""
        self._intake = intake
        self._records = records
        self._clock = clock
        self._stored = stored
        self._fresh_until = fresh_until
        self._timezone = timezone
        self._cursor: dict[Shard, int] = {}
        self._knows_cursor = False
        self._alignment = alignment
        self._epoch: int | None = None
        self._log_name = ""
        self._surveyed: tuple[int, int | None] | None = None
        self._last_midnight = self._next_midnight = _EPOCH
        self._calendars: dict[str, tuple[LocalDays, date]] = {}
        """For every time zone: its days, and its date at the last survey."""
        self._namespaces: dict[str, str] = {}
        self._series: dict[tuple[str, str, str], SeriesId] = {}

    def mark(self, stop: threading.Event) -> None:
        """Mark the days that have become due since the last pass."""
        stored = dict(self._stored())
        self._survey(stop)
        self._follow(stored, stop)

    def mirror(self) -> None:
        """Tell the log how far it was followed, for the pruner; never a position from before a realignment."""
        if self._cursor and (self._alignment is None or self._epoch == self._alignment.epoch()):
            self._intake.move_cursor(READER, dict(self._cursor))

    def _survey(self, stop: threading.Event) -> None:
        now = self._clock.now()
        with self._records.read() as tx:
            # The count, not the highest id: of two ids that are allotted at once the lower may be committed last.
            revision_and_count = (device_revision.current(tx), tx.scalar(select(func.count()).select_from(Series)))
            if revision_and_count == self._surveyed and self._last_midnight <= now < self._next_midnight:
                return
            placements_by_series = placements.load(tx, self._timezone)
            known = {row.series_id: row for row in tx.scalars(select(RolledUp))}
            self._namespaces = {row[0]: row[1] for row in tx.execute(select(Gateway.number, Gateway.namespace))}
            names = select(Probe.namespace, Probe.code, Series.quantity, Series.id).join(Series)
            self._series = {(row[0], row[1], row[2]): row[3] for row in tx.execute(names)}
        zones = {
            placement.timezone for series_placements in placements_by_series.values() for placement in series_placements
        } | {self._timezone}
        days = {name: local_day(now, ZoneInfo(name)) for name in zones}
        today = {name: day_bounds(day, ZoneInfo(name)) for name, day in days.items()}
        changed = []
        for series, series_placements in placements_by_series.items():
            today_start = today[series_placements[-1].timezone if series_placements else self._timezone][0]
            is_own = self.shards[0] <= slot_of(series) <= self.shards[1]
            if series not in known or (is_own and _has_changed(known[series], series_placements, today_start)):
                changed.append((series, known.get(series), series_placements, today_start))
        for first in range(0, len(changed), SERIES):
            if stop.is_set():  # at midnight every series has changed: the next survey finds the rest
                return
            self._note(changed[first : first + SERIES])
        self.placements = placements_by_series
        self._surveyed = revision_and_count
        self._calendars = {name: (LocalDays(ZoneInfo(name)), day) for name, day in days.items()}
        self._last_midnight = max(first for first, _ in today.values())
        self._next_midnight = min(end for _, end in today.values())

    def _note(self, changed: Sequence[tuple[SeriesId, RolledUp | None, list[Placement], Instant]]) -> None:
        """Mark the days in which placements differ from the known ones, and keep the new ones as known.

        The first writer process that meets an unknown series notes it, before any reading of it is followed. So the
        end of this day is noticed even while the series's own writer is down for days.
        """
        with self._records.write() as tx:
            rows: dict[bool, list[dict[str, object]]] = {True: [], False: []}
            days: list[DaySeries] = []
            for series, known, series_placements, today in changed:
                # If a clock that was ahead was set back, days that it took for over end a second time.
                since, upto = today if known is None else min(known.since, today), today
                days += [] if known is None else _changed(tx, known, series_placements, since, upto)
                row = {
                    "series_id": series,
                    "since": since,
                    "upto": upto,
                    "stays": msgspec.json.encode(series_placements),
                }
                rows[known is None].append(row)
            daily_repository.mark(tx, days)
            insert_missing(tx, RolledUp, rows[True])
            upsert(tx, RolledUp, rows[False])
        time.sleep(PAUSE_S)

    def _follow(self, stored: Mapping[Shard, int], stop: threading.Event) -> None:
        if stop.is_set():  # the survey may have been interrupted, with an old value of midnight
            return
        epoch = self._alignment.epoch() if self._alignment else 0
        if epoch is None:
            return
        if not self._knows_cursor or epoch != self._epoch:
            self._log_name = self._intake.names()[-1]
            with self._records.read() as tx:
                self._cursor = _positions(tx)
            self._knows_cursor, self._epoch = True, epoch
        behind = {shard: upto for shard, upto in stored.items() if self._cursor.get(shard, 0) < upto}
        self._advance({shard: upto for shard, upto in behind.items() if self._fresh(shard, upto) == upto}, set())
        for shard, upto in behind.items():
            while (followed := self._cursor.get(shard, 0)) < upto and not stop.is_set():
                position, days = self._fresh(shard, upto), set[DaySeries]()
                if position == followed:
                    entries = self._intake.read(shard, followed, ENTRIES)
                    readable = [entry for entry in entries if entry.n <= upto]
                    # Nothing to read up to there means pruned rows: the records were restored to an older state.
                    position = readable[-1].n if readable else upto
                    days = set(self._late(readable))
                # Stored each time: a cursor that is ahead in memory only would tell the log more than the records know.
                self._advance({shard: position}, days)

    def _fresh(self, shard: Shard, upto: int) -> int:
        """Return up to where a shard need not be read: from the cursor to there nothing is of a day that is over."""
        return min(upto, self._fresh_until(shard, self._cursor.get(shard, 0), self._last_midnight))

    def _advance(self, positions: dict[Shard, int], days: set[DaySeries]) -> None:
        """Store how far shards were followed, together with the days to mark."""
        if positions:
            log_mark = mark(self._log_name)
            with self._records.write() as tx:
                stored = _positions(tx)
                if any(stored.get(shard, 0) != self._cursor.get(shard, 0) for shard in positions):
                    self._knows_cursor = False
                    msg = "the log was followed by another process, or the records were put back; looking again"
                    raise Moved(msg)
                daily_repository.mark(tx, days)
                rows = [{"shard": shard, "position": n, "mark": log_mark} for shard, n in positions.items()]
                upsert(tx, RollupCursor, rows)
            self._cursor.update(positions)

    def _late(self, entries: Iterable[LogEntry]) -> Iterator[DaySeries]:
        """Yield the days, over at the last survey, that the readings cover, each until the next reading is due."""
        for entry in entries:
            for reading in entry.batch.readings:
                if reading.at >= self._last_midnight:
                    continue
                namespace = self._namespaces.get(entry.batch.gw, "")
                series = self._series.get((namespace, reading.p, reading.quantity))
                if series is None:  # then the reading is held: without a series there is no telemetry
                    continue
                for placement in self.placements.get(series, ()):
                    since, until = (
                        max(reading.at, placement.since),
                        min(reading.at + placement.interval, placement.until),
                    )
                    if since < until:
                        days, today = self._calendars[placement.timezone]
                        for day in {days.of(Instant(since)), days.of(Instant(until - 1))}:
                            if day < today:
                                yield day, series


def _positions(tx: Session) -> dict[Shard, int]:
    return {Shard(shard): n for shard, n in tx.execute(select(RollupCursor.shard, RollupCursor.position))}


def _has_changed(known: RolledUp, series_placements: list[Placement], upto: Instant) -> bool:
    return known.upto != upto or known.stays != msgspec.json.encode(series_placements)


def _changed(
    tx: Session, known: RolledUp, series_placements: Sequence[Placement], complete_from: Instant, upto: Instant
) -> Iterator[DaySeries]:
    """Yield the days that have figures, or must have, and whose placements differ from the known ones."""
    before = msgspec.json.decode(known.stays, type=list[Placement])
    series = known.series_id
    for since, until in placements.differences(
        placements.clipped(before, min(known.upto, upto)), placements.clipped(series_placements, upto)
    ):
        for zone in {
            ZoneInfo(placement.timezone)
            for placement in (*before, *series_placements)
            if placement.since < until and since < placement.until
        }:
            first, last = local_day(max(since, _EPOCH), zone), local_day(Instant(until - 1), zone)
            complete = local_day(complete_from, zone)
            if first < complete:
                computed = select(Daily.day).where(Daily.series_id == series, Daily.day.between(first, last))
                yield from ((day, series) for day in tx.scalars(computed.distinct()))
            yield from ((day, series) for day in _days(max(first, complete), last))


def _days(first: date, last: date) -> Iterator[date]:
    for n in range((last - first).days + 1):
        yield first + timedelta(days=n)
