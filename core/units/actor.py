"""Who asks, and what they may do where. Every answer is limited to what an actor was granted.

What somebody may not see does not exist for them: they are answered as if it were not there, without a name.
NotGranted is for what they may see and may not do.
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
    """Rights on a unit and all below it; `path` is the unit's, or `/` for every unit."""

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
    """As the audit has it: `account:3`, `person:7`, `token:2`, `operator`."""
    holdings: tuple[Holding, ...]
    account: AccountId | None = None
    person: PersonId | None = None
    equipment: tuple[EquipmentHolding, ...] = ()

    def holdings_on(self, unit: Unit) -> list[Holding]:
        """Return the holdings that reach down to a unit."""
        return [held for held in self.holdings if unit.path.startswith(held.path)]

    def may(self, right: Right, *, on: Unit, equipment: EquipmentId | None = None) -> bool:
        """Whether this may be done on a unit, or on one equipment that is (or at some time was) in it."""
        return any(right in held.rights for held in self.holdings_on(on)) or any(
            right in held.rights and held.equipment == equipment and held.unit == on.id for held in self.equipment
        )

    def require(
        self, right: Right, *, on: Unit, equipment: EquipmentId | None = None, asked: tuple[str, object] | None = None
    ) -> None:
        """Let pass who may do this. `asked` is what was asked for and its number, the unit unless given.

        Raises: NotFound when the actor may not see it, NotGranted when they may see it and not do this.
        """
        if self.may(right, on=on, equipment=equipment):
            return
        if not self.may(Right.SEE, on=on, equipment=equipment):
            raise NotFound(*(asked or ("unit", on.id)))
        msg = f"{self.name} was not granted {right.value!r} on {on.name}"
        raise NotGranted(msg)

    def scope(self, right: Right, equipment: InstrumentedAttribute[EquipmentId] | None = None) -> ColumnElement[bool]:
        """Return the condition on `Unit` that leaves only units on which this may be done; none unless granted.

        With the column that names an equipment it lets the actor's single equipment through as well.
        """
        paths = [held.path for held in self.holdings if right in held.rights]
        reached = or_(false(), *(Unit.path.startswith(path, autoescape=True) for path in paths))
        return reached if equipment is None else or_(reached, self.equipment_scope(right, equipment))

    def equipment_scope(self, right: Right, equipment: InstrumentedAttribute[EquipmentId]) -> ColumnElement[bool]:
        """Return the condition on `Unit` and an equipment's column that leaves only the actor's single equipment."""
        single = [held for held in self.equipment if right in held.rights]
        return or_(false(), *(and_(Unit.id == held.unit, equipment == held.equipment) for held in single))


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
    name = f"account:{account.id}"
    return Actor(name, holdings, account=account.id, person=account.person_id)


def actor_of_person(tx: Session, person: Person, now: Instant) -> Actor:
    """Return what somebody may do who came through WeChat: watch, acknowledge and handle, never administer.

    Nobody is woken for what they then may not see. A contact of a unit has that unit and all below it, as everybody who
    works in one has it; a contact of one equipment has that equipment alone, where it stands now. Who works in its unit
    and is a contact of nothing but single equipment there has no more of it than that equipment.
    Raises: NotSignedIn when they have left.
    """
    if person.left_at is not None and person.left_at <= now:
        msg = "this person has left"
        raise NotSignedIn(msg)
    told_for = set(
        tx.scalars(select(Contact.unit_id).where(Contact.person_id == person.id, Contact.unit_id.is_not(None)))
    )
    stands = tx.execute(
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
    units = told_for if any(unit == person.unit_id for _, unit in stands) else {*told_for, person.unit_id}
    paths = tx.scalars(select(Unit.path).where(Unit.id.in_(units)).order_by(Unit.path))
    return Actor(
        f"person:{person.id}",
        tuple(Holding(path, OF_A_PERSON) for path in paths),
        person=person.id,
        equipment=tuple(EquipmentHolding(equipment, unit, OF_A_PERSON) for equipment, unit in stands),
    )
