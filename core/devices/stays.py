"""Where a series was and what it was held to, stretch by stretch: what its figures of a day are computed by.

A *stay* is a stretch of time in which nothing changed by which readings are judged: zone, unit, limits, interval.
Limits and intervals have versions: of the rows that have begun at an instant the one entered last counts. So a
correction is a new row, and a day is judged by what is known now to have held then.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms import profile
from core.devices.spans import Spans
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
from core.ids import Centi, EquipmentId, ProbeId, SeriesId, UnitId, ZoneId
from core.runtime.instant import Instant, Milliseconds
from core.units.tables import Unit

FOREVER = Instant(2**62)
TEMPERATURE = "t"


class Stay(msgspec.Struct, frozen=True):
    """Nothing of this changed in [since, until), while a gateway read the probe or it was bound to a zone."""

    since: Instant
    until: Instant
    """FOREVER while it lasts."""
    began: Instant
    """When the probe came to the zone (or from one): what it measured before says nothing of here."""
    zone: ZoneId | None
    unit: UnitId | None
    timezone: str
    limits: int
    """Version: the id of its LimitsVersion; 0 where the default profile holds, or no limits can."""
    low: Centi | None
    high: Centi | None
    interval: Milliseconds


class Version(msgspec.Struct, frozen=True):
    """What has held since an instant, as it was entered."""

    id: int
    since: Instant
    value: Any


def in_force(versions: Sequence[Version], at: Instant) -> Version | None:
    """Return what held at an instant: of the versions that had begun, the one entered last."""
    return max((each for each in versions if each.since <= at), key=lambda each: each.id, default=None)


def clipped(stays: Iterable[Stay], until: Instant) -> list[Stay]:
    """Return the part of stays that lies before an instant."""
    return [
        msgspec.structs.replace(each, until=min(each.until, until))
        for each in stays
        if each.since < min(each.until, until)
    ]


def differences(before: Sequence[Stay], after: Sequence[Stay]) -> list[tuple[Instant, Instant]]:
    """Return the spans in which two courses of stays differ in anything but where they were cut."""
    known = [_by_time(each) for each in (before, after)]
    points = sorted({point for each in (*before, *after) for point in (each.since, each.until)})
    return [(a, b) for a, b in pairwise(points) if known[0].at(a) != known[1].at(a)]


def _by_time(stays: Sequence[Stay]) -> Spans[Stay]:
    return Spans((each.since, each.until, msgspec.structs.replace(each, since=0, until=0)) for each in stays)


def load(tx: Session, timezone: str) -> dict[SeriesId, list[Stay]]:
    """Return the stays of every series; `timezone` is that of probes in no unit."""
    known = _Records(tx, timezone)
    by_probe: dict[ProbeId, list[tuple[SeriesId, str]]] = defaultdict(list)
    for series, probe, quantity in tx.execute(select(Series.id, Series.probe_id, Series.quantity)):
        by_probe[probe].append((series, quantity))
    return {
        series: known.stays(probe, limited=quantity == TEMPERATURE)
        for probe, all_series in by_probe.items()
        for series, quantity in all_series
    }


class _Records:
    """What records say of every probe, zone and equipment."""

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
        self._limits: dict[ZoneId, list[Version]] = defaultdict(list)
        for row in tx.scalars(select(LimitsVersion)):
            self._limits[row.zone_id].append(Version(row.id, row.since, (row.profile, row.low, row.high)))
        self._intervals: dict[ProbeId, list[Version]] = defaultdict(list)
        for version in tx.scalars(select(IntervalVersion)):
            self._intervals[version.probe_id].append(Version(version.id, version.since, version.interval))

    def stays(self, probe: ProbeId, *, limited: bool) -> list[Stay]:
        """Return the stays of one probe, cut wherever anything changes."""
        paired, bound = self._paired.get(probe, []), self._bound.get(probe, [])
        points = {point for since, until, *_ in (*paired, *bound) for point in (since, until or FOREVER)}
        points |= {version.since for version in self._intervals.get(probe, ())}
        for _, _, zone in bound:
            points |= {version.since for version in self._limits.get(zone, ())}
            for since, until, _ in self._units.get(self._zone[zone][0], ()):
                points |= {since, until or FOREVER}
        zones = Spans((since, until, (zone, since)) for since, until, zone in bound)
        reads = Spans((since, until, since) for since, until in paired)
        stays: list[Stay] = []
        for since, until in pairwise(sorted(points)):
            here = zones.at(since)
            read_since = reads.at(since)
            if here is None and read_since is None:
                continue
            zone, began = here if here is not None else (None, max(read_since or since, _last_end(bound, since)))
            made = self._stay(probe, zone, began, since, until, limited=limited)
            last = stays[-1] if stays else None
            if (
                last is not None
                and last.until == since
                and msgspec.structs.replace(last, since=since, until=until) == made
            ):
                stays[-1] = msgspec.structs.replace(last, until=until)
            else:
                stays.append(made)
        return stays

    def _stay(
        self, probe: ProbeId, zone: ZoneId | None, began: Instant, since: Instant, until: Instant, *, limited: bool
    ) -> Stay:
        version = in_force(self._intervals.get(probe, ()), since)
        interval = version.value if version is not None else self._interval[probe]
        if zone is None:
            return Stay(since, until, began, None, None, self._timezone, 0, None, None, interval)
        equipment, kind = self._zone[zone]
        unit = Spans(self._units.get(equipment, ())).at(since)
        timezone = self._timezone if unit is None else self._timezones[unit]
        if not limited:
            return Stay(since, until, began, zone, unit, timezone, 0, None, None, interval)
        held = in_force(self._limits.get(zone, ()), since)
        name, low, high = held.value if held is not None else (profile.DEFAULT, None, None)
        low, high = profile.load_or_default(name).held_to(kind, low, high)
        return Stay(since, until, began, zone, unit, timezone, held.id if held else 0, low, high, interval)


def _rows(tx: Session, query: Any) -> dict[Any, list[Any]]:  # noqa: ANN401 (a select of any columns)
    found: dict[Any, list[Any]] = defaultdict(list)
    for subject, *row in tx.execute(query):
        found[subject].append(row)
    return found


def _last_end(bound: Iterable[Any], at: Instant) -> Instant:
    return max((until for _, until, _ in bound if until is not None and until <= at), default=Instant(-FOREVER))
