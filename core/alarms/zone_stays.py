"""Stays of probes in zones: when each was there, and what it was held to then, as the records say now.

Limits and intervals have versions (`core.devices.stays`); a zone's own delay and hysteresis have none, and count as
having held ever since.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.alarms import profile
from core.alarms.profile import Differences
from core.alarms.rules.evaluation import END, Stay
from core.db.among import among
from core.devices.stays import Version, in_force
from core.devices.tables import IntervalVersion, LimitsVersion, Probe, ProbeZone, Series, Zone
from core.ids import ProbeId, SeriesId, ZoneId
from core.runtime.instant import Instant, Milliseconds

Run = Sequence[Stay]
"""Stays of a probe in a zone that follow each other without a break."""


class ProbeStays(msgspec.Struct, frozen=True):
    """A temperature series, and every run of its probe in any zone, in order of time."""

    series: SeriesId
    probe: ProbeId
    interval: Milliseconds
    """Of today."""
    runs: Sequence[Run]


def load(tx: Session, series: Collection[SeriesId]) -> dict[SeriesId, ProbeStays]:
    """Return the stays of temperature series, and of all series that ever shared a zone with one of them."""
    mine = select(Series.probe_id).where(among(tx, Series.id, series), Series.quantity == "t")
    zones = set(tx.scalars(select(ProbeZone.zone_id).where(ProbeZone.probe_id.in_(mine))))
    there = select(ProbeZone.probe_id).where(among(tx, ProbeZone.zone_id, zones))
    rows = tx.execute(
        select(Series.id, Series.probe_id, Probe.interval, ProbeZone.zone_id, ProbeZone.since, ProbeZone.until)
        .join(Probe, Probe.id == Series.probe_id)
        .join(ProbeZone, ProbeZone.probe_id == Probe.id)
        .where(Series.quantity == "t", or_(Series.probe_id.in_(mine), Series.probe_id.in_(there)))
        .order_by(Series.id, ProbeZone.since)
    ).all()
    held = _Held(tx, {row.zone_id for row in rows}, {row.probe_id: row.interval for row in rows})
    found: dict[tuple[SeriesId, ProbeId], list[list[Stay]]] = defaultdict(list)
    for each, probe, _, zone, since, until in rows:
        runs = found[each, probe]
        stays = held.stays(probe, zone, since, END if until is None else until)
        if runs and runs[-1][-1].zone == zone and runs[-1][-1].until == since:
            runs[-1] += stays
        else:
            runs.append(stays)
    intervals = {row.id: row.interval for row in rows}
    return {each: ProbeStays(each, probe, intervals[each], runs) for (each, probe), runs in found.items()}


class _Held:
    """What zones and probes were held to."""

    def __init__(self, tx: Session, zones: Collection[ZoneId], intervals: Mapping[ProbeId, Milliseconds]) -> None:
        self._intervals = intervals
        asked = select(Zone.id, Zone.kind, Zone.delay, Zone.hysteresis).where(among(tx, Zone.id, zones))
        self._zones = {row.id: row for row in tx.execute(asked)}
        self._limits: dict[ZoneId, list[Version]] = defaultdict(list)
        for row in tx.scalars(select(LimitsVersion).where(among(tx, LimitsVersion.zone_id, zones))):
            self._limits[row.zone_id].append(Version(row.id, row.since, (row.profile, row.low, row.high)))
        self._versions: dict[ProbeId, list[Version]] = defaultdict(list)
        asked_of = select(IntervalVersion).where(among(tx, IntervalVersion.probe_id, intervals.keys()))
        for version in tx.scalars(asked_of):
            self._versions[version.probe_id].append(Version(version.id, version.since, version.interval))

    def stays(self, probe: ProbeId, zone: ZoneId, since: Instant, until: Instant) -> list[Stay]:
        """Return the stays of a binding, cut wherever what it was held to changed."""
        limits, intervals = self._limits[zone], self._versions[probe]
        cuts = {each.since for each in (*limits, *intervals) if since < each.since < until}
        points = [since, *sorted(cuts), until]
        return [self._stay(probe, zone, first, end) for first, end in pairwise(points)]

    def _stay(self, probe: ProbeId, zone: ZoneId, since: Instant, until: Instant) -> Stay:
        row = self._zones[zone]
        held = in_force(self._limits[zone], since)
        name, low, high = held.value if held is not None else (profile.DEFAULT, None, None)
        every = in_force(self._versions[probe], since)
        own = Differences(low=low, high=high, delay=row.delay, hysteresis=row.hysteresis)
        interval = self._intervals[probe] if every is None else every.value
        return Stay(since, until, zone, profile.bounds(profile.load_or_default(name), row.kind, interval, own))


def in_zone(zone: ZoneId, probes: Iterable[ProbeStays]) -> list[tuple[ProbeStays, list[Run]]]:
    """Return the probes that ever were in a zone, with their runs there."""
    there = ((each, [run for run in each.runs if run[0].zone == zone]) for each in probes)
    return [(each, runs) for each, runs in there if runs]
