"""Snapshot for an evaluation of late readings: what the records say of some spans, and the readings around them."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from alerting.evaluating.probe_state import inserted
from alerting.late_queue import Candidate
from core.alarms import late_alarms, zone_periods
from core.alarms.late_spans import MarkedSpan, SeriesDay
from core.alarms.lifecycle import ZoneRule
from core.alarms.tables import RuleState, SeriesState
from core.alarms.zone_periods import ProbeZonePeriods
from core.db.in_values import in_values
from core.ids import SeriesId, ZoneId
from core.rules import evaluation
from core.rules.reconcile import KnownAlarm
from core.rules.rule_types import Condition, Rule, Sample
from core.runtime.instant import HOUR, Instant, Milliseconds
from core.telemetry.port import Curve, Telemetry
from core.units import device_revision
from core.wire.quality import UNUSABLE

RULES = (Rule.ABOVE, Rule.BELOW)
MARGIN = Milliseconds(HOUR)
"""Around a span in which nothing may have been beyond a limit, for it to be calm: longer than a rule takes to clear."""


class LateInputs(msgspec.Struct, frozen=True):
    """What the records said of some spans at one moment."""

    revision: int
    periods: Mapping[SeriesId, ProbeZonePeriods]
    newest: Mapping[SeriesId, Instant]
    inserted: Mapping[SeriesId, int]
    """Of the series of the spans, how many readings had been inserted between others in the live state."""
    beyond: frozenset[SeriesId]
    """Series with a limit's condition that isn't ok."""
    since: Instant
    until: Instant
    alarms: Mapping[ZoneRule, Sequence[KnownAlarm]]
    """Those that touch [since, until]: `MARGIN` around the spans."""


class SeriesReadings(msgspec.Struct, frozen=True):
    """All readings of a series in [since, until)."""

    since: Instant
    until: Instant
    curve: Curve


def snapshot(tx: Session, candidates: Sequence[Candidate]) -> LateInputs:
    """Read what the records say of the series of spans, of those that share a zone with them, and of their alarms.

    Of the series themselves it has how far the live state had come when that was known to be stored.
    """
    spans = [each.span for each in candidates]
    newest = {each.span.series: each.newest for each in candidates if each.newest is not None}
    series = {span.series for span in spans}
    periods = zone_periods.load(tx, series)
    ids = set(periods) | series
    of_all = select(SeriesState.series_id, SeriesState.newest_at).where(
        in_values(tx, SeriesState.series_id, ids - series), SeriesState.newest_at > 0
    )
    beyond = select(RuleState.series_id).where(
        in_values(tx, RuleState.series_id, ids), RuleState.rule.in_(RULES), RuleState.condition != Condition.OK
    )
    zones = {run[0].zone for each in series if each in periods for run in periods[each].runs}
    since = Instant(min(span.since for span in spans) - MARGIN)
    until = Instant(max(span.until for span in spans) + MARGIN)
    return LateInputs(
        device_revision.current(tx),
        periods,
        {**{row[0]: row[1] for row in tx.execute(of_all)}, **newest},
        {each.span.series: inserted(each.recent) for each in candidates},
        frozenset(tx.scalars(beyond)),
        since,
        until,
        late_alarms.known_alarms(tx, zones, since, until),
    )


def zones_of(span: MarkedSpan, known: LateInputs) -> list[ZoneId]:
    """Return the zones in which the probe was in a span."""
    mine = known.periods.get(span.series)
    runs = mine.runs if mine else ()
    return sorted({run[0].zone for run in runs if run[0].since <= span.until and run[-1].until > span.since})


def is_calm(span: MarkedSpan, known: LateInputs, curve: Curve) -> bool:
    """Return whether a span can hold no excursion: all inside the limits around it, no condition and no alarm near."""
    zones = zones_of(span, known)
    if span.series in known.beyond and zones:
        return False
    since, until = Instant(span.since - MARGIN), Instant(span.until + MARGIN)
    for zone in zones:
        for rule in RULES:
            if any(alarm.touches(since, until) for alarm in known.alarms.get((zone, rule), ())):
                return False
    usable = ~np.isnan(curve.value) & ((curve.q & UNUSABLE) == 0)
    for run in known.periods[span.series].runs if zones else ():
        for period in run:
            first, last = np.searchsorted(curve.at, (max(period.since, since), min(period.until, until)))
            value = curve.value[first:last][usable[first:last]]
            if not value.size:
                continue
            above, below = period.bounds.above, period.bounds.below
            if above is not None and value.max() > above.value:
                return False
            if below is not None and value.min() < below.value:
                return False
    return True


def read_around(telemetry: Telemetry, spans: Sequence[MarkedSpan]) -> dict[SeriesDay, SeriesReadings]:
    """Read around spans, by day, since those of one day lie in the same hours."""
    by_day: dict[int, list[MarkedSpan]] = defaultdict(list)
    for span in spans:
        by_day[span.day].append(span)
    pieces: dict[SeriesDay, SeriesReadings] = {}
    for day, of_day in sorted(by_day.items()):
        since = Instant(min(span.since for span in of_day) - MARGIN)
        until = Instant(max(span.until for span in of_day) + MARGIN + 1)
        for series, curve in telemetry.multi_range([span.series for span in of_day], since, until).items():
            pieces[series, day] = SeriesReadings(since, until, curve)
    return pieces


class RangeReader:
    """What was read of series for one evaluation; each range is read once."""

    def __init__(self, telemetry: Telemetry, span: MarkedSpan, piece: SeriesReadings) -> None:
        """Begin with what was read around the span."""
        self._telemetry = telemetry
        self._read = {span.series: (piece.since, piece.until, _samples(span.series, piece.curve))}

    def of(self, series: SeriesId) -> evaluation.Read:
        """Return how a series is read."""

        def read(since: Instant, until: Instant) -> Sequence[Sample]:
            if since >= until:
                return []
            known = self._read.get(series)
            if known is None or since < known[0] or until > known[1]:
                first, end = (since, until) if known is None else (min(since, known[0]), max(until, known[1]))
                curve = self._telemetry.range(series, first, end)
                known = first, end, _samples(series, curve)
                self._read[series] = known
            samples = known[2]
            place, end_place = (bisect_left(samples, at, key=lambda one: one.at) for at in (since, until))
            return samples[place:end_place]

        return read


def _samples(series: SeriesId, curve: Curve) -> list[Sample]:
    return [Sample(one.at, one.value, one.q) for one in curve.samples(series)]
