"""Placement segments of a series: zone, unit, limits and interval over time. Daily figures are computed by them.

In one segment nothing changes that readings are judged by. Limits and intervals have versions: of the rows that have
begun at an instant, the one entered last applies. A correction is a new row, so a day is judged by what is known now
about that day.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.devices.tables import (
    EquipmentUnit,
    IntervalVersion,
    LimitsVersion,
    Probe,
    ProbeGateway,
    ProbeZone,
    Series,
    Zone,
)
from core.devices.timeline import Timeline
from core.ids import Centi, EquipmentId, ProbeId, SeriesId, UnitId, ZoneId
from core.limits import rule_profile
from core.runtime.instant import Instant, Milliseconds
from core.units.tables import Unit

FOREVER = Instant(2**62)
TEMPERATURE = "t"


class Placement(msgspec.Struct, frozen=True):
    """Segment [since, until) in which none of these values changed, with the probe paired or bound."""

    since: Instant
    until: Instant
    """FOREVER while it is open."""
    began: Instant
    """Start of the binding to the zone. Without a zone: start of the pairing, or end of the last binding if later.
    Readings before it are not judged here.
    """
    zone: ZoneId | None
    unit: UnitId | None
    timezone: str
    limits: int
    """Id of the LimitsVersion; 0 where the default profile applies, or where limits don't apply."""
    low: Centi | None
    high: Centi | None
    interval: Milliseconds


class EnteredVersion(msgspec.Struct, frozen=True):
    """Version of a value that applies since an instant. A greater `id` was entered later."""

    id: int
    since: Instant
    value: Any


def in_force(versions: Sequence[EnteredVersion], at: Instant) -> EnteredVersion | None:
    """Return the version that applies at an instant: of those that have begun, the one entered last."""
    return max((each for each in versions if each.since <= at), key=lambda each: each.id, default=None)


def clipped(stays: Iterable[Placement], until: Instant) -> list[Placement]:
    """Return the segments cut off at an instant."""
    return [
        msgspec.structs.replace(stay, until=min(stay.until, until))
        for stay in stays
        if stay.since < min(stay.until, until)
    ]


def differences(before: Sequence[Placement], after: Sequence[Placement]) -> list[tuple[Instant, Instant]]:
    """Return the spans in which two lists of segments differ in their values, wherever they were cut."""
    timelines = [_by_time(each) for each in (before, after)]
    points = sorted({point for each in (*before, *after) for point in (each.since, each.until)})
    return [(start, end) for start, end in pairwise(points) if timelines[0].at(start) != timelines[1].at(start)]


def _by_time(stays: Sequence[Placement]) -> Timeline[Placement]:
    return Timeline((each.since, each.until, msgspec.structs.replace(each, since=0, until=0)) for each in stays)


def load(tx: Session, timezone: str) -> dict[SeriesId, list[Placement]]:
    """Return the segments of every series. `timezone` is used for probes that are in no unit."""
    history = _Records(tx, timezone)
    by_probe: dict[ProbeId, list[tuple[SeriesId, str]]] = defaultdict(list)
    for series, probe, quantity in tx.execute(select(Series.id, Series.probe_id, Series.quantity)):
        by_probe[probe].append((series, quantity))
    return {
        series: history.stays(probe, limited=quantity == TEMPERATURE)
        for probe, all_series in by_probe.items()
        for series, quantity in all_series
    }


