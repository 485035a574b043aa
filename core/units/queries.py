"""Unit queries: units and people by name, what an actor may see, and the SQL conditions for a unit or a subtree."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from core.db.in_values import in_values
from core.errors import NotFound, PermissionDenied
from core.ids import UnitId
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Person, Unit


def in_unit(unit: Unit) -> ColumnElement[bool]:
    """Return the SQL condition on `Unit` that selects one unit."""
    return Unit.id == unit.id


def in_subtree(unit: Unit) -> ColumnElement[bool]:
    """Return the SQL condition on `Unit` that selects a unit and all units below it."""
    return Unit.path.startswith(unit.path, autoescape=True)


def lineage(tx: Session, unit: Unit) -> Sequence[Unit]:
    """Return all units above a unit, from the root on, and last the unit itself."""
    ids = [UnitId(int(number)) for number in unit.path.split("/")[1:-1]]
    return tx.scalars(select(Unit).where(Unit.id.in_(ids)).order_by(func.length(Unit.path))).all()


def unit_with_code(tx: Session, code: str) -> Unit | None:
    """Return the unit with a code, or None."""
    return tx.scalar(select(Unit).where(Unit.code == code))


def units_with_codes(tx: Session, codes: Collection[str]) -> dict[str, Unit]:
    """Return the units with these codes; a code that no unit has is left out."""
    return {unit.code or "": unit for unit in tx.scalars(select(Unit).where(in_values(tx, Unit.code, codes)))}


def units_with_ids(tx: Session, ids: Collection[UnitId]) -> dict[UnitId, Unit]:
    """Return units by their ids."""
    return {unit.id: unit for unit in tx.scalars(select(Unit).where(in_values(tx, Unit.id, ids)))}


def root_unit(tx: Session) -> Unit:
    """Return the root of a tree that has exactly one."""
    return tx.scalars(select(Unit).where(Unit.parent_id.is_(None))).one()


def people_by_name(tx: Session, units: Collection[UnitId]) -> dict[tuple[UnitId, str], list[Person]]:
    """Return the people of units by unit and name, ordered by id: two of a unit may have one name.

    Of several namesakes only those who haven't left are returned, if there are any.
    """
    named: dict[tuple[UnitId, str], list[Person]] = defaultdict(list)
    for person in tx.scalars(select(Person).where(in_values(tx, Person.unit_id, units)).order_by(Person.id)):
        named[person.unit_id, person.name].append(person)
    return {key: [person for person in people if person.left_at is None] or people for key, people in named.items()}


def visible_unit(tx: Session, actor: Actor, unit: UnitId) -> Unit:
    """Return a unit that the actor may see.

    Raises: NotFound, also for a unit that they may not see.
    """
    row = tx.get(Unit, unit)
    if row is None or not actor.may(Right.SEE, on=row):
        raise NotFound(what="unit", name=unit)
    return row


def visible_units(tx: Session, actor: Actor, *, parent: UnitId | None, after: int, limit: int) -> Sequence[Unit]:
    """Return up to `limit` units that the actor may see, of all or directly below `parent`, ordered by id.

    For the next page, `after` is the id of the last one.
    """
    query = select(Unit).where(actor.scope(Right.SEE), Unit.id > after).order_by(Unit.id).limit(limit)
    return tx.scalars(query if parent is None else query.where(Unit.parent_id == parent)).all()


def first_visible_unit(tx: Session, actor: Actor) -> Unit | None:
    """Return the first unit that the actor may see; None for a contact of single equipment only.

    Raises: PermissionDenied for an actor without any grant.
    """
    first = tx.scalars(select(Unit).where(actor.scope(Right.SEE)).order_by(Unit.path).limit(1)).first()
    if first is None and not actor.equipment:
        msg = f"{actor.name} was granted no unit; an administrator has to"
        raise PermissionDenied(msg)
    return first


def neighbouring_units(tx: Session, actor: Actor, unit: Unit) -> Sequence[Unit]:
    """Return the visible units to which a unit's page links: those directly below, and those granted elsewhere."""
    granted = Unit.path.in_([holding.path for holding in actor.holdings])
    query = select(Unit).where(or_(Unit.parent_id == unit.id, granted), Unit.id != unit.id, actor.scope(Right.SEE))
    return tx.scalars(query.order_by(Unit.path)).all()


def visible_ancestors(tx: Session, actor: Actor, unit: Unit) -> Sequence[Unit]:
    """Return the units that stand above one now and that the actor may see, from the root on."""
    numbers = [int(number) for number in unit.path.strip("/").split("/")[:-1]]
    return tx.scalars(select(Unit).where(Unit.id.in_(numbers), actor.scope(Right.SEE)).order_by(Unit.path)).all()


def granted_units(tx: Session, actor: Actor) -> list[tuple[Unit, frozenset[Right]]]:
    """Return the units on which the actor was granted something, with the rights held there and below."""
    rights_by_path: dict[str, frozenset[Right]] = {}
    for holding in actor.holdings:
        rights_by_path[holding.path] = rights_by_path.get(holding.path, frozenset()) | holding.rights
    units = tx.scalars(select(Unit).where(Unit.path.in_(rights_by_path)).order_by(Unit.id))
    return [(unit, rights_by_path[unit.path]) for unit in units]


def has_whole_tree(tx: Session, actor: Actor, right: Right) -> bool:
    """Return whether the actor has a right on every root, and so on every unit."""
    roots = tx.scalars(select(Unit).where(Unit.parent_id.is_(None))).all()
    return bool(roots) and all(actor.may(right, on=root) for root in roots)
