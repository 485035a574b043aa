"""Bindings over time: probes to zones and gateways, gateways and equipment to units.

Every change takes effect at the instant `at`, is audited at `now`, and raises the device revision. A move ends one
binding and begins the next at the same instant, so there is no gap in which a reading would belong to nobody.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.devices import timeline_rows
from core.devices.messages import message
from core.devices.tables import Equipment, EquipmentUnit, Gateway, GatewayUnit, Probe, ProbeGateway, ProbeZone, Zone
from core.errors import Conflict, NotFound
from core.ids import EquipmentId, GatewayId, ProbeId, UnitId, ZoneId
from core.runtime.instant import Instant
from core.units import device_revision
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit


def bind_probe(tx: Session, actor: Actor, probe: ProbeId, zone: ZoneId, at: Instant, *, now: Instant) -> ProbeZone:
    """Bind a probe to a zone from `at` on.

    Raises: PermissionDenied, NotFound, Conflict while it is bound to another zone, BackDated.
    """
    device_revision.bump(tx)
    actor.require(Right.BIND, on=unit_of_zone(tx, zone, at), subject=("zone", zone))
    bound = timeline_rows.begin(tx, ProbeZone(probe_id=_probe(tx, probe), zone_id=zone, since=at))
    _audit(tx, actor, "probe bound", f"probe:{probe}", now, zone=zone, at=at)
    return bound


def unbind_probe(tx: Session, actor: Actor, probe: ProbeId, at: Instant, *, now: Instant) -> ProbeZone:
    """End a probe's binding at `at`: later readings belong to no equipment.

    Raises: PermissionDenied, Conflict when it is not bound, BackDated.
    """
    device_revision.bump(tx)
    ended = timeline_rows.open_row(tx, ProbeZone, probe)
    actor.require(Right.BIND, on=unit_of_zone(tx, ended.zone_id, at), subject=("probe", probe))
    timeline_rows.end(tx, ended, at)
    _audit(tx, actor, "probe unbound", f"probe:{probe}", now, zone=ended.zone_id, at=at)
    return ended


def move_probe(tx: Session, actor: Actor, probe: ProbeId, zone: ZoneId, at: Instant, *, now: Instant) -> ProbeZone:
    """End a probe's binding and begin one on `zone` at the same instant.

    Raises: PermissionDenied on either zone's unit, NotFound, Conflict when it is not bound or already bound to `zone`,
    BackDated.
    """
    device_revision.bump(tx)
    actor.require(Right.BIND, on=unit_of_zone(tx, zone, at), subject=("zone", zone))
    ended = timeline_rows.open_row(tx, ProbeZone, probe)
    if ended.zone_id == zone:
        msg = f"probe {probe} measures zone {zone} already"
        raise Conflict(msg)
    actor.require(Right.BIND, on=unit_of_zone(tx, ended.zone_id, at), subject=("probe", probe))
    timeline_rows.end(tx, ended, at)
    begun = timeline_rows.begin(tx, ProbeZone(probe_id=probe, zone_id=zone, since=at))
    _audit(tx, actor, "probe moved", f"probe:{probe}", now, from_zone=ended.zone_id, zone=zone, at=at)
    return begun


def pair_probe(
    tx: Session, actor: Actor, probe: ProbeId, gateway: GatewayId, at: Instant, *, now: Instant
) -> ProbeGateway:
    """Pair a probe with a gateway from `at` on, and end its pairing with any other gateway.

    Raises: PermissionDenied on either gateway's unit, NotFound, Conflict when it is already paired with it, BackDated.
    """
    device_revision.bump(tx)
    actor.require(Right.BIND, on=unit_of_gateway(tx, gateway, at), subject=("gateway", gateway))
    last = timeline_rows.newest(tx, ProbeGateway, _probe(tx, probe))
    if last is not None and last.until is None:
        if last.gateway_id == gateway:
            msg = f"probe {probe} is read by gateway {gateway} already"
            raise Conflict(msg)
        actor.require(Right.BIND, on=unit_of_gateway(tx, last.gateway_id, at), subject=("probe", probe))
        timeline_rows.end(tx, last, at)
    begun = timeline_rows.begin(tx, ProbeGateway(probe_id=probe, gateway_id=gateway, since=at))
    _audit(tx, actor, "probe paired", f"probe:{probe}", now, gateway=gateway, at=at)
    return begun


def unpair_probe(tx: Session, actor: Actor, probe: ProbeId, at: Instant, *, now: Instant) -> ProbeGateway:
    """End a probe's pairing with its gateway at `at`.

    Raises: PermissionDenied, Conflict when it is not paired, BackDated.
    """
    device_revision.bump(tx)
    ended = timeline_rows.open_row(tx, ProbeGateway, probe)
    actor.require(Right.BIND, on=unit_of_gateway(tx, ended.gateway_id, at), subject=("probe", probe))
    timeline_rows.end(tx, ended, at)
    _audit(tx, actor, "probe unpaired", f"probe:{probe}", now, gateway=ended.gateway_id, at=at)
    return ended


def place_gateway(
    tx: Session, actor: Actor, gateway: GatewayId, unit: Unit, at: Instant, *, now: Instant
) -> GatewayUnit:
    """Place a gateway in a unit from `at` on, and end its previous placement.

    Raises: PermissionDenied on either unit, NotFound, Conflict when it already stands there, BackDated.
    """
    device_revision.bump(tx)
    actor.require(Right.BIND, on=unit)
    if tx.get(Gateway, gateway) is None:
        raise NotFound(what="gateway", name=gateway)
    last = timeline_rows.newest(tx, GatewayUnit, gateway)
    if last is not None and last.until is None:
        _leave(tx, actor, Right.BIND, last.unit_id, unit, ("gateway", gateway))
        timeline_rows.end(tx, last, at)
    begun = timeline_rows.begin(tx, GatewayUnit(gateway_id=gateway, unit_id=unit.id, since=at))
    _audit(tx, actor, "gateway placed", f"gateway:{gateway}", now, unit=unit.id, at=at)
    return begun


def place_equipment(
    tx: Session, actor: Actor, equipment: EquipmentId, unit: Unit, at: Instant, *, now: Instant
) -> EquipmentUnit:
    """Place an equipment in a unit from `at` on. Earlier readings stay with the unit where it stood at that time.

    Raises: PermissionDenied on either unit, NotFound, Conflict when it already stands there, BackDated.
    """
    device_revision.bump(tx)
    actor.require(Right.EQUIP, on=unit)
    if tx.get(Equipment, equipment) is None:
        raise NotFound(what="equipment", name=equipment)
    last = timeline_rows.newest(tx, EquipmentUnit, equipment)
    if last is not None and last.until is None:
        _leave(tx, actor, Right.EQUIP, last.unit_id, unit, ("equipment", equipment))
        timeline_rows.end(tx, last, at)
    begun = timeline_rows.begin(tx, EquipmentUnit(equipment_id=equipment, unit_id=unit.id, since=at))
    _audit(tx, actor, "equipment placed", f"equipment:{equipment}", now, unit=unit.id, at=at)
    return begun


def unit_of_zone(tx: Session, zone: ZoneId, at: Instant) -> Unit:
    """Return the unit in which a zone's equipment stood at an instant.

    Raises: NotFound, Conflict when it stood in none.
    """
    row = tx.get(Zone, zone)
    if row is None:
        raise NotFound(what="zone", name=zone)
    return unit_of_equipment(tx, row.equipment_id, at)


def unit_of_equipment(tx: Session, equipment: EquipmentId, at: Instant) -> Unit:
    """Return the unit in which an equipment stood at an instant.

    Raises: Conflict when it stood in none.
    """
    row = timeline_rows.row_in_force(tx, EquipmentUnit, equipment, at)
    if row is None:
        raise Conflict(message("equipment_nowhere", equipment=equipment))
    return tx.get_one(Unit, row.unit_id)


def unit_of_gateway(tx: Session, gateway: GatewayId, at: Instant) -> Unit:
    """Return the unit in which a gateway stood at an instant.

    Raises: NotFound, Conflict when it stood in none.
    """
    row = timeline_rows.row_in_force(tx, GatewayUnit, gateway, at)
    if row is not None:
        return tx.get_one(Unit, row.unit_id)
    if tx.get(Gateway, gateway) is None:
        raise NotFound(what="gateway", name=gateway)
    raise Conflict(message("gateway_nowhere", gateway=gateway))


def _leave(tx: Session, actor: Actor, right: Right, old: UnitId, unit: Unit, subject: tuple[str, object]) -> None:
    if old == unit.id:
        msg = f"it is in {unit.name} already"
        raise Conflict(msg)
    actor.require(right, on=tx.get_one(Unit, old), subject=subject)


def _probe(tx: Session, probe: ProbeId) -> ProbeId:
    if tx.scalar(select(Probe.id).where(Probe.id == probe)) is None:
        raise NotFound(what="probe", name=probe)
    return probe


def _audit(tx: Session, actor: Actor, act: str, subject: str, now: Instant, **detail: int) -> None:
    audit.record(tx, at=now, actor=actor.name, act=act, subject=subject, detail=detail)
