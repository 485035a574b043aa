"""Who is told first, second and third about an equipment, and where somebody is missing or out of reach.

Three levels (AL-01 to AL-04): the vaccine manager, the department head, the unit head. An equipment's own contacts of
a level replace those of its unit, level by level. A level that is empty stays empty: the unit above isn't woken in its
place, so that the gap shows in the list of incomplete contacts instead of being hidden.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum

import msgspec
from sqlalchemy import ColumnElement, delete, exists, or_, select
from sqlalchemy.orm import Session

from core.db.among import among
from core.db.audit import Change, record_all
from core.db.insert import insert_all
from core.devices.tables import Equipment, EquipmentUnit, MaintenanceWindow, ProbeZone, Zone
from core.errors import Invalid, Wrong
from core.ids import EquipmentId, PersonId, UnitId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Contact, Person, Unit


class ContactLevel(IntEnum):
    """Whose task it is to be told at which level."""

    VACCINE_MANAGER = 1
    """疫苗管理具体负责人 (AL-02)."""
    DEPARTMENT_HEAD = 2
    """所在科室负责人 (AL-03)."""
    UNIT_HEAD = 3
    """所在单位负责人 (AL-04)."""


class Incomplete(msgspec.Struct, frozen=True):
    """A monitored equipment that lacks contacts (报警联系人不完整)."""

    equipment: EquipmentId
    code: str
    name: str
    unit: UnitId
    missing: tuple[ContactLevel, ...]


class Unbound(msgspec.Struct, frozen=True):
    """A contact whom no WeChat message reaches; the unit isn't compliant until it does (AL-05)."""

    person: PersonId
    name: str
    unit: UnitId
    levels: tuple[ContactLevel, ...]
    unreachable_since: Instant | None
    """None: never bound. Else bound, but WeChat refuses since then."""


def contacts_for(tx: Session, equipment: EquipmentId, at: Instant) -> dict[ContactLevel, list[Person]]:
    """Return the people of each level, in order of their ids; all three levels are there, empty when nobody is."""
    return contacts_of(tx, [equipment], at)[equipment]


