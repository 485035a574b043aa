"""Device registry: adding and changing equipment, zones with their limits, gateways and probes."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms import profile
from core.db import audit
from core.devices import intervals, revision
from core.devices.bindings import unit_of_equipment, unit_of_gateway
from core.devices.entering import (
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
from core.devices.messages import message
from core.devices.names import EquipmentKind, ZoneKind
from core.devices.tables import (
    Equipment,
    Gateway,
    IntervalVersion,
    LimitsVersion,
    Probe,
    ProbeGateway,
    ProbeZone,
    Zone,
)
from core.errors import Conflict, Invalid, Wrong
from core.ids import Centi, EquipmentId
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds, rfc3339
from core.text import require_plain
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit

Made = TypeVar("Made")

WIDEST_HYSTERESIS = Centi(1_000)


class ZoneLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a zone. None means the rule profile's value for the kind of zone."""

    profile: str = profile.DEFAULT
    low: Centi | None = None
    high: Centi | None = None
    delay: Milliseconds | None = None
    hysteresis: Centi | None = None


def add_equipment(
    tx: Session, actor: Actor, new: NewEquipment, unit: Unit, *, since: Instant, now: Instant
) -> Equipment:
    """Add an equipment with its zones, placed in a unit since an instant.

    Raises: NotGranted, Conflict when its code is taken, Invalid.
    """
    return _single(enter_equipment(tx, actor, [NewInUnit(new, unit, since)], now=now))


def rename_equipment(
    tx: Session, actor: Actor, equipment: Equipment, name: str, kind: EquipmentKind, *, now: Instant
) -> bool:
    """Change the name and kind of an equipment; return whether anything changed.

    Raises: NotGranted, Invalid.
    """
    actor.require(Right.EQUIP, on=unit_of_equipment(tx, equipment.id, now), asked=("equipment", equipment.id))
    require_plain("name", name)
    if not name.strip():
        raise Invalid(field="name", value=name, problem="an equipment needs a name")
    if (equipment.name, equipment.kind) == (name, kind.value):
        return False
    revision.bump(tx)
    detail = {"before": [equipment.name, equipment.kind], "after": [name, kind.value]}
    equipment.name, equipment.kind = name, kind.value
    subject = f"equipment:{equipment.id}"
    audit.record(tx, at=now, actor=actor.name, act="equipment renamed", subject=subject, detail=detail)
    return True


def add_zone(tx: Session, actor: Actor, equipment: EquipmentId, kind: ZoneKind, *, now: Instant) -> Zone:
    """Add a zone to an equipment.

    Raises: NotGranted, Conflict when it has one of this kind.
    """
    actor.require(Right.EQUIP, on=unit_of_equipment(tx, equipment, now), asked=("equipment", equipment))
    revision.bump(tx)
    if tx.scalar(select(Zone.id).where(Zone.equipment_id == equipment, Zone.kind == kind.value)) is not None:
        msg = f"equipment {equipment} has a zone {kind.value} already"
        raise Conflict(msg)
    zone = Zone(equipment_id=equipment, kind=kind.value)
    tx.add(zone)
    tx.flush()
    audit.record(tx, at=now, actor=actor.name, act="zone added", subject=f"zone:{zone.id}")
    return zone


