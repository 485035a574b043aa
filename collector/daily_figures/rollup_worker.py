"""Worker for daily figures: computes due days once they are over, from any telemetry store.

The due days stand in the records (`collector.daily_figures.due_days`), and so do the figures
(`core.figures.daily_repository`). Killed anywhere, the worker continues from there. `GRACE` is the largest difference
between the clocks of two writers: a reading that one of them stored before the day was over, and did not mark, can be
read by the time that another computes the day. After a step of a virtual clock the grace isn't waited for: figures
are for reports, which come later.
"""

import sqlite3
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import groupby
from zoneinfo import ZoneInfo

from sqlalchemy.exc import SQLAlchemyError

from collector.counters import Counters
from collector.daily_figures.due_days import DueDays
from core.db.engine import Records
from core.figures import daily_figures, daily_repository
from core.figures.daily_figures import DayPart
from core.figures.daily_repository import DaySeries, DueSeriesDay
from core.ids import SeriesId
from core.intake import port as intake_port
from core.limits.placements import Placement
from core.runtime.clock import Clock
from core.runtime.instant import DAY, MINUTE, Instant, day_bounds, local_day
from core.runtime.logs import logger
from core.telemetry.codec import Damaged
from core.telemetry.port import Curve, Telemetry, TelemetryUnavailable

log = logger(__name__)

GRACE = 10 * MINUTE
"""Time between a day's end and its computation."""
SERIES = 50
"""Series that are read at once, and written in one transaction, for which others may wait."""
PAGE = 2_000
POLL_S = 5.0
PAUSE_S = 0.02
LONGEST_WAIT_S = 60.0
_BEGINNING: DaySeries = (date.min, SeriesId(-1))
_UTC = ZoneInfo("UTC")


class RollupWorker:
    """Worker for daily figures of one writer process. `run` in a thread."""

    def __init__(
        self, due_days: DueDays, telemetry: Telemetry, records: Records, clock: Clock, counts: Counters
    ) -> None:
        self._due_days = due_days
        self._telemetry = telemetry
        self._records = records
        self._clock = clock
        self._counts = counts
        self._unreadable: set[DaySeries] = set()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop`."""
        pause = POLL_S
        while not stop.is_set():
            try:
                self.work(stop)
            except (
                SQLAlchemyError,
                sqlite3.Error,
                OSError,
                TelemetryUnavailable,
                intake_port.IntakeUnavailable,
            ) as error:
                if self._counts.problem("rollups", error):
                    log.warning("daily figures not computed", error=str(error).partition("\n")[0])
                pause = min(LONGEST_WAIT_S, pause * 2)
            except Exception as error:
                # Whatever the error, the marks are still there, and the next attempt may succeed.
                if self._counts.problem("rollups", error):
                    log.exception("daily figures not computed")
                pause = LONGEST_WAIT_S
            else:
                self._counts.problem("rollups", "")
                pause = POLL_S
            stop.wait(pause)

    def work(self, stop: threading.Event) -> None:
        """Compute everything that is due now, unless stopped."""
        self._due_days.mark(stop)
        after = _BEGINNING
        while not stop.is_set():
            now = self._clock.now()
            with self._records.read() as tx:
                page = daily_repository.due(tx, self._due_days.shards, local_day(Instant(now + DAY), _UTC), after, PAGE)
            if not page:
                return
            after = page[-1].day, page[-1].series
            for day, due_series in self._together(page, Instant(now - GRACE)):
                if stop.is_set():
                    return
                figures = self._figures(day, due_series)
                with self._records.write() as tx:
                    self._counts.add("days", daily_repository.keep(tx, day, figures))
                stop.wait(PAUSE_S)

    def _together(
        self, page: Iterable[DueSeriesDay], now: Instant
    ) -> Iterator[tuple[date, list[tuple[DueSeriesDay, list[Placement]]]]]:
        """Yield series whose day is over, to be read at once: a day of up to SERIES series, each with its parts."""
        for day, same_day in groupby(page, lambda due: due.day):
            finished = []
            for due in same_day:
                series_placements = self._due_days.placements.get(due.series)
                if series_placements is None:
                    continue  # new since the last survey: another process has marked it, the next pass knows it
                day_parts = daily_figures.parts(series_placements, day)
                if all(day_bounds(day, ZoneInfo(placement.timezone))[1] <= now for placement in day_parts):
                    finished.append((due, day_parts))
            for first in range(0, len(finished), SERIES):
                yield day, finished[first : first + SERIES]

    def _figures(
        self, day: date, due_series: Sequence[tuple[DueSeriesDay, list[Placement]]]
    ) -> list[tuple[DueSeriesDay, list[DayPart]]]:
        """Return the figures of the readable series; a series that was in no zone that day has none."""
        figures: list[tuple[DueSeriesDay, list[DayPart]]] = [
            (due, []) for due, day_parts in due_series if not day_parts
        ]
        by_reach: dict[tuple[Instant, Instant], list[tuple[DueSeriesDay, list[Placement]]]] = defaultdict(list)
        for due, day_parts in due_series:
            if day_parts:
                by_reach[daily_figures.reach(day_parts)].append((due, day_parts))
        for (since, until), same_reach in by_reach.items():
            curves = self._curves([due.series for due, _ in same_reach], since, until)
            for due, day_parts in same_reach:
                if due.series in curves:
                    figures.append((due, daily_figures.figures(due.series, day, day_parts, curves[due.series])))
                elif (day, due.series) not in self._unreadable:
                    self._unreadable.add((day, due.series))
                    log.error("day not computed, its readings are damaged", day=str(day), series=due.series)
        return figures

    def _curves(self, series: list[SeriesId], since: Instant, until: Instant) -> dict[SeriesId, Curve]:
        try:
            return self._telemetry.multi_range(series, since, until)
        except Damaged:
            curves = {}
            for series_id in series:
                try:
                    curves[series_id] = self._telemetry.range(series_id, since, until)
                except Damaged:
                    continue
            return curves
