"""Current state of zones and probes, as on a unit's home page (CC-05).

Offline is a state of its own: a zone without a reading inside the offline limit is offline, and its last value is never
shown as current. A maintenance window in force replaces the state given by the probes.

Readings from before the equipment came to its unit, or the probe to its zone, are not shown, nor are alarms that opened
in another unit: they belong to the unit where the equipment stood at that time.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import ColumnElement, Select, and_, select
from sqlalchemy.orm import Session

from core.alarms.states import AlarmState, ZoneState
from core.alarms.tables import Alarm
from core.db.in_force import in_force
from core.devices.tables import Equipment, EquipmentUnit, MaintenanceWindow, Probe, ProbeZone, Series, Zone
from core.ids import AlarmId, Centi, EquipmentId, UnitId, ZoneId
from core.limits import rule_profile
from core.rules import offline
from core.rules.rule_types import Rule
from core.runtime.instant import MINUTE, Instant
from core.telemetry.port import StoredReading, Telemetry
from core.units.tables import Unit
from core.wire.messages import CLOCK_TOLERANCE
from core.wire.quality import BROKEN


class ProbeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of a probe. `value` and `at` are None without a value inside the offline limit."""

    code: str
    state: ZoneState
    value: Centi | None = None
    at: Instant | None = None
    last_at: Instant | None = None
    """Time of the last reading, with or without a value."""


class ZoneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """State of a zone. `value` is that of the probe farthest from its range."""

    unit: UnitId
    unit_name: str
    timezone: str
    equipment: EquipmentId
    equipment_code: str
    equipment_name: str
    equipment_kind: str
    zone: ZoneId
    kind: str
    low: Centi | None
    high: Centi | None
    state: ZoneState
    value: Centi | None
    at: Instant | None
    last_at: Instant | None
    silent: int
    """Number of probes that are offline or at fault."""
    probes: Sequence[ProbeStatus]
    alarms: Sequence[AlarmId]
    """Open alarms."""


def limits_of(zone: Zone) -> tuple[Centi | None, Centi | None]:
    """Return low and high limit of a zone: its own limits, or else those of its rule profile."""
    return rule_profile.load_or_default(zone.profile).held_to(zone.kind, zone.low, zone.high)


def zone_statuses(
    tx: Session,
    telemetry: Telemetry,
    where: ColumnElement[bool],
    *,
    now: Instant,
    after: int = 0,
    limit: int = 200,
) -> list[ZoneStatus]:
    """Return the zones of up to `limit` equipment that now stands in units selected by `where`, ordered by equipment.

    For the next page, `after` is the last equipment. Equipment without zones is left out.
    """
    rows = tx.execute(_zones_in_units(where, now, after, limit)).all()
    zones = [zone for zone, _, _, _ in rows]
    windows = _windows(tx, [equipment.id for _, equipment, _, _ in rows], now)
    probes = _probes(tx, telemetry, zones, {zone.id: arrived_at for zone, _, _, arrived_at in rows}, now)
    alarms: dict[tuple[ZoneId, UnitId], list[tuple[AlarmId, Rule]]] = defaultdict(list)
    opened = select(Alarm.zone_id, Alarm.unit_id, Alarm.id, Alarm.rule).where(Alarm.state == AlarmState.OPEN)
    for zone_id, unit_id, alarm_id, rule in tx.execute(opened.where(Alarm.zone_id.in_([zone.id for zone in zones]))):
        alarms[zone_id, unit_id].append((alarm_id, rule))
    return [
        _zone_now(zone, equipment, unit, probes[zone.id], windows.get(equipment.id), alarms[zone.id, unit.id])
        for zone, equipment, unit, _ in rows
    ]


def zone_status(
    tx: Session, telemetry: Telemetry, zone: Zone, where: ColumnElement[bool], *, now: Instant
) -> ZoneStatus | None:
    """Return the present state of a zone; None if its equipment no longer stands where `where` selects."""
    of_equipment = and_(where, EquipmentUnit.equipment_id == zone.equipment_id)
    statuses = zone_statuses(tx, telemetry, of_equipment, now=now, limit=1)
    return next((status for status in statuses if status.zone == zone.id), None)


def _zones_in_units(
    where: ColumnElement[bool], now: Instant, after: int, limit: int
) -> Select[Zone, Equipment, Unit, Instant]:
    placements = (
        select(EquipmentUnit.equipment_id, EquipmentUnit.unit_id, EquipmentUnit.since)
        .join(Unit, Unit.id == EquipmentUnit.unit_id)
        .where(where, in_force(EquipmentUnit, now), EquipmentUnit.equipment_id > after)
        .order_by(EquipmentUnit.equipment_id)
        .limit(limit)
        .subquery()
    )
    return (
        select(Zone, Equipment, Unit, placements.c.since)
        .join(placements, placements.c.equipment_id == Zone.equipment_id)
        .join(Equipment, Equipment.id == Zone.equipment_id)
        .join(Unit, Unit.id == placements.c.unit_id)
        .order_by(Equipment.id, Zone.id)
    )


