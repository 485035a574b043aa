"""Reachability of alarm contacts: the levels of a monitored equipment at which nobody can be told (无人可通知).

A person can be told on a configured channel that knows them. WeChat knows a person who is bound, unless it has refused
a message to them since. A level is out of reach when it has no contacts, none of them is bound, or no channel is
configured. Escalation continues in that case and messages are kept, but nobody reads them. Operators have to see this
before the first alarm, so `import`, `check`, `status` and the pages show it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import ColumnElement, Select, and_, false, func, not_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.contacts.contacts import ContactLevel, present
from core.db.in_force import in_force
from core.devices.kinds_and_labels import WindowKind
from core.devices.tables import Equipment, EquipmentUnit, MaintenanceWindow, ProbeZone, Zone
from core.ids import EquipmentId, UnitId
from core.runtime.instant import Instant
from core.units.tables import Contact, Person, Unit

WECHAT = "wechat"
T = TypeVar("T")


class OutOfReach(msgspec.Struct, frozen=True):
    """A monitored equipment and its levels at which nobody can be told."""

    equipment: EquipmentId
    code: str
    name: str
    unit: UnitId
    unit_name: str
    levels: tuple[ContactLevel, ...]


def is_reachable(person: Person, channels: Collection[str]) -> bool:
    """Return whether a message reaches a person on one of the configured `channels`."""
    return WECHAT in channels and bool(person.openid) and person.unreachable_since is None


def levels_out_of_reach(
    contacts: Mapping[ContactLevel, Sequence[Person]], channels: Collection[str]
) -> tuple[ContactLevel, ...]:
    """Return the levels of an equipment's contacts at which nobody can be told."""
    return tuple(
        level for level, people in contacts.items() if not any(is_reachable(person, channels) for person in people)
    )


def out_of_reach(
    tx: Session,
    scope: ColumnElement[bool],
    at: Instant,
    channels: Collection[str],
    *,
    levels: Collection[ContactLevel] = tuple(ContactLevel),
    limit: int | None = None,
) -> list[OutOfReach]:
    """Return the monitored equipment in `scope` where one of `levels` is out of reach, ordered by unit and code.

    Monitored means: it stands in a unit, a probe is bound to a zone of it, and it isn't stopped.
    """
    unreachable = {level: _level_unreachable(level, at, channels) for level in ContactLevel}
    first, second, third = unreachable.values()
    query = (
        select(Equipment, Unit, first, second, third)
        .where(*_monitored(scope, at), or_(*(unreachable[level] for level in levels)))
        .order_by(Unit.path, Equipment.code)
        .limit(limit)
    )
    return [
        OutOfReach(
            equipment.id,
            equipment.code,
            equipment.name,
            unit.id,
            unit.name,
            tuple(level for level, is_missing in zip(ContactLevel, missing, strict=True) if is_missing),
        )
        for equipment, unit, *missing in tx.execute(query)
    ]


def count_out_of_reach(
    tx: Session, scope: ColumnElement[bool], at: Instant, channels: Collection[str], level: ContactLevel
) -> int:
    """Count the monitored equipment in `scope` where a level is out of reach."""
    return (
        tx.scalar(
            select(func.count(Equipment.id)).where(*_monitored(scope, at), _level_unreachable(level, at, channels))
        )
        or 0
    )


def _monitored(scope: ColumnElement[bool], at: Instant) -> list[ColumnElement[bool]]:
    """Return the conditions that join `Equipment` to its `Unit` and select what is monitored at an instant."""
    with_probe = select(Zone.equipment_id).join(ProbeZone, ProbeZone.zone_id == Zone.id).where(in_force(ProbeZone, at))
    windows = select(MaintenanceWindow.equipment_id).where(in_force(MaintenanceWindow, at))
    return [
        EquipmentUnit.equipment_id == Equipment.id,
        EquipmentUnit.unit_id == Unit.id,
        in_force(EquipmentUnit, at),
        scope,
        Equipment.id.in_(with_probe),
        Equipment.id.not_in(windows.where(MaintenanceWindow.kind == WindowKind.STOPPED)),
    ]


def _level_unreachable(level: ContactLevel, at: Instant, channels: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that nobody can be told at a level of an `Equipment` in its `Unit`.

    An equipment's own contacts replace those of its unit, even if none of them can be told.
    """
    # Uncorrelated subqueries: the database computes each set once. A correlated EXISTS for each of 20 000 equipment
    # takes several times as long.
    own = _owners_with_contact(Contact.equipment_id, level, at)
    of_unit = _owners_with_contact(Contact.unit_id, level, at).where(_is_reachable(channels))
    own_reachable = own.where(_is_reachable(channels))
    return not_(
        or_(Equipment.id.in_(own_reachable), and_(Equipment.id.not_in(own), EquipmentUnit.unit_id.in_(of_unit)))
    )


def _owners_with_contact(owner: InstrumentedAttribute[T], level: ContactLevel, at: Instant) -> Select[T]:
    """Select the units or equipment (column `owner`) that have a contact at a level."""
    people = select(owner).join(Person, Person.id == Contact.person_id)
    return people.where(owner.is_not(None), Contact.level == level, present(at))


def _is_reachable(channels: Collection[str]) -> ColumnElement[bool]:
    """Return the SQL condition on `Person` that equals `is_reachable`."""
    bound = and_(func.coalesce(Person.openid, "") != "", Person.unreachable_since.is_(None))
    return bound if WECHAT in channels else false()
