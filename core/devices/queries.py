"""Device queries by unit: the equipment that an actor may see, and the gateways of the units in a scope."""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, false, or_, select
from sqlalchemy.orm import Session

from core.db.in_force import in_force
from core.devices.tables import Equipment, EquipmentUnit, Gateway, GatewayUnit
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.queries import in_subtree
from core.units.rights import Right
from core.units.tables import Unit


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
