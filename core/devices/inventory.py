"""Inventory of devices: equipment, gateways and probes, where each is and came from, and its latest reading (CC-11).

A device belongs to the unit where it stands; one that was taken back belongs to the unit that keeps it. A probe stands
where the equipment stands that it measures; one that measures nothing stands with its gateway.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from enum import StrEnum
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Integer, Select, and_, case, func, literal, null, or_, select, tuple_, union_all
from sqlalchemy.orm import Session

from core.db.in_force import in_force
from core.db.in_values import in_values
from core.devices.kinds_and_labels import DeviceSource, DeviceState, ZoneKind
from core.devices.tables import (
    Equipment,
    EquipmentUnit,
    Gateway,
    GatewayUnit,
    Probe,
    ProbeGateway,
    ProbeZone,
    Series,
    Zone,
)
from core.ids import Centi, SeriesId, UnitId
from core.runtime.instant import Instant
from core.telemetry.port import StoredReading, Telemetry
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit


class DeviceType(StrEnum):
    """Type of a device in the inventory."""

    EQUIPMENT = "equipment"
    GATEWAY = "gateway"
    PROBE = "probe"


_TYPES = list(DeviceType)


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Device of the inventory. `equipment_name` and `zone` say what a probe measures; None for a free one."""

    type: DeviceType
    id: int
    code: str
    """Inventory number of equipment, number of a gateway, code of a probe."""
    name: str | None
    """Name of equipment."""
    equipment_name: str | None
    zone: ZoneKind | None
    unit: UnitId
    unit_name: str
    unit_code: str | None
    timezone: str
    state: DeviceState
    supplier: str | None
    source: DeviceSource | None
    installed_on: date | None
    warranty_end: date | None
    last_at: Instant | None
    """Time of the latest reading since the device is where it is; of equipment and gateways, of any of their probes."""
    last_value: Centi | None
    """Temperature of a probe's latest reading, 0.01 °C; None if it failed."""


class DeviceFilter(msgspec.Struct, frozen=True):
    """Filter of the inventory; None selects all."""

    type: DeviceType | None = None
    state: DeviceState | None = None
    warranty_ends_before: date | None = None
    scope: ColumnElement[bool] | None = None
    """SQL condition on `Unit`."""


Position = tuple[int, int, int]
"""Unit, type and id of the last device of a page."""


def position_of(device: Device) -> Position:
    """Return where a page ends whose last device this is."""
    return device.unit, _TYPES.index(device.type), device.id


def devices(
    tx: Session,
    telemetry: Telemetry,
    actor: Actor,
    wanted: DeviceFilter,
    *,
    now: Instant,
    after: Position | None = None,
    limit: int,
) -> list[Device]:
    """Return up to `limit` devices that the actor may see, by unit, type and id, after the last one of a page."""
    parts = [_equipment(actor, wanted, now), _gateways(actor, wanted, now), _probes(actor, wanted, now)]
    chosen = parts if wanted.type is None else [parts[_TYPES.index(wanted.type)]]
    every = union_all(*chosen).subquery()
    place = (every.c.unit, every.c.type, every.c.id)
    query = select(every).order_by(*place).limit(limit)
    if after is not None:
        query = query.where(tuple_(*place) > tuple_(*(literal(part, Integer) for part in after)))
    rows = tx.execute(query).all()
    readings = _latest(tx, telemetry, rows, now)
    return [_device(row, readings.get((row.type, row.id))) for row in rows]


def _equipment(actor: Actor, wanted: DeviceFilter, now: Instant) -> Select[Any]:
    stands = _where_it_is(Equipment, EquipmentUnit.unit_id)
    return (
        select(*_columns(DeviceType.EQUIPMENT, Equipment, Equipment.code), Equipment.name.label("name"))
        .add_columns(null().label("equipment_name"), null().label("zone"), EquipmentUnit.since.label("since"))
        .outerjoin(EquipmentUnit, and_(EquipmentUnit.equipment_id == Equipment.id, in_force(EquipmentUnit, now)))
        .join(Unit, Unit.id == stands)
        .where(actor.scope(Right.SEE, EquipmentUnit.equipment_id), *_wanted(Equipment, wanted))
    )


def _gateways(actor: Actor, wanted: DeviceFilter, now: Instant) -> Select[Any]:
    stands = _where_it_is(Gateway, GatewayUnit.unit_id)
    return (
        select(*_columns(DeviceType.GATEWAY, Gateway, Gateway.number), null().label("name"))
        .add_columns(null().label("equipment_name"), null().label("zone"), GatewayUnit.since.label("since"))
        .outerjoin(GatewayUnit, and_(GatewayUnit.gateway_id == Gateway.id, in_force(GatewayUnit, now)))
        .join(Unit, Unit.id == stands)
        .where(actor.scope(Right.SEE), *_wanted(Gateway, wanted))
    )


