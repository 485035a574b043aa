"""Who asks, and what they may do where. Every answer is limited to what an actor was granted."""

import msgspec
from sqlalchemy import ColumnElement, false, or_, select
from sqlalchemy.orm import Session

from core.devices.tables import EquipmentUnit
from core.errors import NotGranted, NotSignedIn
from core.ids import AccountId, PersonId
from core.runtime.instant import Instant
from core.units.rights import OF_A_PERSON, RIGHTS, Right, Role
from core.units.tables import Account, Contact, Grant, Person, Unit


class Holding(msgspec.Struct, frozen=True):
    """Rights on a unit and all below it; `path` is the unit's, or `/` for every unit."""

    path: str
    rights: frozenset[Right]


class Actor(msgspec.Struct, frozen=True):
    """An account, a person known by WeChat, a machine's token, or the operator at the command line."""

    name: str
    """As the audit has it: `account:3`, `person:7`, `token:2`, `operator`."""
    holdings: tuple[Holding, ...]
    account: AccountId | None = None
    person: PersonId | None = None

    def holdings_on(self, unit: Unit) -> list[Holding]:
        """Return the holdings that reach down to a unit."""
        return [held for held in self.holdings if unit.path.startswith(held.path)]

    def may(self, right: Right, *, on: Unit) -> bool:
        """Whether this may be done on a unit."""
        return any(right in held.rights for held in self.holdings_on(on))

    def require(self, right: Right, *, on: Unit) -> None:
        """Let pass who may do this.

        Raises: NotGranted.
        """
        if not self.may(right, on=on):
            msg = f"{self.name} was not granted {right.value!r} on {on.name}"
            raise NotGranted(msg)

    def scope(self, right: Right) -> ColumnElement[bool]:
        """Return the condition on `Unit` that leaves only units on which this may be done; none unless granted."""
        paths = [held.path for held in self.holdings if right in held.rights]
        return or_(false(), *(Unit.path.startswith(path, autoescape=True) for path in paths))


OPERATOR = Actor("operator", (Holding("/", frozenset(Right)),))
"""Who has a shell on the machine: import, init, user add."""


def actor_of_account(tx: Session, account: Account, now: Instant) -> Actor:
    """Return what an account may do now.

    Raises: NotSignedIn when it was disabled.
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
    return Actor(f"account:{account.id}", holdings, account=account.id, person=account.person_id)


def actor_of_person(tx: Session, person: Person, now: Instant) -> Actor:
    """Return what somebody may do who came through WeChat: watch, acknowledge and handle, never administer.

    In their own unit, and wherever they are a contact: nobody is woken for what they then may not see.
    Raises: NotSignedIn when they have left.
    """
    if person.left_at is not None and person.left_at <= now:
        msg = "this person has left"
        raise NotSignedIn(msg)
    told_for = select(Contact.unit_id).where(Contact.person_id == person.id, Contact.unit_id.is_not(None))
    equipment = select(EquipmentUnit.unit_id).join(Contact, Contact.equipment_id == EquipmentUnit.equipment_id)
    stands_in = equipment.where(
        Contact.person_id == person.id,
        EquipmentUnit.since <= now,
        or_(EquipmentUnit.until.is_(None), EquipmentUnit.until > now),
    )
    where = or_(Unit.id == person.unit_id, Unit.id.in_(told_for), Unit.id.in_(stands_in))
    paths = tx.scalars(select(Unit.path).where(where).order_by(Unit.path))
    return Actor(f"person:{person.id}", tuple(Holding(path, OF_A_PERSON) for path in paths), person=person.id)