def contacts_of(
    tx: Session, equipment: Iterable[EquipmentId], at: Instant
) -> dict[EquipmentId, dict[ContactLevel, list[Person]]]:
    """Return the same of many at once, in two questions however many they are."""
    asked = list(equipment)
    standing = tx.execute(
        select(EquipmentUnit.equipment_id, EquipmentUnit.unit_id).where(
            among(tx, EquipmentUnit.equipment_id, asked), in_force(EquipmentUnit, at)
        )
    )
    in_unit = {row.equipment_id: row.unit_id for row in standing}
    rows = tx.execute(
        select(Contact.level, Contact.equipment_id, Contact.unit_id, Person)
        .join(Person, Person.id == Contact.person_id)
        .where(
            or_(among(tx, Contact.equipment_id, asked), among(tx, Contact.unit_id, set(in_unit.values()))), present(at)
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
        one: {
            level: own.get((one, level)) or (units.get((in_unit[one], level), []) if one in in_unit else [])
            for level in ContactLevel
        }
        for one in asked
    }


def incomplete_contacts(tx: Session, scope: ColumnElement[bool], at: Instant) -> list[Incomplete]:
    """Return the monitored equipment of a scope of units that lacks a level, in order of unit and code.

    Monitored: it stands in a unit, a probe is bound to a zone of it, and it isn't stopped.
    """
    probed = select(ProbeZone.id).join(Zone, Zone.id == ProbeZone.zone_id)
    stopped = select(MaintenanceWindow.id).where(MaintenanceWindow.kind == "stopped", in_force(MaintenanceWindow, at))
    monitored = tx.execute(
        select(Equipment.id, Equipment.code, Equipment.name, Unit.id)
        .join(EquipmentUnit, EquipmentUnit.equipment_id == Equipment.id)
        .join(Unit, Unit.id == EquipmentUnit.unit_id)
        .where(
            scope,
            in_force(EquipmentUnit, at),
            exists(probed.where(Zone.equipment_id == Equipment.id, in_force(ProbeZone, at))),
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
    found = []
    for equipment_id, code, name, unit_id in monitored:
        there = of_equipment[equipment_id] | of_unit[unit_id]
        missing = tuple(level for level in ContactLevel if level not in there)
        if missing:
            found.append(Incomplete(equipment_id, code, name, unit_id, missing))
    return found


def unbound_contacts(tx: Session, scope: ColumnElement[bool], at: Instant) -> list[Unbound]:
    """Return the contacts of a scope of units whom WeChat doesn't reach, in order of unit and person."""
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
    """Who is to be told at the levels given, of a unit or of one equipment that stands in it; other levels stay."""

    unit: Unit
    told: Mapping[ContactLevel, Sequence[PersonId]]
    equipment: EquipmentId | None = None


def set_contacts(
    tx: Session,
    actor: Actor,
    unit: Unit,
    told: Mapping[ContactLevel, Sequence[PersonId]],
    *,
    equipment: EquipmentId | None = None,
    now: Instant,
) -> None:
    """Say who is told at the levels given, of a unit or of one equipment that stands in it; other levels stay.

    Raises: NotGranted, Invalid when somebody works outside what the actor may manage.
    """
    (refusal,) = change_contacts(tx, actor, [ContactChange(unit, told, equipment)], now=now)
    if refusal is not None:
        raise refusal


def change_contacts(tx: Session, actor: Actor, changes: Sequence[ContactChange], *, now: Instant) -> list[Wrong | None]:
    """Make many such changes; returns for each why it was refused, if it was."""
    people = {person for change in changes for named in change.told.values() for person in named}
    homes = select(Person.id, Unit).join(Unit, Unit.id == Person.unit_id).where(among(tx, Person.id, people))
    home_of = {row[0]: row[1] for row in tx.execute(homes)}
    refusals = [_refusal(actor, change, home_of) for change in changes]
    made = [change for change, refusal in zip(changes, refusals, strict=True) if refusal is None]
    _forget(tx, made)
    rows = [
        {
            "unit_id": change.unit.id if change.equipment is None else None,
            "equipment_id": change.equipment,
            "level": int(level),
            "person_id": person,
        }
        for change in made
        for level, named in change.told.items()
        for person in dict.fromkeys(named)
    ]
    insert_all(tx, Contact, rows)
    record_all(tx, map(_audited, made), at=now, actor=actor.name)
    return refusals


def _audited(change: ContactChange) -> Change:
    subject = f"unit:{change.unit.id}" if change.equipment is None else f"equipment:{change.equipment}"
    return Change("contacts set", subject, {str(int(level)): list(named) for level, named in change.told.items()})


def _refusal(actor: Actor, change: ContactChange, home_of: Mapping[PersonId, Unit]) -> Wrong | None:
    try:
        actor.require(Right.CONTACTS, on=change.unit)
        for named in change.told.values():
            for person in named:
                home = home_of.get(person)
                if home is None or not (actor.may(Right.CONTACTS, on=home) or home.id == change.unit.id):
                    raise Invalid(field="person", value=person, problem="works in a unit that isn't yours to manage")
    except Wrong as refusal:
        return refusal
    return None


def _forget(tx: Session, changes: Sequence[ContactChange]) -> None:
    """Delete who was told so far at the levels that change."""
    for level in ContactLevel:
        units = {change.unit.id for change in changes if level in change.told and change.equipment is None}
        equipment = {each.equipment for each in changes if level in each.told and each.equipment is not None}
        for owners in (among(tx, Contact.unit_id, units), among(tx, Contact.equipment_id, equipment)):
            gone = delete(Contact).where(Contact.level == level, owners)
            tx.execute(gone.execution_options(synchronize_session=False))


def present(at: Instant) -> ColumnElement[bool]:
    """Return the condition that a person hasn't left."""
    return or_(Person.left_at.is_(None), Person.left_at > at)


def in_force(table: type[EquipmentUnit | MaintenanceWindow | ProbeZone], at: Instant) -> ColumnElement[bool]:
    """Return the condition that a row of a timeline holds at an instant."""
    return (table.since <= at) & or_(table.until.is_(None), table.until > at)
