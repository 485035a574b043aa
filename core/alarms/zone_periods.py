"""Binding segments of probes in zones: the time of each, with the limits and rule settings that apply in it.

Limits and intervals have versions (`core.limits.placements`). A zone's own delay and hysteresis have none: the current
ones are used for all times.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.db.in_values import in_values
from core.devices.tables import IntervalVersion, LimitsVersion, Probe, ProbeZone, Series, Zone
from core.ids import ProbeId, SeriesId, ZoneId
from core.limits import rule_profile
from core.limits.placements import EnteredVersion, in_force
from core.limits.rule_profile import ZoneOverrides
from core.rules.evaluation import ZonePeriod
from core.rules.rule_types import END
from core.runtime.instant import Instant, Milliseconds

UnbrokenPeriods = Sequence[ZonePeriod]
"""Segments of a probe in one zone that follow one another without a break."""


class ProbeZonePeriods(msgspec.Struct, frozen=True):
    """A temperature series with all runs of its probe in any zone, in order of time."""

    series: SeriesId
    probe: ProbeId
    interval: Milliseconds
    """Current interval of the probe."""
    runs: Sequence[UnbrokenPeriods]


def load(tx: Session, series: Collection[SeriesId]) -> dict[SeriesId, ProbeZonePeriods]:
    """Return the segments of temperature series, and of all series that ever shared a zone with one of them."""
    probe_ids = select(Series.probe_id).where(in_values(tx, Series.id, series), Series.quantity == "t")
    zones = set(tx.scalars(select(ProbeZone.zone_id).where(ProbeZone.probe_id.in_(probe_ids))))
    zone_probe_ids = select(ProbeZone.probe_id).where(in_values(tx, ProbeZone.zone_id, zones))
    rows = tx.execute(
        select(Series.id, Series.probe_id, Probe.interval, ProbeZone.zone_id, ProbeZone.since, ProbeZone.until)
        .join(Probe, Probe.id == Series.probe_id)
        .join(ProbeZone, ProbeZone.probe_id == Probe.id)
        .where(Series.quantity == "t", or_(Series.probe_id.in_(probe_ids), Series.probe_id.in_(zone_probe_ids)))
        .order_by(Series.id, ProbeZone.since)
    ).all()
    versions = _Versions(tx, {row.zone_id for row in rows}, {row.probe_id: row.interval for row in rows})
    runs_by_series: dict[tuple[SeriesId, ProbeId], list[list[ZonePeriod]]] = defaultdict(list)
    for series_id, probe, _, zone, since, until in rows:
        runs = runs_by_series[series_id, probe]
        periods = versions.periods(probe, zone, since, END if until is None else until)
        if runs and runs[-1][-1].zone == zone and runs[-1][-1].until == since:
            runs[-1] += periods
        else:
            runs.append(periods)
    intervals = {row.id: row.interval for row in rows}
    return {
        series_id: ProbeZonePeriods(series_id, probe, intervals[series_id], runs)
        for (series_id, probe), runs in runs_by_series.items()
    }


class _Versions:
    """Limits of zones and intervals of probes, with their versions."""

    def __init__(self, tx: Session, zones: Collection[ZoneId], intervals: Mapping[ProbeId, Milliseconds]) -> None:
        self._intervals = intervals
        query = select(Zone.id, Zone.kind, Zone.delay, Zone.hysteresis).where(in_values(tx, Zone.id, zones))
        self._zones = {row.id: row for row in tx.execute(query)}
        self._limits: dict[ZoneId, list[EnteredVersion]] = defaultdict(list)
        for row in tx.scalars(select(LimitsVersion).where(in_values(tx, LimitsVersion.zone_id, zones))):
            self._limits[row.zone_id].append(EnteredVersion(row.id, row.since, (row.profile, row.low, row.high)))
        self._versions: dict[ProbeId, list[EnteredVersion]] = defaultdict(list)
        interval_query = select(IntervalVersion).where(in_values(tx, IntervalVersion.probe_id, intervals.keys()))
        for version in tx.scalars(interval_query):
            self._versions[version.probe_id].append(EnteredVersion(version.id, version.since, version.interval))

    def periods(self, probe: ProbeId, zone: ZoneId, since: Instant, until: Instant) -> list[ZonePeriod]:
        """Return the segments of a binding, cut where limits or interval changed."""
        limits, intervals = self._limits[zone], self._versions[probe]
        cuts = {each.since for each in (*limits, *intervals) if since < each.since < until}
        points = [since, *sorted(cuts), until]
        return [self._period(probe, zone, first, end) for first, end in pairwise(points)]

    def _period(self, probe: ProbeId, zone: ZoneId, since: Instant, until: Instant) -> ZonePeriod:
        row = self._zones[zone]
        limits = in_force(self._limits[zone], since)
        name, low, high = limits.value if limits is not None else (rule_profile.DEFAULT, None, None)
        interval_version = in_force(self._versions[probe], since)
        overrides = ZoneOverrides(low=low, high=high, delay=row.delay, hysteresis=row.hysteresis)
        interval = self._intervals[probe] if interval_version is None else interval_version.value
        return ZonePeriod(
            since, until, zone, rule_profile.bounds(rule_profile.load_or_default(name), row.kind, interval, overrides)
        )


def in_zone(zone: ZoneId, probes: Iterable[ProbeZonePeriods]) -> list[tuple[ProbeZonePeriods, list[UnbrokenPeriods]]]:
    """Return the probes that were ever bound to a zone, with their runs there."""
    candidates = ((probe, [run for run in probe.runs if run[0].zone == zone]) for probe in probes)
    return [(probe, runs) for probe, runs in candidates if runs]
