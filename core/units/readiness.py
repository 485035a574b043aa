"""Readiness of units and temporary sites: the checklist of six kinds of hardware (SE-14 to SE-16), and its coverage."""

from collections.abc import Mapping

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.audit import Change, record_all
from core.db.insert import upsert
from core.errors import DomainError, Invalid
from core.ids import UnitId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.messages import message
from core.units.queries import in_subtree
from core.units.tables import Unit, UnitHardware
from core.units.unit_attributes import HardwareKind
from core.units.unit_levels import UnitKind

CHECKED_KINDS = (UnitKind.POV, UnitKind.TEMP_SITE)
"""Kinds of units that need the hardware."""


class HardwareCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """Units and temporary sites of an area that need the hardware, how many have each kind, and how many have all."""

    units: int
    ready: int
    by_kind: Mapping[HardwareKind, int]


def faults(hardware: Mapping[HardwareKind, int]) -> list[DomainError]:
    """Return a fault for each kind that isn't there, or has no sensible number."""
    return [_missing(kind, hardware.get(kind)) for kind in HardwareKind if hardware.get(kind, 0) < 1]


def _missing(kind: HardwareKind, quantity: int | None) -> Invalid:
    return Invalid(f"hardware.{kind}", quantity, message("hardware", kind=kind))


def record_hardware(
    tx: Session, actor: Actor, unit: Unit, hardware: Mapping[HardwareKind, int], *, now: Instant
) -> None:
    """Record the number of devices of each kind; kinds left out stay as they are. The caller has checked the rights.

    Raises: Invalid for a number below zero.
    """
    for kind, quantity in hardware.items():
        if quantity < 0:
            raise _missing(kind, quantity)
    rows = [
        {"unit_id": unit.id, "kind": kind, "quantity": quantity, "recorded_at": now}
        for kind, quantity in hardware.items()
    ]
    upsert(tx, UnitHardware, rows)
    detail = {kind.value: quantity for kind, quantity in hardware.items()}
    record_all(tx, [Change("hardware recorded", f"unit:{unit.id}", detail)], at=now, actor=actor.name)


def hardware_of(tx: Session, unit: UnitId) -> dict[HardwareKind, int]:
    """Return the whole checklist of a unit: each of the six kinds with its number, 0 where nothing was recorded."""
    query = select(UnitHardware.kind, UnitHardware.quantity).where(UnitHardware.unit_id == unit)
    recorded: dict[HardwareKind, int] = {row[0]: row[1] for row in tx.execute(query)}
    return {kind: recorded.get(kind, 0) for kind in HardwareKind}


def hardware_coverage(tx: Session, unit: Unit) -> HardwareCoverage:
    """Return the coverage of all units and temporary sites of a unit and below it that haven't been stopped."""
    checked = (in_subtree(unit), Unit.kind.in_(CHECKED_KINDS), Unit.until.is_(None))
    units = tx.scalar(select(func.count()).select_from(Unit).where(*checked)) or 0
    held = (
        select(UnitHardware.unit_id, UnitHardware.kind)
        .join(Unit, Unit.id == UnitHardware.unit_id)
        .where(*checked, UnitHardware.quantity > 0)
        .subquery()
    )
    counts = select(held.c.kind, func.count()).group_by(held.c.kind)
    by_kind: dict[HardwareKind, int] = {row[0]: row[1] for row in tx.execute(counts)}
    complete = select(held.c.unit_id).group_by(held.c.unit_id).having(func.count() == len(HardwareKind)).subquery()
    ready = tx.scalar(select(func.count()).select_from(complete)) or 0
    return HardwareCoverage(units=units, ready=ready, by_kind={kind: by_kind.get(kind, 0) for kind in HardwareKind})
