"""Equipment, zones, gateways, probes and windows of an import file: added, changed, moved, or left as they are."""

from sqlalchemy import select

from coldchain.importing.rows import EquipmentRow, GatewayRow, ProbeRow, WindowRow, ZoneRow
from coldchain.importing.run import Outcome, Run
from core.devices import bindings, intervals, registry, windows
from core.devices.names import ZoneKind
from core.devices.registry import NewEquipment, ZoneLimits
from core.devices.tables import (
    EquipmentUnit,
    Gateway,
    GatewayUnit,
    MaintenanceWindow,
    Probe,
    ProbeGateway,
    ProbeZone,
    Zone,
)
from core.errors import Invalid
from core.ids import EquipmentId, ProbeId, ZoneId
from core.runtime.instant import MINUTE, Instant, rfc3339


def write_equipment(run: Run, row: EquipmentRow) -> Outcome:
    """Add an equipment with its zones; or rename it, give it further zones, and place it in another unit."""
    unit = run.unit(row.unit)
    known = run.equipment.get(row.code)
    if known is None:
        new = NewEquipment(row.code, row.name, row.kind, row.zones)
        since = row.since or run.since
        run.equipment[row.code] = registry.add_equipment(run.tx, run.actor, new, unit, since=since, now=run.now)
        return Outcome.ADDED
    changed = registry.rename_equipment(run.tx, run.actor, known, row.name, row.kind, now=run.now)
    for kind in row.zones:
        if kind not in _zones(run, known.id):
            registry.add_zone(run.tx, run.actor, known.id, kind, now=run.now)
            changed = True
    stands = intervals.newest(run.tx, EquipmentUnit, known.id)
    if stands is not None and stands.until is None and stands.unit_id == unit.id:
        run.begins(row.since, stands.since)
        return Outcome.of(changed=changed)
    bindings.place_equipment(run.tx, run.actor, known.id, unit, row.since or run.now, now=run.now)
    return Outcome.CHANGED


def write_zone(run: Run, row: ZoneRow) -> Outcome:
    """Hold a zone to the limits of the row; an equipment gets the zone if it hasn't one of this kind."""
    equipment = run.one_equipment(row.equipment)
    zone = _zones(run, equipment.id).get(row.kind)
    added = zone is None
    if zone is None:
        zone = registry.add_zone(run.tx, run.actor, equipment.id, row.kind, now=run.now)
    limits = ZoneLimits(profile=row.profile, low=row.low, high=row.high, delay=row.delay, hysteresis=row.hysteresis)
    changed = registry.set_limits(run.tx, run.actor, zone, limits, now=run.now)
    return Outcome.ADDED if added else Outcome.of(changed=changed)


def write_gateway(run: Run, row: GatewayRow) -> Outcome:
    """Add a gateway, or place it in another unit."""
    if row.number in run.services:
        problem = "it is the broker user of our own services; give the gateway another"
        raise Invalid(field="number", value=row.number, problem=problem)
    unit = run.unit(row.unit)
    known = run.gateways.get(row.number)
    if known is None:
        since = row.since or run.since
        made = registry.add_gateway(run.tx, run.actor, row.number, unit, since=since, now=run.now)
        run.gateways[row.number] = made
        return Outcome.ADDED
    stands = intervals.newest(run.tx, GatewayUnit, known.id)
    if stands is not None and stands.until is None and stands.unit_id == unit.id:
        run.begins(row.since, stands.since)
        return Outcome.UNCHANGED
    bindings.place_gateway(run.tx, run.actor, known.id, unit, row.since or run.now, now=run.now)
    return Outcome.CHANGED


