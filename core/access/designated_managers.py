"""Designated managers: the one person of each unit who manages the system there, and units without one (UP-05)."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, exists, or_, select
from sqlalchemy.orm import Session

from core.access.tables import DesignatedManager
from core.db import audit
from core.db.in_force import in_force
from core.errors import Invalid
from core.ids import PersonId, UnitId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.queries import visible_unit
from core.units.rights import Right
from core.units.tables import Person, Unit


class ManagerOfUnit(msgspec.Struct, frozen=True):
    """A unit and its designated manager."""

    unit: Unit
    person: Person
    since: Instant


def designate(tx: Session, actor: Actor, unit: UnitId, person: PersonId, *, now: Instant) -> ManagerOfUnit:
    """Make a person of a unit its designated manager, in place of the one before.

    Raises: NotFound, PermissionDenied, Invalid for a person of another unit, or whose phone number isn't known.
    """
    place = visible_unit(tx, actor, unit)
    actor.require(Right.CONTACTS, on=place)
    row = tx.get(Person, person)
    if row is None or row.unit_id != unit or (row.left_at is not None and row.left_at <= now):
        raise Invalid(field="person", value=person, problem="nobody who works in this unit")
    if row.phone is None:
        raise Invalid(field="person", value=person, problem="a designated manager needs a phone number")
    mine = select(DesignatedManager).where(DesignatedManager.unit_id == unit)
    present = tx.scalar(mine.where(DesignatedManager.until.is_(None)).with_for_update())
    if present is not None and present.person_id == person:
        return ManagerOfUnit(place, row, present.since)
    if present is not None:
        present.until = Instant(max(now, present.since + 1))
        tx.flush()
    since = now if present is None or present.until is None else present.until
    tx.add(DesignatedManager(unit_id=unit, person_id=person, since=since))
    audit.record(
        tx, at=now, actor=actor.name, act="manager designated", subject=f"unit:{unit}", detail={"person": person}
    )
    tx.flush()
    return ManagerOfUnit(place, row, since)


def designated_manager(tx: Session, actor: Actor, unit: UnitId, now: Instant) -> ManagerOfUnit | None:
    """Return the designated manager of a unit, or None.

    Raises: NotFound.
    """
    place = visible_unit(tx, actor, unit)
    query = (
        select(Person, DesignatedManager.since)
        .join(DesignatedManager, DesignatedManager.person_id == Person.id)
        .where(DesignatedManager.unit_id == unit, in_force(DesignatedManager, now), _serves(now))
    )
    found = tx.execute(query).first()
    return None if found is None else ManagerOfUnit(place, found[0], found[1])


def units_without_manager(tx: Session, actor: Actor, now: Instant, *, after: int, limit: int) -> Sequence[Unit]:
    """Return the units that the actor sees, aren't stopped, and have nobody who is designated and can be called."""
    has_manager = exists(
        select(DesignatedManager.id)
        .join(Person, Person.id == DesignatedManager.person_id)
        .where(DesignatedManager.unit_id == Unit.id, in_force(DesignatedManager, now), _serves(now))
    )
    is_running = or_(Unit.until.is_(None), Unit.until > now)
    query = select(Unit).where(actor.scope(Right.SEE), is_running, ~has_manager, Unit.id > after)
    return tx.scalars(query.order_by(Unit.id).limit(limit)).all()


def _serves(now: Instant) -> ColumnElement[bool]:
    return Person.phone.is_not(None) & or_(Person.left_at.is_(None), Person.left_at > now)
