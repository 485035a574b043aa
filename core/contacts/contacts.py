"""Alarm contacts: the people to tell at each level, and the lists of missing and unbound contacts.

There are three levels (AL-01 to AL-04): vaccine manager, department head, unit head. An equipment's own contacts of a
level replace its unit's contacts of that level. An empty level stays empty: the unit above is not told instead, so
that the gap shows in the list of incomplete contacts.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import IntEnum
from typing import TypeVar

import msgspec
from sqlalchemy import ColumnElement, delete, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.db.audit import Change, record_all
from core.db.in_force import in_force
from core.db.in_values import in_values
from core.db.insert import insert_all
from core.devices.kinds_and_labels import WindowKind
from core.devices.tables import Equipment, EquipmentUnit, MaintenanceWindow, ProbeZone, Zone
from core.errors import DomainError, Invalid
from core.ids import EquipmentId, PersonId, UnitId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Contact, Person, Unit

Owner = TypeVar("Owner", UnitId, EquipmentId)


class ContactLevel(IntEnum):
    """Level of an alarm contact, by the task of the person."""

    VACCINE_MANAGER = 1
    """疫苗管理具体负责人 (AL-02)."""
    DEPARTMENT_HEAD = 2
    """所在科室负责人 (AL-03)."""
    UNIT_HEAD = 3
    """所在单位负责人 (AL-04)."""


class Incomplete(msgspec.Struct, frozen=True):
    """A monitored equipment without contacts at some levels (报警联系人不完整)."""

    equipment: EquipmentId
    code: str
    name: str
    unit: UnitId
    missing: tuple[ContactLevel, ...]


class Unbound(msgspec.Struct, frozen=True):
    """A contact that no WeChat message reaches; until one does, the unit is not compliant (AL-05)."""

    person: PersonId
    name: str
    unit: UnitId
    levels: tuple[ContactLevel, ...]
    unreachable_since: Instant | None
    """None: never bound. Otherwise bound, but WeChat has refused messages since then."""


def contacts_for(tx: Session, equipment: EquipmentId, at: Instant) -> dict[ContactLevel, list[Person]]:
    """Return the people of each level, ordered by id. The result has all three levels; some may be empty."""
    return contacts_of(tx, [equipment], at)[equipment]


def contacts_of(
    tx: Session, equipment: Iterable[EquipmentId], at: Instant
) -> dict[EquipmentId, dict[ContactLevel, list[Person]]]:
    """Return `contacts_for` of several equipment, with two queries in all."""
    equipment_ids = list(equipment)
    placements = tx.execute(
        select(EquipmentUnit.equipment_id, EquipmentUnit.unit_id).where(
            in_values(tx, EquipmentUnit.equipment_id, equipment_ids), in_force(EquipmentUnit, at)
        )
    )
    unit_of = {row.equipment_id: row.unit_id for row in placements}
    rows = tx.execute(
        select(Contact.level, Contact.equipment_id, Contact.unit_id, Person)
        .join(Person, Person.id == Contact.person_id)
        .where(
            or_(
                in_values(tx, Contact.equipment_id, equipment_ids),
                in_values(tx, Contact.unit_id, set(unit_of.values())),
            ),
            present(at),
        )
        .order_by(Person.id)
    )
    own: dict[tuple[EquipmentId, int], list[Person]] = defaultdict(list)
    units: dict[tuple[UnitId, int], list[Person]] = defaultdict(list)
    for level, equipment_id, unit, person in rows:
        if equipment_id is not None:
            own[equipment_id, level].append(person)
        elif unit is not None:
            units[unit, level].append(person)
    return {
        each: {
            level: own.get((each, level)) or (units.get((unit_of[each], level), []) if each in unit_of else [])
            for level in ContactLevel
        }
        for each in equipment_ids
    }


def unit_contacts(tx: Session, units: Collection[UnitId]) -> dict[UnitId, dict[ContactLevel, list[PersonId]]]:
    """Return the contacts of units themselves at each level, in the order in which they were set."""
    return _own_contacts(tx, Contact.unit_id, units)


def equipment_contacts(
    tx: Session, equipment: Collection[EquipmentId]
) -> dict[EquipmentId, dict[ContactLevel, list[PersonId]]]:
    """Return the contacts of equipment themselves at each level, in the order in which they were set."""
    return _own_contacts(tx, Contact.equipment_id, equipment)


def _own_contacts(
    tx: Session, owner: InstrumentedAttribute[Owner | None], ids: Collection[Owner]
) -> dict[Owner, dict[ContactLevel, list[PersonId]]]:
    contacts: dict[Owner, dict[ContactLevel, list[PersonId]]] = {
        each: {level: [] for level in ContactLevel} for each in ids
    }
    query = select(owner, Contact.level, Contact.person_id).where(in_values(tx, owner, ids)).order_by(Contact.id)
    for each, level, person in tx.execute(query):
        assert each is not None  # noqa: S101 (it is among the ids)
        contacts[each][ContactLevel(level)].append(person)
    return contacts


def incomplete_contacts(tx: Session, scope: ColumnElement[bool], at: Instant) -> list[Incomplete]:
    """Return the monitored equipment in `scope` without a contact at some level, ordered by unit and code.

    Monitored means: it stands in a unit, a probe is bound to a zone of it, and it isn't stopped.
    """
    with_probe = select(ProbeZone.id).join(Zone, Zone.id == ProbeZone.zone_id)
    stopped = select(MaintenanceWindow.id).where(
        MaintenanceWindow.kind == WindowKind.STOPPED, in_force(MaintenanceWindow, at)
    )
    monitored = tx.execute(
        select(Equipment.id, Equipment.code, Equipment.name, Unit.id)
        .join(EquipmentUnit, EquipmentUnit.equipment_id == Equipment.id)
        .join(Unit, Unit.id == EquipmentUnit.unit_id)
        .where(
            scope,
            in_force(EquipmentUnit, at),
            exists(with_probe.where(Zone.equipment_id == Equipment.id, in_force(ProbeZone, at))),
            ~exists(stopped.where(MaintenanceWindow.equipment_id == Equipment.id)),
        )
        .order_by(Unit.path, Equipment.code)
    ).all()
    of_equipment: dict[EquipmentId, set[int]] = defaultdict(set)
    of_unit: dict[UnitId, set[int]] = defaultdict(set)
    for level, equipment, unit in tx.execute(
        select(Contact.level, Contact.equipment_id, Contact.unit_id)
        .join(Person, Person.id == Contact.person_id)
        .where(present(at))
    ):
        if equipment is not None:
            of_equipment[equipment].add(level)
        elif unit is not None:
            of_unit[unit].add(level)
    incomplete = []
    for equipment_id, code, name, unit_id in monitored:
        present_levels = of_equipment[equipment_id] | of_unit[unit_id]
        missing = tuple(level for level in ContactLevel if level not in present_levels)
        if missing:
            incomplete.append(Incomplete(equipment_id, code, name, unit_id, missing))
    return incomplete


def unbound_contacts(tx: Session, scope: ColumnElement[bool], at: Instant) -> list[Unbound]:
    """Return the contacts in `scope` that WeChat doesn't reach, ordered by unit and person."""
    rows = tx.execute(
        select(Person, Unit.id, Contact.level)
        .join(Contact, Contact.person_id == Person.id)
        .outerjoin(EquipmentUnit, (EquipmentUnit.equipment_id == Contact.equipment_id) & in_force(EquipmentUnit, at))
        .join(Unit, or_(Unit.id == Contact.unit_id, Unit.id == EquipmentUnit.unit_id))
        .where(scope, present(at), or_(Person.openid.is_(None), Person.unreachable_since.is_not(None)))
        .order_by(Unit.path, Person.id, Contact.level)
    )
    people: dict[tuple[UnitId, PersonId], tuple[Person, set[int]]] = {}
    for person, unit, level in rows:
        people.setdefault((unit, person.id), (person, set()))[1].add(level)
    return [
        Unbound(
            person.id,
            person.name,
            unit,
            tuple(ContactLevel(level) for level in sorted(levels)),
            None if person.openid is None else person.unreachable_since,
        )
        for (unit, _), (person, levels) in people.items()
    ]


