"""Units and people of an import file: added, changed, or left as they are."""

from collections.abc import Sequence

from msgspec.structs import replace

from coldchain.importing.files import Mistake
from coldchain.importing.rows import PersonRow, UnitRow
from coldchain.importing.run import Outcome, Run
from core.units import people, tree
from core.units.tree import Particulars


def write_unit(run: Run, row: UnitRow) -> Outcome:
    """Add a unit, or change and move it to be as the row says. Without `parent` it stays where it hangs."""
    parent = None if row.parent is None else run.unit(row.parent, "parent")
    wanted = Particulars(name=row.name, kind=row.kind, level=row.level, code=row.code)
    if row.timezone is not None:
        wanted = replace(wanted, timezone=row.timezone)
    unit = run.units.get(row.code)
    if unit is None:
        run.units[row.code] = tree.add_unit(run.tx, run.actor, wanted, parent=parent, now=run.now)
        return Outcome.ADDED
    if row.timezone is None:
        wanted = replace(wanted, timezone=unit.timezone)
    moved = parent is not None and unit.parent_id != parent.id
    if moved:
        tree.move_unit(run.tx, run.actor, unit, parent, now=run.now)
    changed = tree.particulars(unit) != wanted
    if changed:
        tree.change_unit(run.tx, run.actor, unit, wanted, now=run.now)
    return Outcome.of(changed=moved or changed)


def parents_first(rows: Sequence[UnitRow]) -> tuple[list[UnitRow], list[Mistake]]:
    """Order units so that each follows the one that it hangs under; the mistakes are circles."""
    waiting = list(rows)
    ordered: list[UnitRow] = []
    while waiting:
        ahead = {row.code for row in waiting}
        ready = [row for row in waiting if row.parent not in ahead]
        if not ready:
            circle = "hangs, by way of others, under itself"
            return ordered, [Mistake(row.where, "parent", str(row.parent), circle) for row in waiting]
        ordered += ready
        waiting = [row for row in waiting if row.parent in ahead]
    return ordered, []


def write_person(run: Run, row: PersonRow) -> Outcome:
    """Add a person, or note another phone or openid; what the row doesn't say stays."""
    unit = run.unit(row.unit)
    person = run.people.get((unit.id, row.name))
    added = person is None
    if person is None:
        person = people.add_person(run.tx, run.actor, unit, row.name, now=run.now)
        run.people[unit.id, row.name] = person
    changed = False
    if row.phone is not None:
        changed = people.set_phone(run.tx, run.actor, person, row.phone, run.cipher, now=run.now)
    if row.openid is not None:
        changed |= people.bind_wechat(run.tx, run.actor, person, row.openid, now=run.now)
    run.tx.flush()
    return Outcome.ADDED if added else Outcome.of(changed=changed)
