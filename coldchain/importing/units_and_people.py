"""Units and people of an import file: added, changed, or left as they are."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from coldchain.importing.columns import PersonRow, UnitRow
from coldchain.importing.import_run import ImportRun, RowOutcome
from coldchain.importing.mistakes import FieldProblem, Mistake, message
from core.errors import DomainError
from core.ids import UnitId
from core.runtime.instant import local_day
from core.units import people, tree
from core.units.people import NewPerson
from core.units.queries import people_by_name
from core.units.tables import Person, Unit
from core.units.tree import UnitParticulars
from core.units.unit_codes import check_imported_code, enter_imported_codes


def write_units(run: ImportRun, rows: Sequence[UnitRow]) -> None:
    """Add, change and move units as their rows say, after those that they refer to."""
    waves, circles = parents_first(rows)
    run.mistakes += circles
    for wave in waves:
        for chunk in run.chunks(wave):
            run.settle(chunk, partial(_decide_unit, run), partial(_add_units, run), run.keep_unit)


def _add_units(run: ImportRun, new: list[tuple[UnitParticulars, Unit | None]]) -> list[Unit | DomainError]:
    since = min(run.since, run.now)
    added = tree.add_units(run.tx, run.actor, new, now=run.now, since=since)
    units = [unit for unit in added if not isinstance(unit, DomainError)]
    enter_imported_codes(run.tx, run.actor, units, since=since, now=run.now)
    return added


def _decide_unit(run: ImportRun, row: UnitRow) -> RowOutcome | tuple[UnitParticulars, Unit | None]:
    """Change an existing unit, or return the new one. What a row leaves out stays as it is."""
    parent = None if row.parent is None else run.unit(row.parent)
    unit = run.units.get(row.code)
    before = UnitParticulars(name=row.name, kind=row.kind, level=row.level, code=row.code)
    if unit is not None:
        before = replace(tree.particulars(unit), name=row.name, kind=row.kind, level=row.level)
    particulars = replace(before, **_given(run, row))
    if unit is None:
        check_imported_code(particulars, run.divisions, run.now)
        return particulars, parent
    held = None if row.businesses is None else tree.businesses_of(run.tx, [unit.id])[unit.id]
    moved = parent is not None and unit.parent_id != parent.id
    if moved:
        tree.move_unit(run.tx, run.actor, unit, parent, now=run.now)
    changed = replace(tree.particulars(unit), businesses=held) != particulars
    if changed:
        tree.change_unit(run.tx, run.actor, unit, particulars, now=run.now)
    return RowOutcome.of(changed=moved or changed)


def _given(run: ImportRun, row: UnitRow) -> dict[str, Any]:
    """Return what a row says of the attributes that it may leave out."""
    if row.division is not None:
        run.divisions.require("division", row.division, local_day(run.now, ZoneInfo(row.timezone or "UTC")))
    given: dict[str, Any] = {
        field: value
        for field in ("timezone", "division", "uscc", "entity", "grade", "address", "telephone")
        if (value := getattr(row, field)) is not None
    }
    if row.institution is not None:
        given["institution"] = run.unit(row.institution).id
    if row.businesses is not None:
        given["businesses"] = frozenset(row.businesses)
    return given


def parents_first(rows: Sequence[UnitRow]) -> tuple[list[list[UnitRow]], list[Mistake]]:
    """Return units in waves, each behind the units that its rows name, and a mistake for each unit in a circle."""
    waiting = list(rows)
    waves: list[list[UnitRow]] = []
    while waiting:
        ahead = {row.code for row in waiting}
        ready = [row for row in waiting if not {row.parent, row.institution} & ahead]
        if not ready:
            return waves, [Mistake(row.place, message("circle"), "parent", str(row.parent)) for row in waiting]
        waves.append(ready)
        written = {row.code for row in ready}
        waiting = [row for row in waiting if row.code not in written]
    return waves, []


def write_people(run: ImportRun, rows: Sequence[PersonRow]) -> None:
    """Add people, or change phone and openid where the row has them."""
    for chunk in run.chunks(rows):
        units = {run.units[row.unit].id for row in chunk if row.unit in run.units}
        known = people_by_name(run.tx, units)
        run.settle(
            chunk,
            partial(_decide_person, run, known),
            partial(people.add_people, run.tx, run.actor, cipher=run.cipher, now=run.now),
            run.keep_person,
        )


def _decide_person(
    run: ImportRun, known: dict[tuple[UnitId, str], list[Person]], row: PersonRow
) -> RowOutcome | NewPerson:
    unit = run.unit(row.unit)
    namesakes = known.get((unit.id, row.name), [])
    if not namesakes:
        return NewPerson(unit, row.name, row.phone, row.openid)
    person = one_of_namesakes(run, namesakes, unit, phone=row.phone, openid=row.openid)
    run.people[unit.id, row.name] = person.id
    changed = False
    if row.phone is not None:
        changed = people.set_phone(run.tx, run.actor, person, row.phone, run.cipher, now=run.now)
    if row.openid is not None:
        changed |= people.bind_wechat(run.tx, run.actor, person, row.openid, now=run.now)
    run.tx.flush()
    return RowOutcome.of(changed=changed)


def one_of_namesakes(
    run: ImportRun, namesakes: Sequence[Person], unit: Unit, *, phone: str | None, openid: str | None = None
) -> Person:
    """Return the person whom a row means: the only one of that name, or the one with the row's phone or openid.

    Raises: FieldProblem when several people of the unit have the name and the row doesn't tell which.
    """
    if len(namesakes) == 1:
        return namesakes[0]
    index = None if phone is None else people.phone_index(phone, run.cipher)
    meant = [
        person
        for person in namesakes
        if (openid is not None and person.openid == openid) or (index is not None and person.phone_index == index)
    ]
    if len(meant) == 1:
        return meant[0]
    problem = message("namesakes", unit=unit.name)
    raise FieldProblem(field="name", value=namesakes[0].name, problem=problem)