class ContactChange(msgspec.Struct, frozen=True):
    """New contacts for some levels of a unit, or of one equipment that stands in it; other levels stay."""

    unit: Unit
    people_by_level: Mapping[ContactLevel, Sequence[PersonId]]
    equipment: EquipmentId | None = None


def set_contacts(
    tx: Session,
    actor: Actor,
    unit: Unit,
    people_by_level: Mapping[ContactLevel, Sequence[PersonId]],
    *,
    equipment: EquipmentId | None = None,
    now: Instant,
) -> None:
    """Replace the contacts at some levels of a unit, or of one equipment that stands in it; other levels stay.

    Raises: PermissionDenied, Invalid when somebody works outside what the actor may manage.
    """
    (error,) = change_contacts(tx, actor, [ContactChange(unit, people_by_level, equipment)], now=now)
    if error is not None:
        raise error


def change_contacts(
    tx: Session, actor: Actor, changes: Sequence[ContactChange], *, now: Instant
) -> list[DomainError | None]:
    """Apply several changes as `set_contacts` does; return for each the error, or None."""
    people = {person for change in changes for person_ids in change.people_by_level.values() for person in person_ids}
    units_of_people = (
        select(Person.id, Unit).join(Unit, Unit.id == Person.unit_id).where(in_values(tx, Person.id, people))
    )
    home_of = {row[0]: row[1] for row in tx.execute(units_of_people)}
    errors = [_error_of(actor, change, home_of) for change in changes]
    accepted = [change for change, error in zip(changes, errors, strict=True) if error is None]
    _delete_replaced(tx, accepted)
    rows = [
        {
            "unit_id": change.unit.id if change.equipment is None else None,
            "equipment_id": change.equipment,
            "level": int(level),
            "person_id": person,
        }
        for change in accepted
        for level, person_ids in change.people_by_level.items()
        for person in dict.fromkeys(person_ids)
    ]
    insert_all(tx, Contact, rows)
    record_all(tx, map(_audit_entry, accepted), at=now, actor=actor.name)
    return errors