def set_limits(
    tx: Session, actor: Actor, zone: Zone, limits: ZoneLimits, *, since: Instant | None = None, now: Instant
) -> bool:
    """Set the limits of a zone; return whether anything changed.

    With `since` before `now`, the new limits replace the versions since then: the figures of those days are recomputed,
    but nobody is paged. While no probe has ever been bound to the zone, new limits apply from the beginning of time.
    Raises: NotGranted, Invalid.
    """
    actor.require(Right.EQUIP, on=unit_of_equipment(tx, zone.equipment_id, now), asked=("zone", zone.id))
    _check_band(zone.kind, limits)
    _check_delay_and_hysteresis(limits)
    before = limits_of(zone)
    if since is not None and since > now:
        raise Invalid(field="since", value=rfc3339(since), problem="limits can't begin in the future")
    if before == limits and since is None:
        return False
    revision.bump(tx)
    if since is not None or (before.profile, before.low, before.high) != (limits.profile, limits.low, limits.high):
        if since is None:
            binding = tx.scalar(select(ProbeZone.id).where(ProbeZone.zone_id == zone.id).limit(1))
            since = Instant(0) if binding is None else now
        band = {"profile": limits.profile, "low": limits.low, "high": limits.high}
        tx.add(LimitsVersion(zone_id=zone.id, since=since, **band))
    zone.profile, zone.low, zone.high = limits.profile, limits.low, limits.high
    zone.delay, zone.hysteresis = limits.delay, limits.hysteresis
    detail = {"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(limits), "since": since}
    audit.record(tx, at=now, actor=actor.name, act="limits set", subject=f"zone:{zone.id}", detail=detail)
    return True


def limits_of(zone: Zone) -> ZoneLimits:
    """Return the limits that are set on a zone itself."""
    return ZoneLimits(profile=zone.profile, low=zone.low, high=zone.high, delay=zone.delay, hysteresis=zone.hysteresis)


def _check_band(kind: str, limits: ZoneLimits) -> None:
    band = profile.load(limits.profile).zones.get(kind)
    low = limits.low if limits.low is not None or band is None or band.low is None else band.low.limit
    high = limits.high if limits.high is not None or band is None or band.high is None else band.high.limit
    if low is not None and high is not None and low >= high:
        raise Invalid(field="low", value=low / 100, problem=message("low", high=high / 100))


def _check_delay_and_hysteresis(limits: ZoneLimits) -> None:
    """Refuse a delay or hysteresis so large that an alarm would in effect never open or never end."""
    if limits.delay is not None and not 0 <= limits.delay <= DAY:
        raise Invalid(field="delay", value=f"{limits.delay // MINUTE}m", problem=message("delay"))
    if limits.hysteresis is not None and not 0 <= limits.hysteresis <= WIDEST_HYSTERESIS:
        problem = message("hysteresis", widest=WIDEST_HYSTERESIS / 100)
        raise Invalid(field="hysteresis", value=limits.hysteresis / 100, problem=problem)


def add_gateway(
    tx: Session, actor: Actor, number: str, unit: Unit, *, since: Instant, now: Instant, namespace: str = NAMESPACE
) -> Gateway:
    """Add a gateway, placed in a unit since an instant.

    Raises: NotGranted, Conflict when the number is taken, Invalid.
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

    Raises: NotGranted, Conflict when the code is taken in the gateway's namespace, Invalid.
    """
    return _single(enter_probes(tx, actor, [NewProbe(code, gateway, since, interval)], now=now))


def set_interval(tx: Session, actor: Actor, probe: Probe, interval: Milliseconds, *, now: Instant) -> bool:
    """Set the expected reading interval of a probe; return whether it changed. It decides when a probe is offline.

    Raises: NotGranted, Conflict while no gateway reads it, Invalid.
    """
    paired = intervals.open_row(tx, ProbeGateway, probe.id)
    actor.require(Right.BIND, on=unit_of_gateway(tx, paired.gateway_id, now), asked=("probe", probe.id))
    check_interval(interval)
    if probe.interval == interval:
        return False
    revision.bump(tx)
    detail = {"before": probe.interval, "after": interval}
    if tx.scalar(select(IntervalVersion.id).where(IntervalVersion.probe_id == probe.id).limit(1)) is None:
        tx.add(IntervalVersion(probe_id=probe.id, since=Instant(0), interval=probe.interval))
        tx.flush()
    tx.add(IntervalVersion(probe_id=probe.id, since=now, interval=interval))
    probe.interval = interval
    audit.record(tx, at=now, actor=actor.name, act="interval set", subject=f"probe:{probe.id}", detail=detail)
    return True


def _single(results: Sequence[Made | Wrong]) -> Made:
    (result,) = results
    if isinstance(result, Wrong):
        raise result
    return result
