"""Device queries: devices by code, where each is placed, what an actor may see, and the gateways of a scope."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import ColumnElement, false, or_, select
from sqlalchemy.orm import Session

from core.db.in_force import in_force
from core.db.in_values import in_values
from core.devices.kinds_and_labels import ZoneKind
from core.devices.tables import (
    Equipment,
    EquipmentUnit,
    Gateway,
    GatewayUnit,
    MaintenanceWindow,
    ProbeGateway,
    ProbeZone,
    Series,
    Zone,
)
from core.devices.timeline_rows import TimelineRow, rows_of
from core.ids import EquipmentId, SeriesId, UnitId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.queries import in_subtree
from core.units.rights import Right
from core.units.tables import Unit

ZonesByKind = dict[EquipmentId, dict[ZoneKind, Zone]]


def visible_equipment(actor: Actor) -> ColumnElement[bool]:
    """Return the SQL condition on `Unit` and `EquipmentUnit` that selects the equipment that the actor may see."""
    return actor.scope(Right.SEE, EquipmentUnit.equipment_id)


def equipment_below(unit: Unit | None, *, or_own_of: Actor | None = None) -> ColumnElement[bool]:
    """Return the SQL condition on `Unit` and `EquipmentUnit` that selects the equipment of a unit and all below it.

    With an actor it also selects their own single equipment, wherever that stands.
    """
    below = false() if unit is None else in_subtree(unit)
    if or_own_of is None:
        return below
    return or_(below, or_own_of.equipment_scope(Right.SEE, EquipmentUnit.equipment_id))


def own_equipment(tx: Session, actor: Actor) -> list[tuple[Equipment, Unit, frozenset[Right]]]:
    """Return the actor's single equipment with the unit where it stands and the rights held on it."""
    rights = {holding.equipment: holding.rights for holding in actor.equipment}
    query = (
        select(Equipment, Unit)
        .join(EquipmentUnit, EquipmentUnit.equipment_id == Equipment.id)
        .join(Unit, Unit.id == EquipmentUnit.unit_id)
        .where(actor.equipment_scope(Right.SEE, EquipmentUnit.equipment_id), EquipmentUnit.until.is_(None))
        .order_by(Equipment.id)
    )
    return [(equipment, unit, rights[equipment.id]) for equipment, unit in tx.execute(query)]


def gateways_in(tx: Session, scope: ColumnElement[bool], now: Instant) -> Mapping[str, Instant]:
    """Return the numbers of the gateways that now stand in units selected by `scope`, with since when each does."""
    query = (
        select(Gateway.number, GatewayUnit.since)
        .join(GatewayUnit, GatewayUnit.gateway_id == Gateway.id)
        .join(Unit, Unit.id == GatewayUnit.unit_id)
        .where(scope, in_force(GatewayUnit, now))
    )
    return {row.number: row.since for row in tx.execute(query)}


def equipment_with_codes(tx: Session, codes: Collection[str]) -> dict[str, Equipment]:
    """Return the equipment with these codes; a code that none has is left out."""
    query = select(Equipment).where(in_values(tx, Equipment.code, codes))
    return {equipment.code: equipment for equipment in tx.scalars(query)}


def gateways_with_numbers(tx: Session, numbers: Collection[str]) -> dict[str, Gateway]:
    """Return the gateways with these numbers; a number that none has is left out."""
    query = select(Gateway).where(in_values(tx, Gateway.number, numbers))
    return {gateway.number: gateway for gateway in tx.scalars(query)}


def zones_of(tx: Session, equipment: Collection[EquipmentId]) -> ZonesByKind:
    """Return the zones of equipment by their kinds; equipment without zones gets an empty entry when asked for."""
    zones: ZonesByKind = defaultdict(dict)
    for zone in tx.scalars(select(Zone).where(in_values(tx, Zone.equipment_id, equipment)).order_by(Zone.id)):
        zones[zone.equipment_id][zone.kind] = zone
    return zones


def windows_of(tx: Session, equipment: Collection[EquipmentId]) -> Sequence[MaintenanceWindow]:
    """Return all maintenance windows of equipment."""
    return tx.scalars(select(MaintenanceWindow).where(in_values(tx, MaintenanceWindow.equipment_id, equipment))).all()


def last_units_of_equipment(tx: Session, equipment: Collection[int]) -> dict[int, EquipmentUnit]:
    """Return where each equipment was placed last; the row may have ended."""
    return _last_rows(tx, EquipmentUnit, equipment)


def last_units_of_gateways(tx: Session, gateways: Collection[int]) -> dict[int, GatewayUnit]:
    """Return where each gateway was placed last; the row may have ended."""
    return _last_rows(tx, GatewayUnit, gateways)


def last_gateways_of_probes(tx: Session, probes: Collection[int]) -> dict[int, ProbeGateway]:
    """Return with which gateway each probe was paired last; the row may have ended."""
    return _last_rows(tx, ProbeGateway, probes)


def last_zones_of_probes(tx: Session, probes: Collection[int]) -> dict[int, ProbeZone]:
    """Return to which zone each probe was bound last; the row may have ended."""
    return _last_rows(tx, ProbeZone, probes)


def _last_rows(tx: Session, table: type[TimelineRow], subjects: Collection[int]) -> dict[int, TimelineRow]:
    return {subject: rows[-1] for subject, rows in rows_of(tx, table, subjects).items()}


def units_of_equipment(tx: Session, equipment: Collection[EquipmentId], at: Instant) -> dict[EquipmentId, UnitId]:
    """Return the unit where each equipment stands at an instant; equipment that stands nowhere is left out."""
    query = select(EquipmentUnit.equipment_id, EquipmentUnit.unit_id).where(
        in_values(tx, EquipmentUnit.equipment_id, equipment), in_force(EquipmentUnit, at)
    )
    return {row.equipment_id: row.unit_id for row in tx.execute(query)}


def all_series(tx: Session) -> Sequence[SeriesId]:
    """Return the numbers of all series."""
    return tx.scalars(select(Series.id)).all()
