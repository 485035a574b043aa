"""Actors: accounts, people, machines and the operator, with their rights on units and equipment.

What an actor may not see does not exist for them: they get NotFound, which names nothing. NotGranted is for what they
may see but may not do.
"""

import msgspec
from sqlalchemy import ColumnElement, and_, false, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.devices.tables import EquipmentUnit
from core.errors import NotFound, NotGranted, NotSignedIn
from core.ids import AccountId, EquipmentId, PersonId, UnitId
from core.runtime.instant import Instant
from core.units.rights import OF_A_PERSON, RIGHTS, Right, Role
from core.units.tables import Account, Contact, Grant, Person, Unit


class Holding(msgspec.Struct, frozen=True):
    """Rights on a unit and all units below it; `path` is the unit's path, or `/` for all units."""

    path: str
    rights: frozenset[Right]


class EquipmentHolding(msgspec.Struct, frozen=True):
    """Rights on one equipment while it is in one unit; nothing else of that unit."""

    equipment: EquipmentId
    unit: UnitId
    rights: frozenset[Right]


class Actor(msgspec.Struct, frozen=True):
    """An account, a person known by WeChat, a machine's token, or the operator at the command line."""

    name: str
    """Name in the audit log: `account:3`, `person:7`, `token:2`, `operator`."""
    holdings: tuple[Holding, ...]
    account: AccountId | None = None
    person: PersonId | None = None
    equipment: tuple[EquipmentHolding, ...] = ()

    def holdings_on(self, unit: Unit) -> list[Holding]:
        """Return the holdings that cover a unit."""
        return [holding for holding in self.holdings if unit.path.startswith(holding.path)]

    def may(self, right: Right, *, on: Unit, equipment: EquipmentId | None = None) -> bool:
        """Return whether the actor has a right on a unit, or on one equipment that is (or was) in it."""
        return any(right in holding.rights for holding in self.holdings_on(on)) or any(
            right in holding.rights and holding.equipment == equipment and holding.unit == on.id
            for holding in self.equipment
        )

    def require(
        self, right: Right, *, on: Unit, equipment: EquipmentId | None = None, asked: tuple[str, object] | None = None
    ) -> None:
        """Check that the actor has a right. `asked` is kind and id of the object for NotFound; the unit by default.

        Raises: NotFound when the actor may not see the unit, NotGranted when they may see it but lack the right.
        """
        if self.may(right, on=on, equipment=equipment):
            return
        if not self.may(Right.SEE, on=on, equipment=equipment):
            raise NotFound(*(asked or ("unit", on.id)))
        msg = f"{self.name} was not granted {right.value!r} on {on.name}"
        raise NotGranted(msg)

    def scope(self, right: Right, equipment: InstrumentedAttribute[EquipmentId] | None = None) -> ColumnElement[bool]:
        """Return the SQL condition that selects the units on which the actor has a right.

        With a column that holds equipment ids it also selects the actor's single equipment.
        """
        paths = [holding.path for holding in self.holdings if right in holding.rights]
        covered = or_(false(), *(Unit.path.startswith(path, autoescape=True) for path in paths))
        return covered if equipment is None else or_(covered, self.equipment_scope(right, equipment))

    def equipment_scope(self, right: Right, equipment: InstrumentedAttribute[EquipmentId]) -> ColumnElement[bool]:
        """Return the SQL condition that selects the actor's single equipment by unit and column `equipment`."""
        single = [holding for holding in self.equipment if right in holding.rights]
        return or_(false(), *(and_(Unit.id == holding.unit, equipment == holding.equipment) for holding in single))


OPERATOR = Actor("operator", (Holding("/", frozenset(Right)),))
"""Actor of the command line (import, init, user add): somebody who has a shell on the machine."""


def actor_of_account(tx: Session, account: Account, now: Instant) -> Actor:
    """Return the actor of an account with its grants in force now.

    Raises: NotSignedIn when the account is disabled.
    """
    if account.disabled:
        msg = "this account is disabled"
        raise NotSignedIn(msg)
    rows = tx.execute(
        select(Unit.path, Grant.role)
        .join(Unit, Unit.id == Grant.unit_id)
        .where(Grant.account_id == account.id, Grant.since <= now, or_(Grant.until.is_(None), Grant.until > now))
        .order_by(Unit.path)
    )
    holdings = tuple(Holding(path, RIGHTS[Role(role)]) for path, role in rows)
    name = f"account:{account.id}"
    return Actor(name, holdings, account=account.id, person=account.person_id)


def actor_of_person(tx: Session, person: Person, now: Instant) -> Actor:
    """Return the actor of a person who signed in through WeChat: may see, acknowledge and handle, never administer.

    A person can see everything that they are told of. A contact of a unit, and a person who works in a unit, get that
    unit and all units below it. A contact of one equipment gets that equipment only, in the unit where it stands now. A
    person who works in that unit, but is a contact only of single equipment in it, gets only that equipment, also after
    the equipment has moved to another unit.

    Raises: NotSignedIn when they have left.
    """
    if person.left_at is not None and person.left_at <= now:
        msg = "this person has left"
        raise NotSignedIn(msg)
    contact_unit_ids = set(
        tx.scalars(select(Contact.unit_id).where(Contact.person_id == person.id, Contact.unit_id.is_not(None)))
    )
    placements = tx.execute(
        select(EquipmentUnit.equipment_id, EquipmentUnit.unit_id)
        .join(Contact, Contact.equipment_id == EquipmentUnit.equipment_id)
        .where(
            Contact.person_id == person.id,
            EquipmentUnit.since <= now,
            or_(EquipmentUnit.until.is_(None), EquipmentUnit.until > now),
        )
        .distinct()
        .order_by(EquipmentUnit.equipment_id)
    ).all()
    stood_in_home_unit = tx.scalar(
        select(EquipmentUnit.id)
        .join(Contact, Contact.equipment_id == EquipmentUnit.equipment_id)
        .where(Contact.person_id == person.id, EquipmentUnit.unit_id == person.unit_id, EquipmentUnit.since <= now)
        .limit(1)
    )
    unit_ids = contact_unit_ids if stood_in_home_unit is not None else {*contact_unit_ids, person.unit_id}
    paths = tx.scalars(select(Unit.path).where(Unit.id.in_(unit_ids)).order_by(Unit.path))
    return Actor(
        f"person:{person.id}",
        tuple(Holding(path, OF_A_PERSON) for path in paths),
        person=person.id,
        equipment=tuple(EquipmentHolding(equipment, unit, OF_A_PERSON) for equipment, unit in placements),
    )