def _audit_entry(change: ContactChange) -> Change:
    subject = f"unit:{change.unit.id}" if change.equipment is None else f"equipment:{change.equipment}"
    return Change(
        "contacts set",
        subject,
        {str(int(level)): list(person_ids) for level, person_ids in change.people_by_level.items()},
    )


def _error_of(actor: Actor, change: ContactChange, home_of: Mapping[PersonId, Unit]) -> DomainError | None:
    try:
        actor.require(Right.CONTACTS, on=change.unit)
        for person_ids in change.people_by_level.values():
            for person in person_ids:
                home = home_of.get(person)
                if home is None or not (actor.may(Right.CONTACTS, on=home) or home.id == change.unit.id):
                    raise Invalid(field="person", value=person, problem="works in a unit that isn't yours to manage")
    except DomainError as error:
        return error
    return None


def _delete_replaced(tx: Session, changes: Sequence[ContactChange]) -> None:
    """Delete the current contacts at the levels that change."""
    for level in ContactLevel:
        units = {change.unit.id for change in changes if level in change.people_by_level and change.equipment is None}
        equipment = {each.equipment for each in changes if level in each.people_by_level and each.equipment is not None}
        for owners in (in_values(tx, Contact.unit_id, units), in_values(tx, Contact.equipment_id, equipment)):
            statement = delete(Contact).where(Contact.level == level, owners)
            tx.execute(statement.execution_options(synchronize_session=False))


def present(at: Instant) -> ColumnElement[bool]:
    """Return the SQL condition that a person hasn't left."""
    return or_(Person.left_at.is_(None), Person.left_at > at)
