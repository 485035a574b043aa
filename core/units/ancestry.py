"""Ancestors of units at an instant, from the timeline of parents. The present tree is `Unit.path`."""

from sqlalchemy import literal, select
from sqlalchemy.orm import Session, aliased

from core.db.in_force import in_force
from core.ids import UnitId
from core.runtime.instant import Instant
from core.units.tables import Unit, UnitParent


def ancestors_at(tx: Session, unit: UnitId, at: Instant) -> list[Unit]:
    """Return the units above a unit at an instant, the nearest first; none before the unit was there.

    A level that the tree doesn't have is simply not in the list: a county under a province has no city (UC-27).
    """
    start = select(UnitParent.parent_id.label("unit_id"), literal(1).label("distance")).where(
        UnitParent.unit_id == unit, in_force(UnitParent, at)
    )
    above = start.cte("above", recursive=True)
    higher = aliased(UnitParent)
    step = select(higher.parent_id, above.c.distance + 1).join(above, higher.unit_id == above.c.unit_id)
    above = above.union_all(step.where(higher.since <= at, (higher.until.is_(None)) | (higher.until > at)))
    return list(tx.scalars(select(Unit).join(above, above.c.unit_id == Unit.id).order_by(above.c.distance)))


def stood_below_at(tx: Session, unit: UnitId, at: Instant) -> list[Unit]:
    """Return the units that stood directly under a unit at an instant, by their number."""
    query = select(Unit).join(UnitParent, UnitParent.unit_id == Unit.id)
    return list(tx.scalars(query.where(UnitParent.parent_id == unit, in_force(UnitParent, at)).order_by(Unit.id)))
