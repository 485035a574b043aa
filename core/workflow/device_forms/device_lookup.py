"""Look-up of devices by what forms call them: zones by 名称+温区, probes by code, gateways by number.

A whole name goes before a name with a zone behind it: 医用冷藏柜 and 海尔冷冻 are names of equipment. Spaces are
ignored. What stands in another unit isn't named.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.in_force import in_force
from core.devices import timeline_rows
from core.devices.bindings import unit_of_gateway, unit_of_zone
from core.devices.kinds_and_labels import ZoneKind, parse_probe, zone_name
from core.devices.tables import Equipment, EquipmentUnit, Gateway, GatewayUnit, Probe, ProbeGateway, ProbeZone, Zone
from core.errors import Conflict, Invalid
from core.ids import EquipmentId, GatewayId, ProbeId, UnitId, ZoneId
from core.runtime.instant import Instant
from core.workflow.kinds import FormContext
from core.workflow.messages import message


class NamedZone(msgspec.Struct, frozen=True):
    """Zone of an equipment that stands in a unit."""

    zone: ZoneId
    kind: ZoneKind
    equipment: EquipmentId
    equipment_name: str


def compact(name: str) -> str:
    """Return a name without spaces."""
    return "".join(name.split())


def zones_in(tx: Session, unit: UnitId, at: Instant) -> Sequence[NamedZone]:
    """Return the zones of all equipment that stands in a unit."""
    query = (
        select(Zone.id, Zone.kind, Equipment.id, Equipment.name)
        .join(Equipment, Equipment.id == Zone.equipment_id)
        .join(EquipmentUnit, EquipmentUnit.equipment_id == Equipment.id)
        .where(EquipmentUnit.unit_id == unit, in_force(EquipmentUnit, at))
        .order_by(Zone.id)
    )
    return [NamedZone(*row) for row in tx.execute(query)]


def find_zones(context: FormContext, written: str) -> list[NamedZone]:
    """Return the zones that a written name may mean: of the equipment with this whole name, else by 名称+温区."""
    name = compact(written)
    zones = zones_in(context.tx, context.unit.id, context.now)
    whole = [zone for zone in zones if compact(zone.equipment_name) == name]
    return whole or [zone for zone in zones if compact(zone_name(zone.equipment_name, zone.kind)) == name]


def zone_called(context: FormContext, column: str, written: str) -> ZoneId:
    """Return the one zone of the unit that a written name means.

    Raises: Invalid.
    """
    found = find_zones(context, written)
    if len(found) != 1:
        problem = message("ambiguous_fridge" if found else "unknown_fridge", name=written)
        raise Invalid(field=column, value=written, problem=problem)
    return found[0].zone


def equipment_called(context: FormContext, column: str, written: str) -> EquipmentId:
    """Return the one equipment of the unit that a written name means.

    Raises: Invalid.
    """
    found = {zone.equipment for zone in find_zones(context, written)}
    if len(found) != 1:
        problem = message("ambiguous_fridge" if found else "unknown_fridge", name=written)
        raise Invalid(field=column, value=written, problem=problem)
    return found.pop()


def probe_called(context: FormContext, column: str, written: str) -> ProbeId:
    """Return the probe with a written code, with or without a zone behind it.

    Raises: Invalid, also for a probe of another unit.
    """
    probe = known_probe(context, column, written)
    if probe is None:
        raise Invalid(field=column, value=written, problem=message("unknown_probe", code=written))
    return probe


def known_probe(context: FormContext, column: str, written: str) -> ProbeId | None:
    """Return the probe with a written code; None if there is none.

    Raises: Invalid for a probe of another unit, or when several could be meant.
    """
    code = parse_probe(written).code
    probes = context.tx.scalars(select(Probe.id).where(Probe.code == code).order_by(Probe.id)).all()
    here = [probe for probe in probes if unit_of_probe(context.tx, probe, context.now) in (context.unit.id, None)]
    if probes and not here:
        raise Invalid(field=column, value=written, problem=message("probe_elsewhere", code=code))
    if len(here) > 1:
        raise Invalid(field=column, value=written, problem=message("ambiguous_probe", code=code))
    return here[0] if here else None


def unit_of_probe(tx: Session, probe: ProbeId, at: Instant) -> UnitId | None:
    """Return the unit where a probe is used: that of its zone, else of its gateway; None for a free one."""
    try:
        if (zone := zone_of_probe(tx, probe, at)) is not None:
            return unit_of_zone(tx, zone, at).id
        pairing = timeline_rows.row_in_force(tx, ProbeGateway, probe, at)
        return None if pairing is None else unit_of_gateway(tx, pairing.gateway_id, at).id
    except Conflict:
        return None


def zone_of_probe(tx: Session, probe: ProbeId, at: Instant) -> ZoneId | None:
    """Return the zone that a probe measures."""
    bound = timeline_rows.row_in_force(tx, ProbeZone, probe, at)
    return None if bound is None else bound.zone_id


def gateway_numbered(tx: Session, number: str) -> GatewayId | None:
    """Return the gateway with a number; None if there is none."""
    return tx.scalar(select(Gateway.id).where(Gateway.number == number))


def unit_of_gateway_numbered(tx: Session, number: str, at: Instant) -> UnitId | None:
    """Return the unit where the gateway with a number stands; None for an unknown one, or one that stands nowhere."""
    query = (
        select(GatewayUnit.unit_id)
        .join(Gateway, Gateway.id == GatewayUnit.gateway_id)
        .where(Gateway.number == number, in_force(GatewayUnit, at))
    )
    return tx.scalar(query)
