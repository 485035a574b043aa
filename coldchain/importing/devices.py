"""Equipment, zones, gateways, probes and windows of an import file: added, changed, moved, or left as they are.

The records are read for some hundred rows at once, so an unchanged row takes no statement, and new rows are entered
together.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Generic, NamedTuple

from coldchain.importing.columns import EquipmentRow, GatewayRow, HardwareRow, ProbeRow, WindowRow, ZoneRow
from coldchain.importing.import_run import ImportRun, RowOutcome
from coldchain.importing.mistakes import FieldProblem, message
from core.devices import bindings, maintenance_windows, registry
from core.devices.bulk_entry import (
    NewEquipment,
    NewGateway,
    NewInUnit,
    NewProbe,
    enter_equipment,
    enter_gateways,
    enter_probes,
    probes_known,
)
from core.devices.hardware_origin import UNKNOWN, HardwareOrigin, HardwareT, completed, origin_of, set_origins
from core.devices.kinds_and_labels import WindowKind
from core.devices.queries import (
    ZonesByKind,
    last_gateways_of_probes,
    last_units_of_equipment,
    last_units_of_gateways,
    last_zones_of_probes,
    windows_of,
    zones_of,
)
from core.devices.tables import (
    Equipment,
    EquipmentUnit,
    Gateway,
    GatewayUnit,
    MaintenanceWindow,
    Probe,
    ProbeGateway,
    ProbeZone,
)
from core.errors import DomainError
from core.ids import EquipmentId, ZoneId
from core.limits import zone_limits
from core.limits.zone_limits import ZoneLimits
from core.runtime.instant import MINUTE, Instant, rfc3339


class _OriginChanges(Generic[HardwareT]):
    """Origins of known devices that rows of a chunk change; written together at its end."""

    def __init__(self, run: ImportRun) -> None:
        self._run = run
        self._rows: list[HardwareRow] = []
        self._changes: list[tuple[HardwareT, HardwareOrigin]] = []

    def add(self, row: HardwareRow, hardware: HardwareT) -> bool:
        """Return whether a row changes the origin of a device.

        Raises: Invalid.
        """
        before = origin_of(hardware)
        if row.origin == UNKNOWN or completed(row.origin, before) == before:
            return False
        self._rows.append(row)
        self._changes.append((hardware, row.origin))
        return True

    def write(self) -> None:
        """Set the origins, or note why one can't be set."""
        results = set_origins(self._run.tx, self._run.actor, self._changes, now=self._run.now)
        for row, result in zip(self._rows, results, strict=True):
            if isinstance(result, DomainError):
                self._run.refuse(row, result)


def write_equipment(run: ImportRun, rows: Sequence[EquipmentRow]) -> None:
    """Add equipment with their zones; or rename one, give it further zones, and place it in another unit."""
    for chunk in run.chunks(rows):
        ids = {run.equipment[row.code].id for row in chunk if row.code in run.equipment}
        zones, places = zones_of(run.tx, ids), last_units_of_equipment(run.tx, ids)
        origins: _OriginChanges[Equipment] = _OriginChanges(run)
        run.settle(
            chunk,
            partial(_decide_equipment, run, zones, places, origins),
            partial(enter_equipment, run.tx, run.actor, now=run.now),
            run.keep_equipment,
        )
        origins.write()


def _decide_equipment(
    run: ImportRun,
    zones: ZonesByKind,
    places: dict[int, EquipmentUnit],
    origins: _OriginChanges[Equipment],
    row: EquipmentRow,
) -> RowOutcome | NewInUnit:
    unit = run.unit(row.unit)
    known = run.equipment.get(row.code)
    if known is None:
        new = NewEquipment(row.code, row.name, row.kind, row.zones, row.origin)
        return NewInUnit(new, unit, row.since or run.since)
    stands = places.get(known.id)
    is_unchanged = stands is not None and stands.until is None and stands.unit_id == unit.id
    changed = (known.name, known.kind) != (row.name, row.kind)
    if changed:
        registry.rename_equipment(run.tx, run.actor, known, row.name, row.kind, now=run.now)
    for kind in row.zones:
        if kind not in zones[known.id]:
            zones[known.id][kind] = registry.add_zone(run.tx, run.actor, known.id, kind, now=run.now)
            changed = True
    if stands is not None and is_unchanged:
        run.begins(row.since, stands.since)
        return RowOutcome.of(changed=origins.add(row, known) or changed)
    bindings.place_equipment(run.tx, run.actor, known.id, unit, row.since or run.now, now=run.now)
    origins.add(row, known)
    return RowOutcome.CHANGED


