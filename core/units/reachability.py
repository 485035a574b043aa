"""Reachability: at which levels of a monitored equipment somebody can be told of an alarm, or nobody (无人可通知).

A person can be told on a channel that is configured and knows them: on WeChat whoever is bound, unless WeChat has
refused them since. A level is out of reach when nobody of it can be told: it has no contacts, they aren't bound, or
there is no channel at all. Escalation goes on all the same and messages are kept; but nobody reads them, so whoever
looks at the system has to see it before the first alarm does: `import`, `check`, `status` and the pages ask here.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import ColumnElement, Select, and_, false, func, not_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.devices.tables import Equipment, EquipmentUnit, MaintenanceWindow, ProbeZone, Zone
from core.ids import EquipmentId, UnitId
from core.runtime.instant import Instant
from core.units.contacts import ContactLevel, in_force, present
from core.units.tables import Contact, Person, Unit

WECHAT = "wechat"
T = TypeVar("T")


class OutOfReach(msgspec.Struct, frozen=True):
    """A monitored equipment, and the levels at which nobody can be told of it."""

    equipment: EquipmentId
    code: str
    name: str
    unit: UnitId
    unit_name: str
    levels: tuple[ContactLevel, ...]


def can_be_told(person: Person, channels: Collection[str]) -> bool:
    """Return whether a message reaches a person on one of the channels that are configured."""
    return WECHAT in channels and bool(person.openid) and person.unreachable_since is None


def levels_out_of_reach(
    contacts: Mapping[ContactLevel, Sequence[Person]], channels: Collection[str]
) -> tuple[ContactLevel, ...]:
    """Return the levels of an equipment's contacts at which nobody can be told."""
    return tuple(
        level for level, people in contacts.items() if not any(can_be_told(person, channels) for person in people)
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
    """Return the monitored equipment of a scope of units where one of `levels` is out of reach, by unit and code.

    Monitored: it stands in a unit, a probe is bound to a zone of it, and it isn't stopped.
    """
    without = {level: _without(level, at, channels) for level in ContactLevel}
    first, second, third = without.values()
    asked = (
        select(Equipment, Unit, first, second, third)
        .where(*_monitored(scope, at), or_(*(without[level] for level in levels)))
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
        for equipment, unit, *missing in tx.execute(asked)
    ]


def count_out_of_reach(
    tx: Session, scope: ColumnElement[bool], at: Instant, channels: Collection[str], level: ContactLevel
) -> int:
    """Count the monitored equipment where a level is out of reach."""
    return tx.scalar(select(func.count(Equipment.id)).where(*_monitored(scope, at), _without(level, at, channels))) or 0


def _monitored(scope: ColumnElement[bool], at: Instant) -> list[ColumnElement[bool]]:
    """Return the conditions on `Equipment`, its place and its `Unit`."""
    probed = select(Zone.equipment_id).join(ProbeZone, ProbeZone.zone_id == Zone.id).where(in_force(ProbeZone, at))
    windows = select(MaintenanceWindow.equipment_id).where(in_force(MaintenanceWindow, at))
    return [
        EquipmentUnit.equipment_id == Equipment.id,
        EquipmentUnit.unit_id == Unit.id,
        in_force(EquipmentUnit, at),
        scope,
        Equipment.id.in_(probed),
        Equipment.id.not_in(windows.where(MaintenanceWindow.kind == "stopped")),
    ]


def _without(level: ContactLevel, at: Instant, channels: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that nobody of a level of `Equipment` in `Unit` can be told.

    An equipment's own contacts replace those of its unit, also where none of them can be told.
    """
    # Sets that are made once: asked of each of 20 000 equipment, the same takes several times as long.
    own = _owners(Contact.equipment_id, level, at)
    of_unit = _owners(Contact.unit_id, level, at).where(_can_be_told(channels))
    own_reachable = own.where(_can_be_told(channels))
    return not_(
        or_(Equipment.id.in_(own_reachable), and_(Equipment.id.not_in(own), EquipmentUnit.unit_id.in_(of_unit)))
    )


def _owners(owner: InstrumentedAttribute[T], level: ContactLevel, at: Instant) -> Select[T]:
    """Return the units, or the equipment, that have somebody at a level."""
    people = select(owner).join(Person, Person.id == Contact.person_id)
    return people.where(owner.is_not(None), Contact.level == level, present(at))


def _can_be_told(channels: Collection[str]) -> ColumnElement[bool]:
    """Return `can_be_told` as a condition on `Person`."""
    bound = and_(func.coalesce(Person.openid, "") != "", Person.unreachable_since.is_(None))
    return bound if WECHAT in channels else false()
