"""Who is told at which level, as an import file says: levels of a unit's people, contacts of an equipment."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import ColumnElement, select

from coldchain.importing.rows import ContactRow, PersonRow, Row
from coldchain.importing.run import Outcome, Run
from core.devices.bindings import unit_of_equipment
from core.ids import EquipmentId, PersonId, UnitId
from core.units.contacts import ContactLevel, set_contacts
from core.units.tables import Contact, Unit

Told = dict[ContactLevel, list[PersonId]]


def write_levels(run: Run, rows: Sequence[PersonRow]) -> None:
    """Tell each unit's people at the levels that their rows say; whom the file doesn't name, as before."""
    said: dict[UnitId, dict[PersonId, PersonRow]] = defaultdict(dict)
    for row in rows:
        if row.levels is not None and not run.is_mistaken(row):
            unit = run.unit(row.unit)
            said[unit.id][run.person(unit, row.name).id] = row
    for unit_id, named in said.items():
        before = _told(run, Contact.unit_id == unit_id)
        after = {
            level: [person for person in before[level] if person not in named or level in (named[person].levels or ())]
            + [person for person, row in named.items() if level in (row.levels or ()) and person not in before[level]]
            for level in ContactLevel
        }
        row = next(iter(named.values()))
        _settle(run, row, run.unit(row.unit), None, before, after)


def write_contacts(run: Run, rows: Sequence[ContactRow]) -> None:
    """Tell of an equipment, at each level that the file names for it, exactly those whom it names."""
    named: dict[EquipmentId, Told] = defaultdict(lambda: defaultdict(list))
    homes: dict[EquipmentId, tuple[ContactRow, Unit]] = {}

    def note(run: Run, row: ContactRow) -> None:
        equipment = run.one_equipment(row.equipment)
        home = unit_of_equipment(run.tx, equipment.id, run.now)
        works_in = home if row.unit is None else run.unit(row.unit)
        person = run.person(works_in, row.person)
        named[equipment.id][row.level].append(person.id)
        homes.setdefault(equipment.id, (row, home))

    run.each(rows, note)
    for equipment, after in named.items():
        row, home = homes[equipment]
        _settle(run, row, home, equipment, _told(run, Contact.equipment_id == equipment), after)


def _told(run: Run, owner: ColumnElement[bool]) -> Told:
    told: Told = {level: [] for level in ContactLevel}
    for level, person in run.tx.execute(select(Contact.level, Contact.person_id).where(owner).order_by(Contact.id)):
        told[ContactLevel(level)].append(person)
    return told


def _settle(run: Run, row: Row, unit: Unit, equipment: EquipmentId | None, before: Told, after: Told) -> None:
    changed = {level: people for level, people in after.items() if people != before[level]}

    def change() -> None:
        set_contacts(run.tx, run.actor, unit, changed, equipment=equipment, now=run.now)

    if changed:
        run.told(row, change)
    for level, people in after.items():
        if people or before[level]:
            run.count("contacts of a level", _became(before[level], people))


def _became(before: Sequence[PersonId], after: Sequence[PersonId]) -> Outcome:
    return Outcome.ADDED if after and not before else Outcome.of(changed=after != before)
