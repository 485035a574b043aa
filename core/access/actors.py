"""Actors of accounts and of people known by WeChat: what each may do where, from grants and contacts."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.access.tables import Substitution
from core.db.in_force import in_force
from core.devices.tables import EquipmentUnit
from core.errors import NotSignedIn
from core.runtime.instant import Instant
from core.units.account_states import AccountState
from core.units.actor import Actor, EquipmentHolding, Holding
from core.units.rights import PERSON_RIGHTS, Right, rights_of
from core.units.tables import Account, Contact, Grant, Person, Unit


def actor_of_account(tx: Session, account: Account, now: Instant) -> Actor:
    """Return the actor of an account with its grants in force now, and with what it may review in place of others.

    Raises: NotSignedIn when the account is closed or locked.
    """
    if account.state is not AccountState.OPEN:
        msg = f"this account is {account.state.value}"
        raise NotSignedIn(msg)
    rows = tx.execute(
        select(Unit.path, Unit.level, Grant.role)
        .join(Unit, Unit.id == Grant.unit_id)
        .where(Grant.account_id == account.id, in_force(Grant, now))
        .order_by(Unit.path)
    )
    holdings = tuple(Holding(path, rights_of(role, level)) for path, level, role in rows)
    name = f"account:{account.id}"
    return Actor(name, holdings + _lent(tx, account, now), account=account.id, person=account.person_id)


def _lent(tx: Session, account: Account, now: Instant) -> tuple[Holding, ...]:
    """Return what an account may do now in place of others: review where they may, and see it. Nothing else is lent."""
    rows = tx.execute(
        select(Unit.path, Unit.level, Grant.role)
        .join(Unit, Unit.id == Grant.unit_id)
        .join(Substitution, Substitution.absent_id == Grant.account_id)
        .join(Account, Account.id == Substitution.absent_id)
        .where(
            Substitution.substitute_id == account.id,
            Account.state == AccountState.OPEN,
            in_force(Substitution, now),
            in_force(Grant, now),
        )
        .order_by(Unit.path)
    )
    lent = frozenset({Right.SEE, Right.REVIEW})
    return tuple(Holding(path, lent) for path, level, role in rows if Right.REVIEW in rights_of(role, level))


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
            in_force(EquipmentUnit, now),
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
        tuple(Holding(path, PERSON_RIGHTS) for path in paths),
        person=person.id,
        equipment=tuple(EquipmentHolding(equipment, unit, PERSON_RIGHTS) for equipment, unit in placements),
    )
