"""Material of an evaluation of late readings: what the records say of some spans, and the readings around them."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms import past, zone_stays
from core.alarms.late_spans import Span
from core.alarms.lifecycle import Key
from core.alarms.rules import evaluation
from core.alarms.rules.reconcile import Known
from core.alarms.rules.sample import UNUSABLE, Condition, Rule, Sample
from core.alarms.tables import RuleState, SeriesState
from core.alarms.zone_stays import ProbeStays
from core.db.among import among
from core.devices import revision
from core.ids import SeriesId, ZoneId
from core.runtime.instant import HOUR, Instant, Milliseconds
from core.telemetry.port import Curve, Telemetry

RULES = (Rule.ABOVE, Rule.BELOW)
MARGIN = Milliseconds(HOUR)
"""Around a span in which nothing may have been beyond a limit, for it to be calm: longer than a rule takes to clear."""


class Snapshot(msgspec.Struct, frozen=True):
    """What the records said of some spans at one moment."""

    revision: int
    stays: Mapping[SeriesId, ProbeStays]
    newest: Mapping[SeriesId, Instant]
    beyond: frozenset[SeriesId]
    """Series with a limit's condition that isn't ok."""
    alarms: Mapping[Key, Sequence[Known]]


def snapshot(tx: Session, series: set[SeriesId]) -> Snapshot:
    """Read what the records say of some series, of those that share a zone with them, and of their zones' alarms."""
    stays = zone_stays.load(tx, series)
    ids = set(stays) | series
    newest = select(SeriesState.series_id, SeriesState.newest_at).where(
        among(tx, SeriesState.series_id, ids), SeriesState.newest_at > 0
    )
    beyond = select(RuleState.series_id).where(
        among(tx, RuleState.series_id, ids), RuleState.rule.in_(RULES), RuleState.condition != Condition.OK
    )
    zones = {run[0].zone for each in series if each in stays for run in stays[each].runs}
    return Snapshot(
        revision.current(tx),
        stays,
        {row[0]: row[1] for row in tx.execute(newest)},
        frozenset(tx.scalars(beyond)),
        past.known_alarms(tx, zones),
    )


def zones_of(span: Span, known: Snapshot) -> list[ZoneId]:
    """Return the zones in which the probe was in a span."""
    mine = known.stays.get(span.series)
    runs = mine.runs if mine else ()
    return sorted({run[0].zone for run in runs if run[0].since <= span.until and run[-1].until > span.since})


def is_calm(span: Span, known: Snapshot, curve: Curve) -> bool:
    """Whether nothing can have come of a span: all inside the limits around it, no condition and no alarm near."""
    zones = zones_of(span, known)
    if span.series in known.beyond and zones:
        return False
    since, until = span.since - MARGIN, span.until + MARGIN
    for zone in zones:
        for rule in RULES:
            if any(one.since <= until and one.until >= since for one in known.alarms.get((zone, rule), ())):
                return False
    usable = ~np.isnan(curve.value) & ((curve.q & UNUSABLE) == 0)
    for run in known.stays[span.series].runs if zones else ():
        for stay in run:
            first, last = np.searchsorted(curve.at, (max(stay.since, since), min(stay.until, until)))
            value = curve.value[first:last][usable[first:last]]
            if not value.size:
                continue
            above, below = stay.bounds.above, stay.bounds.below
            if above is not None and value.max() > above.value:
                return False
            if below is not None and value.min() < below.value:
                return False
    return True


def read_around(telemetry: Telemetry, spans: Sequence[Span]) -> dict[SeriesId, Curve]:
    """Read around all spans, by day, since those of one day lie in the same hours."""
    by_day: dict[int, list[Span]] = defaultdict(list)
    for span in spans:
        by_day[span.day].append(span)
    curves: dict[SeriesId, Curve] = {}
    pieces: dict[SeriesId, list[Curve]] = defaultdict(list)
    for _, of_day in sorted(by_day.items()):
        since = Instant(min(span.since for span in of_day) - MARGIN)
        until = Instant(max(span.until for span in of_day) + MARGIN)
        for series, curve in telemetry.multi_range([span.series for span in of_day], since, until).items():
            pieces[series].append(curve)
    for series, parts in pieces.items():
        curves[series] = parts[0] if len(parts) == 1 else _joined(parts)
    return curves


class Reader:
    """What was read of series for one evaluation; each range is read once."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._read: dict[SeriesId, tuple[Instant, Instant, list[Sample]]] = {}

    def of(self, series: SeriesId) -> evaluation.Read:
        """Return how a series is read."""

        def read(since: Instant, until: Instant) -> Sequence[Sample]:
            if since >= until:
                return []
            known = self._read.get(series)
            if known is None or since < known[0] or until > known[1]:
                first, end = (since, until) if known is None else (min(since, known[0]), max(until, known[1]))
                curve = self._telemetry.range(series, first, end)
                known = first, end, [Sample(one.at, one.value, one.q) for one in curve.samples(series)]
                self._read[series] = known
            samples = known[2]
            place, end_place = (bisect_left(samples, at, key=lambda one: one.at) for at in (since, until))
            return samples[place:end_place]

        return read


def _joined(parts: Sequence[Curve]) -> Curve:
    """Put the pieces of a series together; where they overlap, they say the same."""
    at = np.concatenate([part.at for part in parts])
    order = np.unique(at, return_index=True)[1]
    value, q = (np.concatenate([getattr(part, name) for part in parts]) for name in ("value", "q"))
    return Curve(at[order], value[order], q[order])