def _windows(tx: Session, equipment: Sequence[EquipmentId], now: Instant) -> Mapping[EquipmentId, ZoneState]:
    """Return the window in force of each equipment that has one; `stopped` takes precedence."""
    windows: dict[EquipmentId, ZoneState] = {}
    query = select(MaintenanceWindow.equipment_id, MaintenanceWindow.kind).where(
        MaintenanceWindow.equipment_id.in_(equipment), in_force(MaintenanceWindow, now)
    )
    for equipment_id, kind in tx.execute(query.order_by(MaintenanceWindow.since)):
        if windows.get(equipment_id) != ZoneState.STOPPED:
            windows[equipment_id] = ZoneState(kind)
    return windows


def _probes(
    tx: Session, telemetry: Telemetry, zones: Sequence[Zone], arrived_at: Mapping[ZoneId, Instant], now: Instant
) -> Mapping[ZoneId, Sequence[ProbeStatus]]:
    query = (
        select(ProbeZone.zone_id, ProbeZone.since, Probe.code, Probe.interval, Series.id)
        .join(Probe, Probe.id == ProbeZone.probe_id)
        .outerjoin(Series, and_(Series.probe_id == Probe.id, Series.quantity == "t"))
        .where(ProbeZone.zone_id.in_([zone.id for zone in zones]), in_force(ProbeZone, now))
        .order_by(Probe.code)
    )
    bindings = tx.execute(query).all()
    series_ids = [row[-1] for row in bindings if row[-1] is not None]
    offline_limit = {zone.id: rule_profile.load_or_default(zone.profile).offline_limit for zone in zones}
    longest = max((offline_limit[zone_id].of(interval) for zone_id, _, _, interval, _ in bindings), default=MINUTE)
    recent = (
        telemetry.multi_range(series_ids, Instant(now - longest), Instant(now + CLOCK_TOLERANCE)) if series_ids else {}
    )
    latest = telemetry.latest(series_ids) if series_ids else {}
    bands = {zone.id: limits_of(zone) for zone in zones}
    probes: dict[ZoneId, list[ProbeStatus]] = defaultdict(list)
    for zone_id, bound_since, code, interval, series in bindings:
        visible_since = max(bound_since, arrived_at[zone_id])
        since = offline.heard_after(now, interval, offline_limit[zone_id])
        samples = list(recent[series].samples(series)) if series in recent else []
        samples = [s for s in samples if s.at > since and s.at >= visible_since]
        last = latest.get(series)
        last_at = last.at if last is not None and last.at >= visible_since else None
        probes[zone_id].append(probe_status(code, samples, last_at, *bands[zone_id]))
    return probes


def probe_status(
    code: str, samples: Sequence[StoredReading], last_at: Instant | None, low: Centi | None, high: Centi | None
) -> ProbeStatus:
    """Return the state of a probe by its readings inside the offline limit, in order of time."""
    newest = next((s for s in reversed(samples) if offline.has_value(s.value, s.q)), None)
    if newest is not None and newest.value is not None:
        state = ZoneState.ABNORMAL if excess(newest.value, low, high) > 0 else ZoneState.NORMAL
        return ProbeStatus(code=code, state=state, value=newest.value, at=newest.at, last_at=last_at)
    state = ZoneState.FAULT if any(s.q & BROKEN for s in samples) else ZoneState.OFFLINE
    return ProbeStatus(code=code, state=state, last_at=last_at)


def excess(value: Centi, low: Centi | None, high: Centi | None) -> int:
    """Return by how much a value exceeds its range: 0 at a limit, negative inside the range."""
    beyond = [value - high] if high is not None else []
    beyond += [low - value] if low is not None else []
    return max(beyond, default=0)


def _zone_now(
    zone: Zone,
    equipment: Equipment,
    unit: Unit,
    probes: Sequence[ProbeStatus],
    window: ZoneState | None,
    alarms: Sequence[tuple[AlarmId, Rule]],
) -> ZoneStatus:
    live = [probe for probe in probes if probe.value is not None]
    low, high = limits_of(zone)
    worst = max(live, key=lambda p: excess(p.value or Centi(0), low, high), default=None)
    stopped = window == ZoneState.STOPPED
    return ZoneStatus(
        unit=unit.id,
        unit_name=unit.name,
        timezone=unit.timezone,
        equipment=equipment.id,
        equipment_code=equipment.code,
        equipment_name=equipment.name,
        equipment_kind=equipment.kind,
        zone=zone.id,
        kind=zone.kind,
        low=low,
        high=high,
        state=window or _state(probes, excursion_open=any(rule in {Rule.ABOVE, Rule.BELOW} for _, rule in alarms)),
        value=worst.value if worst and not stopped else None,
        at=worst.at if worst and not stopped else None,
        last_at=max((p.last_at for p in probes if p.last_at is not None), default=None),
        silent=0 if stopped else len(probes) - len(live),
        probes=probes,
        alarms=[alarm for alarm, _ in alarms],
    )


def _state(probes: Sequence[ProbeStatus], *, excursion_open: bool) -> ZoneState:
    """Return the state of a zone without a window: that of its worst probe; without values, `fault` or `offline`."""
    states = {probe.state for probe in probes}
    if not states:
        return ZoneState.UNMONITORED
    if states & {ZoneState.NORMAL, ZoneState.ABNORMAL}:
        return ZoneState.ABNORMAL if ZoneState.ABNORMAL in states or excursion_open else ZoneState.NORMAL
    return ZoneState.FAULT if ZoneState.FAULT in states else ZoneState.OFFLINE
