"""Own limits of a zone: what it is held to where that differs from its rule profile."""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.devices.bindings import unit_of_equipment
from core.devices.messages import message
from core.devices.tables import LimitsVersion, ProbeZone, Zone
from core.errors import Invalid
from core.ids import Centi
from core.limits import rule_profile
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds, rfc3339
from core.units import device_revision
from core.units.actor import Actor
from core.units.rights import Right

WIDEST_HYSTERESIS = Centi(1_000)


class ZoneLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a zone. None means the rule profile's value for the kind of zone."""

    profile: str = rule_profile.DEFAULT
    low: Centi | None = None
    high: Centi | None = None
    delay: Milliseconds | None = None
    hysteresis: Centi | None = None


def set_limits(
    tx: Session, actor: Actor, zone: Zone, limits: ZoneLimits, *, since: Instant | None = None, now: Instant
) -> bool:
    """Set the limits of a zone; return whether anything changed.

    With `since` before `now`, the new limits replace the versions since then: the figures of those days are recomputed,
    but nobody is paged. While no probe has ever been bound to the zone, new limits apply from the beginning of time.
    Raises: PermissionDenied, Invalid.
    """
    actor.require(Right.EQUIP, on=unit_of_equipment(tx, zone.equipment_id, now), subject=("zone", zone.id))
    _check_band(zone.kind, limits)
    _check_delay_and_hysteresis(limits)
    before = limits_of(zone)
    if since is not None and since > now:
        raise Invalid(field="since", value=rfc3339(since), problem="limits can't begin in the future")
    if before == limits and since is None:
        return False
    device_revision.bump(tx)
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
    band = rule_profile.load(limits.profile).zones.get(kind)
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
