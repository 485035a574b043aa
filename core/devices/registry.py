"""Device registry: adding and changing equipment, zones with their limits, gateways and probes."""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.devices import timeline_rows
from core.devices.bindings import unit_of_equipment, unit_of_gateway
from core.devices.bulk_entry import (
    NAMESPACE,
    NewEquipment,
    NewGateway,
    NewInUnit,
    NewProbe,
    check_interval,
    enter_equipment,
    enter_gateways,
    enter_probes,
)
from core.devices.kinds_and_labels import EquipmentKind, ZoneKind
from core.devices.tables import (
    Equipment,
    Gateway,
    IntervalVersion,
    Probe,
    ProbeGateway,
    Zone,
)
from core.errors import Conflict, DomainError, Invalid
from core.ids import EquipmentId
from core.plain_text import require_plain
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.units import device_revision
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit

Made = TypeVar("Made")


def add_equipment(
    tx: Session, actor: Actor, new: NewEquipment, unit: Unit, *, since: Instant, now: Instant
) -> Equipment:
    """Add an equipment with its zones, placed in a unit since an instant.

    Raises: PermissionDenied, Conflict when its code is taken, Invalid.
    """
    return _single(enter_equipment(tx, actor, [NewInUnit(new, unit, since)], now=now))


def rename_equipment(
    tx: Session, actor: Actor, equipment: Equipment, name: str, kind: EquipmentKind, *, now: Instant
) -> bool:
    """Change the name and kind of an equipment; return whether anything changed.

    Raises: PermissionDenied, Invalid.
    """
    actor.require(Right.EQUIP, on=unit_of_equipment(tx, equipment.id, now), subject=("equipment", equipment.id))
    require_plain("name", name)
    if not name.strip():
        raise Invalid(field="name", value=name, problem="an equipment needs a name")
    if (equipment.name, equipment.kind) == (name, kind):
        return False
    device_revision.bump(tx)
    detail = {"before": [equipment.name, equipment.kind], "after": [name, kind]}
    equipment.name, equipment.kind = name, kind
    subject = f"equipment:{equipment.id}"
    audit.record(tx, at=now, actor=actor.name, act="equipment renamed", subject=subject, detail=detail)
    return True


def add_zone(tx: Session, actor: Actor, equipment: EquipmentId, kind: ZoneKind, *, now: Instant) -> Zone:
    """Add a zone to an equipment.

    Raises: PermissionDenied, Conflict when it has one of this kind.
    """
    actor.require(Right.EQUIP, on=unit_of_equipment(tx, equipment, now), subject=("equipment", equipment))
    device_revision.bump(tx)
    if tx.scalar(select(Zone.id).where(Zone.equipment_id == equipment, Zone.kind == kind)) is not None:
        msg = f"equipment {equipment} has a zone {kind.value} already"
        raise Conflict(msg)
    zone = Zone(equipment_id=equipment, kind=kind)
    tx.add(zone)
    tx.flush()
    audit.record(tx, at=now, actor=actor.name, act="zone added", subject=f"zone:{zone.id}")
    return zone


def add_gateway(
    tx: Session, actor: Actor, number: str, unit: Unit, *, since: Instant, now: Instant, namespace: str = NAMESPACE
) -> Gateway:
    """Add a gateway, placed in a unit since an instant.

    Raises: PermissionDenied, Conflict when the number is taken, Invalid.
    """
    return _single(enter_gateways(tx, actor, [NewGateway(number, unit, since, namespace)], now=now))


def add_probe(
    tx: Session,
    actor: Actor,
    code: str,
    gateway: Gateway,
    *,
    interval: Milliseconds = MINUTE,
    since: Instant,
    now: Instant,
) -> Probe:
    """Add a probe that a gateway reads since an instant, with its temperature series.

    Raises: PermissionDenied, Conflict when the code is taken in the gateway's namespace, Invalid.
    """
    return _single(enter_probes(tx, actor, [NewProbe(code, gateway, since, interval)], now=now))


def set_interval(tx: Session, actor: Actor, probe: Probe, interval: Milliseconds, *, now: Instant) -> bool:
    """Set the expected reading interval of a probe; return whether it changed. It decides when a probe is offline.

    Raises: PermissionDenied, Conflict while no gateway reads it, Invalid.
    """
    paired = timeline_rows.open_row(tx, ProbeGateway, probe.id)
    actor.require(Right.BIND, on=unit_of_gateway(tx, paired.gateway_id, now), subject=("probe", probe.id))
    check_interval(interval)
    if probe.interval == interval:
        return False
    device_revision.bump(tx)
    detail = {"before": probe.interval, "after": interval}
    if tx.scalar(select(IntervalVersion.id).where(IntervalVersion.probe_id == probe.id).limit(1)) is None:
        tx.add(IntervalVersion(probe_id=probe.id, since=Instant(0), interval=probe.interval))
        tx.flush()
    tx.add(IntervalVersion(probe_id=probe.id, since=now, interval=interval))
    probe.interval = interval
    audit.record(tx, at=now, actor=actor.name, act="interval set", subject=f"probe:{probe.id}", detail=detail)
    return True


def _single(results: Sequence[Made | DomainError]) -> Made:
    (result,) = results
    if isinstance(result, DomainError):
        raise result
    return result