def write_probe(run: Run, row: ProbeRow) -> Outcome:
    """Add a probe, or have it read by another gateway, move it to another zone, expect it at another interval.

    Without `equipment` it stays where it is bound.
    """
    gateway = run.gateway(row.gateway)
    zone = _zone_of(run, row)
    namespace = gateway.namespace
    known = run.tx.scalar(select(Probe).where(Probe.namespace == namespace, Probe.code == row.code.code))
    if known is None:
        since = row.since or run.since
        interval = row.interval or MINUTE
        known = registry.add_probe(
            run.tx, run.actor, row.code.code, gateway, interval=interval, since=since, now=run.now
        )
        if zone is not None:
            bindings.bind_probe(run.tx, run.actor, known.id, zone, since, now=run.now)
        return Outcome.ADDED
    changed = _paired(run, row, known.id, gateway) | _bound(run, row, known.id, zone)
    if row.interval is not None:
        changed |= registry.set_interval(run.tx, run.actor, known, row.interval, now=run.now)
    paired = intervals.newest(run.tx, ProbeGateway, known.id)
    bound = intervals.newest(run.tx, ProbeZone, known.id)
    run.begins(row.since, *(row.since for row in (paired, bound) if row is not None))
    return Outcome.of(changed=changed)


def write_window(run: Run, row: WindowRow) -> Outcome:
    """Begin a window, or end one that is open; 停用 takes effect at its `since`."""
    equipment = run.one_equipment(row.equipment)
    known = run.tx.scalar(
        select(MaintenanceWindow).where(
            MaintenanceWindow.equipment_id == equipment.id,
            MaintenanceWindow.kind == row.kind.value,
            MaintenanceWindow.since == row.since,
        )
    )
    if known is None:
        windows.begin_window(
            run.tx,
            run.actor,
            equipment.id,
            row.kind,
            since=row.since,
            until=row.until,
            reason=row.reason,
            now=run.now,
        )
        return Outcome.ADDED
    if row.until is None or row.until == known.until:
        return Outcome.UNCHANGED
    if known.until is not None:
        problem = f"it ended at {rfc3339(known.until)} already; leave `until` out"
        raise Invalid(field="until", value=rfc3339(row.until), problem=problem)
    windows.end_window(run.tx, run.actor, known, row.until, now=run.now)
    return Outcome.CHANGED


def _paired(run: Run, row: ProbeRow, probe: ProbeId, gateway: Gateway) -> bool:
    paired = intervals.newest(run.tx, ProbeGateway, probe)
    if paired is not None and paired.until is None and paired.gateway_id == gateway.id:
        return False
    bindings.pair_probe(run.tx, run.actor, probe, gateway.id, row.since or run.now, now=run.now)
    return True


def _bound(run: Run, row: ProbeRow, probe: ProbeId, zone: ZoneId | None) -> bool:
    at: Instant = row.since or run.now
    bound = intervals.newest(run.tx, ProbeZone, probe)
    is_open = bound is not None and bound.until is None
    if zone is None or (bound is not None and is_open and bound.zone_id == zone):
        return False
    bind = bindings.move_probe if is_open else bindings.bind_probe
    bind(run.tx, run.actor, probe, zone, at, now=run.now)
    return True


def _zone_of(run: Run, row: ProbeRow) -> ZoneId | None:
    kind = row.zone or row.code.zone
    if row.equipment is None:
        if row.zone is not None:
            raise Invalid(field="zone", value=row.zone.value, problem="say of which `equipment`")
        return None
    if row.zone is not None and row.code.zone not in {None, row.zone}:
        raise Invalid(
            field="zone", value=row.zone.value, problem=f"the label says {row.code.zone}; one of the two is wrong"
        )
    zones = _zones(run, run.one_equipment(row.equipment).id)
    there = ", ".join(zones) or "none"
    if kind is None and len(zones) != 1:
        raise Invalid(field="zone", value="", problem=f"{row.equipment} has the zones: {there}; say which")
    if kind is not None and kind not in zones:
        raise Invalid(field="zone", value=kind.value, problem=f"{row.equipment} has the zones: {there}")
    return zones[kind].id if kind is not None else next(iter(zones.values())).id


def _zones(run: Run, equipment: EquipmentId) -> dict[ZoneKind, Zone]:
    found = run.tx.scalars(select(Zone).where(Zone.equipment_id == equipment).order_by(Zone.id))
    return {ZoneKind(zone.kind): zone for zone in found}