def write_zones(run: ImportRun, rows: Sequence[ZoneRow]) -> None:
    """Set the limits of zones; an equipment gets the zone if it has none of this kind."""
    for chunk in run.chunks(rows):
        zones = zones_of(run.tx, _named(run, chunk))
        for row in chunk:
            outcome = run.attempt(row, partial(_write_zone, run, zones, row))
            if outcome is not None:
                run.count("zone", outcome)


def _write_zone(run: ImportRun, zones: ZonesByKind, row: ZoneRow) -> RowOutcome:
    equipment = run.one_equipment(row.equipment)
    zone = zones[equipment.id].get(row.kind)
    added = zone is None
    if zone is None:
        zone = registry.add_zone(run.tx, run.actor, equipment.id, row.kind, now=run.now)
        zones[equipment.id][row.kind] = zone
    limits = ZoneLimits(profile=row.profile, low=row.low, high=row.high, delay=row.delay, hysteresis=row.hysteresis)
    changed = zone_limits.limits_of(zone) != limits
    if changed or added:
        zone_limits.set_limits(run.tx, run.actor, zone, limits, now=run.now)
    return RowOutcome.ADDED if added else RowOutcome.of(changed=changed)


def write_gateways(run: ImportRun, rows: Sequence[GatewayRow]) -> None:
    """Add gateways, or place one in another unit."""
    for chunk in run.chunks(rows):
        ids = {run.gateways[row.number].id for row in chunk if row.number in run.gateways}
        places = last_units_of_gateways(run.tx, ids)
        origins: _OriginChanges[Gateway] = _OriginChanges(run)
        run.settle(
            chunk,
            partial(_decide_gateway, run, places, origins),
            partial(enter_gateways, run.tx, run.actor, now=run.now),
            run.keep_gateway,
        )
        origins.write()


def _decide_gateway(
    run: ImportRun, places: dict[int, GatewayUnit], origins: _OriginChanges[Gateway], row: GatewayRow
) -> RowOutcome | NewGateway:
    if row.number in run.services:
        raise FieldProblem(field="number", value=row.number, problem=message("service_number"))
    unit = run.unit(row.unit)
    known = run.gateways.get(row.number)
    if known is None:
        return NewGateway(row.number, unit, row.since or run.since, origin=row.origin)
    stands = places.get(known.id)
    if stands is not None and stands.until is None and stands.unit_id == unit.id:
        run.begins(row.since, stands.since)
        return RowOutcome.of(changed=origins.add(row, known))
    bindings.place_gateway(run.tx, run.actor, known.id, unit, row.since or run.now, now=run.now)
    origins.add(row, known)
    return RowOutcome.CHANGED


class _KnownProbes(NamedTuple):
    probes: dict[tuple[str, str], Probe]
    paired: dict[int, ProbeGateway]
    bound: dict[int, ProbeZone]
    zones: ZonesByKind


def write_probes(run: ImportRun, rows: Sequence[ProbeRow]) -> None:
    """Add probes, or pair one with another gateway, move it to another zone, or change its interval.

    Without `equipment` a probe stays where it is bound.
    """
    for chunk in run.chunks(rows):
        namespaces = {run.gateways[row.gateway].namespace for row in chunk if row.gateway in run.gateways}
        probes = probes_known(run.tx, namespaces, [row.code.code for row in chunk])
        ids = {probe.id for probe in probes.values()}
        known = _KnownProbes(
            probes,
            last_gateways_of_probes(run.tx, ids),
            last_zones_of_probes(run.tx, ids),
            zones_of(run.tx, _named(run, chunk)),
        )
        origins: _OriginChanges[Probe] = _OriginChanges(run)
        run.settle(
            chunk,
            partial(_decide_probe, run, known, origins),
            partial(enter_probes, run.tx, run.actor, now=run.now),
            lambda _row, _probe: None,
        )
        origins.write()