class _Records:
    """Bindings, placements, limits and intervals of all probes, zones and equipment, read at once."""

    def __init__(self, tx: Session, timezone: str) -> None:
        self._timezone = timezone
        self._interval = {row[0]: row[1] for row in tx.execute(select(Probe.id, Probe.interval))}
        self._paired = _rows(tx, select(ProbeGateway.probe_id, ProbeGateway.since, ProbeGateway.until))
        bound = select(ProbeZone.probe_id, ProbeZone.since, ProbeZone.until, ProbeZone.zone_id)
        self._bound: Mapping[ProbeId, Any] = _rows(tx, bound)
        self._zone: dict[ZoneId, tuple[EquipmentId, str]] = {
            id_: (equipment, kind) for id_, equipment, kind in tx.execute(select(Zone.id, Zone.equipment_id, Zone.kind))
        }
        units = select(EquipmentUnit.equipment_id, EquipmentUnit.since, EquipmentUnit.until, EquipmentUnit.unit_id)
        self._units: Mapping[EquipmentId, Any] = _rows(tx, units)
        self._timezones = {row[0]: row[1] for row in tx.execute(select(Unit.id, Unit.timezone))}
        self._limits: dict[ZoneId, list[EnteredVersion]] = defaultdict(list)
        for row in tx.scalars(select(LimitsVersion)):
            self._limits[row.zone_id].append(EnteredVersion(row.id, row.since, (row.profile, row.low, row.high)))
        self._intervals: dict[ProbeId, list[EnteredVersion]] = defaultdict(list)
        for version in tx.scalars(select(IntervalVersion)):
            self._intervals[version.probe_id].append(EnteredVersion(version.id, version.since, version.interval))

    def stays(self, probe: ProbeId, *, limited: bool) -> list[Placement]:
        """Return the segments of one probe, cut where any value changes."""
        paired, bound = self._paired.get(probe, []), self._bound.get(probe, [])
        points = {point for since, until, *_ in (*paired, *bound) for point in (since, until or FOREVER)}
        points |= {version.since for version in self._intervals.get(probe, ())}
        for _, _, zone in bound:
            points |= {version.since for version in self._limits.get(zone, ())}
            for since, until, _ in self._units.get(self._zone[zone][0], ()):
                points |= {since, until or FOREVER}
        zones = Timeline((since, until, (zone, since)) for since, until, zone in bound)
        pairings = Timeline((since, until, since) for since, until in paired)
        stays: list[Placement] = []
        for since, until in pairwise(sorted(points)):
            binding = zones.at(since)
            read_since = pairings.at(since)
            if binding is None and read_since is None:
                continue
            zone, began = binding if binding is not None else (None, max(read_since or since, _last_end(bound, since)))
            stay = self._stay(probe, zone, began, since, until, limited=limited)
            last = stays[-1] if stays else None
            if (
                last is not None
                and last.until == since
                and msgspec.structs.replace(last, since=since, until=until) == stay
            ):
                stays[-1] = msgspec.structs.replace(last, until=until)
            else:
                stays.append(stay)
        return stays

    def _stay(
        self, probe: ProbeId, zone: ZoneId | None, began: Instant, since: Instant, until: Instant, *, limited: bool
    ) -> Placement:
        interval_version = in_force(self._intervals.get(probe, ()), since)
        interval = interval_version.value if interval_version is not None else self._interval[probe]
        if zone is None:
            return Placement(since, until, began, None, None, self._timezone, 0, None, None, interval)
        equipment, kind = self._zone[zone]
        unit = Timeline(self._units.get(equipment, ())).at(since)
        timezone = self._timezone if unit is None else self._timezones[unit]
        if not limited:
            return Placement(since, until, began, zone, unit, timezone, 0, None, None, interval)
        limits_version = in_force(self._limits.get(zone, ()), since)
        name, low, high = limits_version.value if limits_version is not None else (rule_profile.DEFAULT, None, None)
        low, high = rule_profile.load_or_default(name).held_to(kind, low, high)
        return Placement(
            since, until, began, zone, unit, timezone, limits_version.id if limits_version else 0, low, high, interval
        )


def _rows(tx: Session, query: Any) -> dict[Any, list[Any]]:  # noqa: ANN401 (a select of any columns)
    rows: dict[Any, list[Any]] = defaultdict(list)
    for subject, *row in tx.execute(query):
        rows[subject].append(row)
    return rows


def _last_end(bound: Iterable[Any], at: Instant) -> Instant:
    return max((until for _, until, _ in bound if until is not None and until <= at), default=Instant(-FOREVER))
