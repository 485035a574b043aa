"""Contacts of an import file: the levels of a unit's people, and the contacts of single equipment."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from coldchain.importing.columns import ContactRow, ImportRow, PersonRow
from coldchain.importing.import_run import CHUNK, ImportRun, PassedOver, RowOutcome
from coldchain.importing.mistakes import FieldProblem, message
from coldchain.importing.units_and_people import one_of_namesakes
from core.contacts.contacts import ContactChange, ContactLevel, change_contacts, equipment_contacts, unit_contacts
from core.devices.queries import units_of_equipment
from core.errors import Conflict
from core.ids import EquipmentId, PersonId
from core.units.queries import people_by_name, units_with_ids
from core.units.tables import Unit

PeopleByLevel = dict[ContactLevel, list[PersonId]]


class _ContactsChange(NamedTuple):
    """Contacts before and after the import, and the first row that names them."""

    row: ImportRow
    unit: Unit
    before: PeopleByLevel
    after: PeopleByLevel
    equipment: EquipmentId | None = None


def write_levels(run: ImportRun, rows: Sequence[PersonRow]) -> None:
    """Set the levels of each unit's people; who isn't in the file keeps theirs."""
    rows_by_unit: dict[str, dict[PersonId, PersonRow]] = defaultdict(dict)
    for row in rows:
        if row.levels is not None and not run.is_mistaken(row):
            rows_by_unit[row.unit][run.people[run.unit(row.unit).id, row.name]] = row
    codes = list(rows_by_unit)
    for start in range(0, len(codes), CHUNK):
        units = [run.unit(code) for code in codes[start : start + CHUNK]]
        contacts = unit_contacts(run.tx, [unit.id for unit in units])
        _write_changes(run, [_of_unit(unit, rows_by_unit[unit.code or ""], contacts[unit.id]) for unit in units])


def _of_unit(unit: Unit, named: Mapping[PersonId, PersonRow], before: PeopleByLevel) -> _ContactsChange:
    after = {
        level: [person for person in before[level] if person not in named or level in (named[person].levels or ())]
        + [person for person, row in named.items() if level in (row.levels or ()) and person not in before[level]]
        for level in ContactLevel
    }
    return _ContactsChange(next(iter(named.values())), unit, before, after)


def write_contacts(run: ImportRun, rows: Sequence[ContactRow]) -> None:
    """Set the contacts of equipment at the levels that the file names; other levels stay."""
    named: dict[EquipmentId, PeopleByLevel] = defaultdict(lambda: defaultdict(list))
    homes: dict[EquipmentId, tuple[ContactRow, Unit]] = {}
    for chunk in run.chunks(rows):
        there = _Homes(run, chunk)
        for row in chunk:
            found = run.attempt(row, partial(there.person, row))
            if found is not None:
                equipment, home, person = found
                named[equipment][row.level].append(person)
                homes.setdefault(equipment, (row, home))
    ids = list(named)
    for start in range(0, len(ids), CHUNK):
        part = ids[start : start + CHUNK]
        contacts = equipment_contacts(run.tx, part)
        _write_changes(run, [_ContactsChange(*homes[each], contacts[each], named[each], each) for each in part])


class _Homes:
    """Current units of the equipment in some contact rows, and the people of the units that they name."""

    def __init__(self, run: ImportRun, rows: Sequence[ContactRow]) -> None:
        self._run = run
        equipment = {run.equipment[row.equipment].id for row in rows if row.equipment in run.equipment}
        unit_ids = units_of_equipment(run.tx, equipment, run.now)
        units = {unit.id for code in {row.unit for row in rows} if code and (unit := run.units.get(code))}
        homes = units_with_ids(run.tx, set(unit_ids.values()))
        self._home = {each: homes[unit] for each, unit in unit_ids.items()}
        self._people = people_by_name(run.tx, units | set(homes))

    def person(self, row: ContactRow) -> tuple[EquipmentId, Unit, PersonId]:
        """Return the equipment of a row, its current unit, and the contact.

        Raises: PassedOver, Conflict, FieldProblem.
        """
        equipment = self._run.one_equipment(row.equipment)
        home = self._home.get(equipment.id)
        if home is None:
            raise Conflict(message("no_home", equipment=row.equipment))
        works_in = home if row.unit is None else self._run.unit(row.unit)
        namesakes = self._people.get((works_in.id, row.person), [])
        if not namesakes:
            if self._run.is_mistaken_key(("person", works_in.code or "", row.person)):
                raise PassedOver
            raise FieldProblem(field="person", value=row.person, problem=message("unknown_person", unit=works_in.name))
        return equipment.id, home, one_of_namesakes(self._run, namesakes, works_in, phone=row.phone).id


def _write_changes(run: ImportRun, contact_changes: Sequence[_ContactsChange]) -> None:
    changes = []
    for each in contact_changes:
        changed = {level: people for level, people in each.after.items() if people != each.before[level]}
        if changed:
            changes.append((each, ContactChange(each.unit, changed, each.equipment)))
        for level, people in each.after.items():
            if people or each.before[level]:
                run.count("contacts", _became(each.before[level], people))
    refusals = change_contacts(run.tx, run.actor, [change for _, change in changes], now=run.now)
    for (each, _), refusal in zip(changes, refusals, strict=True):
        if refusal is not None:
            run.refuse(each.row, refusal)


def _became(before: Sequence[PersonId], after: Sequence[PersonId]) -> RowOutcome:
    return RowOutcome.ADDED if after and not before else RowOutcome.of(changed=after != before)
