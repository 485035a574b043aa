"""Unit queries: the units that an actor may see, and the SQL conditions for one unit and for its subtree."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from core.errors import NotFound, PermissionDenied
from core.ids import UnitId
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit


def in_unit(unit: Unit) -> ColumnElement[bool]:
    """Return the SQL condition on `Unit` that selects one unit."""
    return Unit.id == unit.id


def in_subtree(unit: Unit) -> ColumnElement[bool]:
    """Return the SQL condition on `Unit` that selects a unit and all units below it."""
    return Unit.path.startswith(unit.path, autoescape=True)


def unit_with_code(tx: Session, code: str) -> Unit | None:
    """Return the unit with a code, or None."""
    return tx.scalar(select(Unit).where(Unit.code == code))


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


def granted_units(tx: Session, actor: Actor) -> list[tuple[Unit, frozenset[Right]]]:
    """Return the units on which the actor was granted something, with the rights held there and below."""
    rights_by_path = {holding.path: holding.rights for holding in actor.holdings}
    units = tx.scalars(select(Unit).where(Unit.path.in_(rights_by_path)).order_by(Unit.id))
    return [(unit, rights_by_path[unit.path]) for unit in units]


def has_whole_tree(tx: Session, actor: Actor, right: Right) -> bool:
    """Return whether the actor has a right on every root, and so on every unit."""
    roots = tx.scalars(select(Unit).where(Unit.parent_id.is_(None))).all()
    return bool(roots) and all(actor.may(right, on=root) for root in roots)