def _decide_probe(
    run: ImportRun, known: _KnownProbes, origins: _OriginChanges[Probe], row: ProbeRow
) -> RowOutcome | NewProbe:
    gateway = run.gateway(row.gateway)
    zone = _zone_of(run, row, known.zones)
    probe = known.probes.get((gateway.namespace, row.code.code))
    if probe is None:
        return NewProbe(row.code.code, gateway, row.since or run.since, row.interval or MINUTE, zone, row.origin)
    paired, bound = known.paired.get(probe.id), known.bound.get(probe.id)
    changed = _pair(run, row, probe, gateway, paired) | _bind(run, row, probe, zone, bound)
    if row.interval is not None and row.interval != probe.interval:
        changed |= registry.set_interval(run.tx, run.actor, probe, row.interval, now=run.now)
    if changed:
        paired = last_gateways_of_probes(run.tx, [probe.id]).get(probe.id)
        bound = last_zones_of_probes(run.tx, [probe.id]).get(probe.id)
    run.begins(row.since, *(row.since for row in (paired, bound) if row is not None))
    return RowOutcome.of(changed=origins.add(row, probe) or changed)


def _pair(run: ImportRun, row: ProbeRow, probe: Probe, gateway: Gateway, paired: ProbeGateway | None) -> bool:
    if paired is not None and paired.until is None and paired.gateway_id == gateway.id:
        return False
    bindings.pair_probe(run.tx, run.actor, probe.id, gateway.id, row.since or run.now, now=run.now)
    return True


def _bind(run: ImportRun, row: ProbeRow, probe: Probe, zone: ZoneId | None, bound: ProbeZone | None) -> bool:
    at: Instant = row.since or run.now
    is_open = bound is not None and bound.until is None
    if zone is None or (bound is not None and is_open and bound.zone_id == zone):
        return False
    bind = bindings.move_probe if is_open else bindings.bind_probe
    bind(run.tx, run.actor, probe.id, zone, at, now=run.now)
    return True


def _zone_of(run: ImportRun, row: ProbeRow, zones: ZonesByKind) -> ZoneId | None:
    kind = row.zone or row.code.zone
    if row.equipment is None:
        if row.zone is not None:
            raise FieldProblem(field="zone", value=row.zone.value, problem=message("zone_without_equipment"))
        return None
    if row.zone is not None and row.code.zone not in {None, row.zone}:
        raise FieldProblem(field="zone", value=row.zone.value, problem=message("label_says", zone=row.code.zone))
    there = zones[run.one_equipment(row.equipment).id]
    shown = {"equipment": row.equipment, "zones": ", ".join(there) or "–"}
    if kind is None and len(there) != 1:
        raise FieldProblem(field="zone", value="", problem=message("which_zone", **shown))
    if kind is not None and kind not in there:
        raise FieldProblem(field="zone", value=kind.value, problem=message("zones_are", **shown))
    return there[kind].id if kind is not None else next(iter(there.values())).id


def write_windows(run: ImportRun, rows: Sequence[WindowRow]) -> None:
    """Begin windows, or end an open one; 停用 takes effect at its `since`."""
    for chunk in run.chunks(rows):
        windows = windows_of(run.tx, _named(run, chunk))
        known = {(window.equipment_id, window.kind, window.since): window for window in windows}
        for row in chunk:
            outcome = run.attempt(row, partial(_write_window, run, known, row))
            if outcome is not None:
                run.count("window", outcome)


def _write_window(
    run: ImportRun, windows_there: dict[tuple[EquipmentId, WindowKind, Instant], MaintenanceWindow], row: WindowRow
) -> RowOutcome:
    equipment = run.one_equipment(row.equipment)
    known = windows_there.get((equipment.id, row.kind, row.since))
    if known is None:
        maintenance_windows.begin_window(
            run.tx,
            run.actor,
            equipment.id,
            row.kind,
            since=row.since,
            until=row.until,
            reason=row.reason,
            now=run.now,
        )
        return RowOutcome.ADDED
    if row.until is None or row.until == known.until:
        return RowOutcome.UNCHANGED
    if known.until is not None:
        raise FieldProblem(
            field="until", value=rfc3339(row.until), problem=message("ended", until=rfc3339(known.until))
        )
    maintenance_windows.end_window(run.tx, run.actor, known, row.until, now=run.now)
    return RowOutcome.CHANGED


def _named(run: ImportRun, rows: Iterable[ZoneRow | ProbeRow | WindowRow]) -> set[EquipmentId]:
    """Return the equipment that rows name and the records or the file have."""
    return {run.equipment[row.equipment].id for row in rows if row.equipment in run.equipment}