def _probes(actor: Actor, wanted: DeviceFilter, now: Instant) -> Select[Any]:
    stands = _where_it_is(Probe, func.coalesce(EquipmentUnit.unit_id, GatewayUnit.unit_id))
    arrived = case(
        (ProbeZone.id.is_not(None), _later(ProbeZone.since, EquipmentUnit.since)),
        else_=_later(ProbeGateway.since, GatewayUnit.since),
    )
    return (
        select(*_columns(DeviceType.PROBE, Probe, Probe.code), null().label("name"))
        .add_columns(Equipment.name.label("equipment_name"), Zone.kind.label("zone"), arrived.label("since"))
        .outerjoin(ProbeZone, and_(ProbeZone.probe_id == Probe.id, in_force(ProbeZone, now)))
        .outerjoin(Zone, Zone.id == ProbeZone.zone_id)
        .outerjoin(Equipment, Equipment.id == Zone.equipment_id)
        .outerjoin(EquipmentUnit, and_(EquipmentUnit.equipment_id == Equipment.id, in_force(EquipmentUnit, now)))
        .outerjoin(ProbeGateway, and_(ProbeGateway.probe_id == Probe.id, in_force(ProbeGateway, now)))
        .outerjoin(GatewayUnit, and_(GatewayUnit.gateway_id == ProbeGateway.gateway_id, in_force(GatewayUnit, now)))
        .join(Unit, Unit.id == stands)
        .where(actor.scope(Right.SEE, EquipmentUnit.equipment_id), *_wanted(Probe, wanted))
    )


Hardware = type[Equipment] | type[Gateway] | type[Probe]


def _columns(device_type: DeviceType, table: Hardware, code: Any) -> Sequence[ColumnElement[Any]]:  # noqa: ANN401
    return (
        literal(_TYPES.index(device_type), Integer).label("type"),
        table.id.label("id"),
        code.label("code"),
        Unit.id.label("unit"),
        Unit.name.label("unit_name"),
        Unit.code.label("unit_code"),
        Unit.timezone.label("timezone"),
        _state(table).label("state"),
        table.supplier.label("supplier"),
        table.source.label("source"),
        table.installed_on.label("installed_on"),
        table.warranty_end.label("warranty_end"),
    )


def _state(table: Hardware) -> ColumnElement[Any]:
    return func.coalesce(table.state, literal(DeviceState.IN_USE, table.__table__.c["state"].type))


def _where_it_is(table: Hardware, placed: Any) -> ColumnElement[Any]:  # noqa: ANN401 (a column of another table)
    return case((table.state == DeviceState.RETURNED, table.holder_id), else_=func.coalesce(placed, table.holder_id))


def _later(first: Any, second: Any) -> ColumnElement[Any]:  # noqa: ANN401 (columns)
    return case((second > first, second), else_=first)


def _wanted(table: Hardware, wanted: DeviceFilter) -> Iterable[ColumnElement[bool]]:
    if wanted.scope is not None:
        yield wanted.scope
    if wanted.state is not None:
        is_unset = table.state.is_(None) if wanted.state is DeviceState.IN_USE else literal(value=False)
        yield or_(table.state == wanted.state, is_unset)
    if wanted.warranty_ends_before is not None:
        yield table.warranty_end < wanted.warranty_ends_before


def _latest(
    tx: Session, telemetry: Telemetry, rows: Sequence[Any], now: Instant
) -> Mapping[tuple[int, int], StoredReading]:
    """Return the latest temperature reading by type and id of the device, none from before it came where it is."""
    since = {(row.type, row.id): row.since for row in rows}
    ids: dict[int, list[int]] = defaultdict(list)
    for device_type, device in since:
        ids[device_type].append(device)
    equipment, gateways, probes = (ids[_TYPES.index(each)] for each in DeviceType)
    series_of: dict[tuple[int, int], list[SeriesId]] = defaultdict(list)
    temperatures = select(Series.id).where(Series.quantity == "t")
    sources = (
        (
            0,
            equipment,
            Zone.equipment_id,
            temperatures.join(ProbeZone, ProbeZone.probe_id == Series.probe_id)
            .join(Zone, Zone.id == ProbeZone.zone_id)
            .where(in_force(ProbeZone, now)),
        ),
        (
            1,
            gateways,
            ProbeGateway.gateway_id,
            temperatures.join(ProbeGateway, ProbeGateway.probe_id == Series.probe_id).where(
                in_force(ProbeGateway, now)
            ),
        ),
        (2, probes, Series.probe_id, temperatures),
    )
    for device_type, wanted, column, query in sources:
        for series, device in tx.execute(query.add_columns(column).where(in_values(tx, column, wanted))):
            series_of[device_type, device].append(series)
    latest = telemetry.latest(sorted({series for each in series_of.values() for series in each})) if series_of else {}
    readings: dict[tuple[int, int], StoredReading] = {}
    for key, found in series_of.items():
        begins = since[key]
        own = [latest[series] for series in found if series in latest and begins is not None]
        if seen := [reading for reading in own if reading.at >= begins]:
            readings[key] = max(seen, key=lambda reading: reading.at)
    return readings


def _device(row: Any, reading: StoredReading | None) -> Device:  # noqa: ANN401 (a row of the union)
    device_type = _TYPES[row.type]
    return Device(
        type=device_type,
        id=row.id,
        code=row.code,
        name=row.name,
        equipment_name=row.equipment_name,
        zone=row.zone,
        unit=row.unit,
        unit_name=row.unit_name,
        unit_code=row.unit_code,
        timezone=row.timezone,
        state=row.state,
        supplier=row.supplier,
        source=row.source,
        installed_on=row.installed_on,
        warranty_end=row.warranty_end,
        last_at=reading.at if reading else None,
        last_value=reading.value if reading and device_type is DeviceType.PROBE else None,
    )


def by_unit(found: Sequence[Device]) -> list[tuple[str, list[Device]]]:
    """Return devices in their order, grouped by the name of their unit."""
    return [(name, list(group)) for (_, name), group in groupby(found, key=lambda each: (each.unit, each.unit_name))]
