"""Lists of accounts and people: the user list of units, business administrators of provinces, and people of units."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from core.access.management import account_scope, require_lists_accounts, unit_scope
from core.db.in_force import in_force
from core.ids import UnitId
from core.runtime.instant import Instant
from core.units.account_states import AccountState
from core.units.actor import Actor
from core.units.named_persons import with_duplicate_identity
from core.units.queries import in_subtree, in_unit, visible_unit
from core.units.rights import Right, Role
from core.units.tables import Account, Grant, Person, Unit
from core.units.unit_levels import Level


class ListedAccount(msgspec.Struct, frozen=True):
    """An account with its unit and person; an account of the operator's may have neither."""

    account: Account
    unit: Unit | None
    person: Person | None
    has_duplicate_identity: bool


class ListedPerson(msgspec.Struct, frozen=True):
    """A person with their unit."""

    person: Person
    unit: Unit
    has_duplicate_identity: bool


class ListedAdministrator(msgspec.Struct, frozen=True):
    """A business administrator of a province, as it is filed upward (UP-28)."""

    account: Account
    unit: Unit
    person: Person | None
    since: Instant


def accounts(
    tx: Session, actor: Actor, *, unit: UnitId | None = None, below: bool = False, after: int, limit: int
) -> list[ListedAccount]:
    """Return the accounts that the actor may see, closed ones too, by the order in which they were opened (UP-09).

    Raises: NotFound for a unit that the actor doesn't see, PermissionDenied when they may list accounts nowhere.
    """
    require_lists_accounts(actor)
    where = None if unit is None else visible_unit(tx, actor, unit)
    query = _with_people().where(account_scope(actor), Account.id > after).order_by(Account.id).limit(limit)
    if where is not None:
        query = query.where(in_subtree(where) if below else in_unit(where))
    return _listed(tx, query)


def listed_account(tx: Session, account: Account) -> ListedAccount:
    """Return an account with its unit and person."""
    (listed,) = _listed(tx, _with_people().where(Account.id == account.id))
    return listed


def people(
    tx: Session, actor: Actor, *, unit: UnitId | None = None, below: bool = False, after: int, limit: int
) -> list[ListedPerson]:
    """Return the people of units whose contacts or accounts the actor manages, those who have left too.

    Raises: NotFound for a unit that the actor doesn't see, PermissionDenied when they may list people nowhere.
    """
    where = None if unit is None else visible_unit(tx, actor, unit)
    if not any(Right.CONTACTS in holding.rights for holding in actor.holdings):
        require_lists_accounts(actor)
    query = (
        select(Person, Unit)
        .join(Unit, Unit.id == Person.unit_id)
        .where(or_(actor.scope(Right.CONTACTS), unit_scope(actor)), Person.id > after)
        .order_by(Person.id)
        .limit(limit)
    )
    if where is not None:
        query = query.where(in_subtree(where) if below else in_unit(where))
    rows = tx.execute(query).all()
    twice = with_duplicate_identity(tx, [row[0] for row in rows])
    return [ListedPerson(person, place, person.id in twice) for person, place in rows]


def province_administrators(tx: Session, actor: Actor, now: Instant) -> list[ListedAdministrator]:
    """Return the business administrators of provinces whose accounts are open, for filing upward (UP-28).

    Raises: PermissionDenied when the actor may list accounts nowhere.
    """
    require_lists_accounts(actor)
    query = (
        select(Account, Unit, Person, Grant.since)
        .join(Grant, Grant.account_id == Account.id)
        .join(Unit, Unit.id == Grant.unit_id)
        .outerjoin(Person, Person.id == Account.person_id)
        .where(
            Unit.level == Level.PROVINCE,
            Grant.role == Role.BUSINESS_ADMIN,
            Account.state == AccountState.OPEN,
            in_force(Grant, now),
            unit_scope(actor),
        )
        .order_by(Unit.path, Account.id)
    )
    return [ListedAdministrator(account, unit, person, since) for account, unit, person, since in tx.execute(query)]


def accounts_with_grants(tx: Session, now: Instant) -> list[tuple[Account, str | None, str | None]]:
    """Return all accounts by user name, each with role and unit name of every grant in force, or with None twice."""
    query = (
        select(Account, Grant.role, Unit.name)
        .outerjoin(Grant, (Grant.account_id == Account.id) & in_force(Grant, now))
        .outerjoin(Unit, Unit.id == Grant.unit_id)
        .order_by(Account.username, Unit.path)
    )
    return [(account, role, unit) for account, role, unit in tx.execute(query)]


def _with_people() -> Select[Account, Unit, Person]:
    return (
        select(Account, Unit, Person)
        .outerjoin(Unit, Unit.id == Account.unit_id)
        .outerjoin(Person, Person.id == Account.person_id)
    )


def _listed(tx: Session, query: Select[Account, Unit, Person]) -> list[ListedAccount]:
    rows: Sequence[tuple[Account, Unit | None, Person | None]] = [(a, u, p) for a, u, p in tx.execute(query)]
    twice = with_duplicate_identity(tx, [person for _, _, person in rows if person is not None])
    return [
        ListedAccount(account, unit, person, person is not None and person.id in twice)
        for account, unit, person in rows
    ]
