"""Origin of hardware: supplier, source, warranty and day of installation (HW-06, HW-07).

Origins of many devices are set together: a province that adds warranties to all its probes takes some statements for
each thousand of them.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any, TypeVar

import msgspec
from sqlalchemy.orm import Session

from core.db.audit import Change, record_all
from core.db.table_base import Record
from core.devices.kinds_and_labels import DeviceSource
from core.devices.messages import message
from core.devices.queries import last_gateways_of_probes, last_units_of_equipment, last_units_of_gateways
from core.devices.tables import Equipment, Gateway, Probe
from core.errors import Conflict, DomainError, Invalid
from core.plain_text import require_plain
from core.runtime.instant import Instant
from core.units import device_revision
from core.units.actor import Actor
from core.units.queries import units_with_ids
from core.units.rights import Right
from core.units.tables import Unit

HardwareT = TypeVar("HardwareT", Equipment, Gateway, Probe)


class HardwareOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a piece of hardware came from, and how long its manufacturer pays for it. None is unknown."""

    supplier: str | None = None
    source: DeviceSource | None = None
    warranty_start: date | None = None
    warranty_end: date | None = None
    installed_on: date | None = None

    def known(self) -> dict[str, Any]:
        """Return what is known, by its column."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}


UNKNOWN = HardwareOrigin()
_RIGHTS: Mapping[type[Record], Right] = {Equipment: Right.EQUIP, Gateway: Right.BIND, Probe: Right.BIND}


def origin_of(hardware: Equipment | Gateway | Probe) -> HardwareOrigin:
    """Return the origin of a device."""
    return HardwareOrigin(**{name: getattr(hardware, name) for name in HardwareOrigin.__struct_fields__})


def completed(given: HardwareOrigin, before: HardwareOrigin = UNKNOWN) -> HardwareOrigin:
    """Return an origin as given; what is not given is as before.

    Raises: Invalid when the warranty would end before it starts, or the supplier has invisible characters.
    """
    if given.supplier is not None:
        require_plain("supplier", given.supplier)
    origin = msgspec.structs.replace(before, **given.known())
    start, end = origin.warranty_start, origin.warranty_end
    if start is not None and end is not None and end < start:
        if given.warranty_end is None:
            raise Invalid(field="warranty_start", value=start, problem=message("warranty_starts_after", end=end))
        raise Invalid(field="warranty_end", value=end, problem=message("warranty_ends_before", start=start))
    return origin


def set_origins(
    tx: Session, actor: Actor, changes: Sequence[tuple[HardwareT, HardwareOrigin]], *, now: Instant
) -> list[bool | DomainError]:
    """Set the origins of devices of one type; return for each whether anything changed, or the error.

    What an origin leaves open stays as it is. The right is asked where the device was placed last. An error is
    PermissionDenied, Conflict when the device was never placed, or Invalid.
    """
    if not changes:
        return []
    device_revision.bump(tx)
    units = _last_units(tx, [hardware for hardware, _ in changes])
    audits: list[Change] = []

    def set_one(hardware: HardwareT, given: HardwareOrigin) -> bool:
        subject = f"{hardware.__tablename__}:{hardware.id}"
        unit = units.get(hardware.id)
        if unit is None:
            raise Conflict(message("never_placed", subject=subject))
        actor.require(_RIGHTS[type(hardware)], on=unit, subject=(hardware.__tablename__, hardware.id))
        before = origin_of(hardware)
        after = completed(given, before)
        changed = [name for name in given.known() if getattr(before, name) != getattr(after, name)]
        for name in changed:
            setattr(hardware, name, getattr(after, name))
        if changed:
            old, new = ({name: getattr(each, name) for name in changed} for each in (before, after))
            audits.append(Change("origin set", subject, {"before": old, "after": new}))
        return bool(changed)

    results: list[bool | DomainError] = []
    for hardware, given in changes:
        try:
            results.append(set_one(hardware, given))
        except DomainError as error:
            results.append(error)
    tx.flush()
    record_all(tx, audits, at=now, actor=actor.name)
    return results


def _last_units(tx: Session, hardware: Sequence[Equipment | Gateway | Probe]) -> dict[int, Unit]:
    """Return the unit where each device was placed last; a probe is where its gateway is."""
    ids: Collection[int] = [each.id for each in hardware]
    if isinstance(hardware[0], Equipment):
        unit_ids = {each: row.unit_id for each, row in last_units_of_equipment(tx, ids).items()}
    elif isinstance(hardware[0], Gateway):
        unit_ids = {each: row.unit_id for each, row in last_units_of_gateways(tx, ids).items()}
    else:
        paired = {probe: row.gateway_id for probe, row in last_gateways_of_probes(tx, ids).items()}
        places = last_units_of_gateways(tx, set(paired.values()))
        unit_ids = {probe: places[gateway].unit_id for probe, gateway in paired.items() if gateway in places}
    units = units_with_ids(tx, set(unit_ids.values()))
    return {each: units[unit] for each, unit in unit_ids.items()}
