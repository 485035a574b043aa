"""Units and people of an import file: added, changed, or left as they are."""

from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from coldchain.importing.columns import PersonRow, UnitRow
from coldchain.importing.import_run import ImportRun, RowOutcome
from coldchain.importing.mistakes import Mistake, message
from core.ids import UnitId
from core.units import people, tree
from core.units.people import NewPerson
from core.units.queries import people_by_name
from core.units.tables import Person, Unit
from core.units.tree import UnitParticulars


def write_units(run: ImportRun, rows: Sequence[UnitRow]) -> None:
    """Add, change and move units as their rows say, parents before their children."""
    waves, circles = parents_first(rows)
    run.mistakes += circles
    for wave in waves:
        for chunk in run.chunks(wave):
            run.settle(
                chunk,
                partial(_decide_unit, run),
                partial(tree.add_units, run.tx, run.actor, now=run.now, since=min(run.since, run.now)),
                run.keep_unit,
            )


def _decide_unit(run: ImportRun, row: UnitRow) -> RowOutcome | tuple[UnitParticulars, Unit | None]:
    """Change an existing unit, or return the new one. Without `parent` a unit keeps its place."""
    parent = None if row.parent is None else run.unit(row.parent)
    unit = run.units.get(row.code)
    particulars = UnitParticulars(name=row.name, kind=row.kind, level=row.level, code=row.code)
    if unit is not None:
        particulars = replace(tree.particulars(unit), name=row.name, kind=row.kind, level=row.level)
    if row.timezone is not None:
        particulars = replace(particulars, timezone=row.timezone)
    if unit is None:
        return particulars, parent
    moved = parent is not None and unit.parent_id != parent.id
    if moved:
        tree.move_unit(run.tx, run.actor, unit, parent, now=run.now)
    changed = tree.particulars(unit) != particulars
    if changed:
        tree.change_unit(run.tx, run.actor, unit, particulars, now=run.now)
    return RowOutcome.of(changed=moved or changed)


def parents_first(rows: Sequence[UnitRow]) -> tuple[list[list[UnitRow]], list[Mistake]]:
    """Return units in waves, each below those before it, and a mistake for each unit in a circle."""
    waiting = list(rows)
    waves: list[list[UnitRow]] = []
    while waiting:
        ahead = {row.code for row in waiting}
        ready = [row for row in waiting if row.parent not in ahead]
        if not ready:
            return waves, [Mistake(row.place, message("circle"), "parent", str(row.parent)) for row in waiting]
        waves.append(ready)
        waiting = [row for row in waiting if row.parent in ahead]
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


def _decide_person(run: ImportRun, known: dict[tuple[UnitId, str], Person], row: PersonRow) -> RowOutcome | NewPerson:
    unit = run.unit(row.unit)
    person = known.get((unit.id, row.name))
    if person is None:
        return NewPerson(unit, row.name, row.phone, row.openid)
    run.people[unit.id, row.name] = person.id
    changed = False
    if row.phone is not None:
        changed = people.set_phone(run.tx, run.actor, person, row.phone, run.cipher, now=run.now)
    if row.openid is not None:
        changed |= people.bind_wechat(run.tx, run.actor, person, row.openid, now=run.now)
    run.tx.flush()
    return RowOutcome.of(changed=changed)
