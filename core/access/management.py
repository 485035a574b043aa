"""Management of accounts: who may open, close and reset whose, and whose accounts an actor may see.

Whoever manages nothing and grants nothing sees no account but their own: others are not found. Whoever stands above
sees the accounts of all units below, and is denied what only the managing unit may do.
"""

from sqlalchemy import ColumnElement, false, or_, true
from sqlalchemy.orm import Session

from core.errors import Invalid, NotFound, PermissionDenied
from core.ids import AccountId, UnitId
from core.units.actor import ALL_UNITS, Actor
from core.units.managing_units import managing_unit
from core.units.queries import lineage
from core.units.rights import Right, Role, may_have
from core.units.tables import Account, Unit

_SHOWS_ACCOUNTS = frozenset({Right.ACCOUNTS, Right.GRANT})


def require_may_manage(tx: Session, actor: Actor, role: Role, unit: Unit) -> None:
    """Check that the actor manages accounts with `role` of `unit`, by the rule of `core.units.managing_units`.

    Raises: NotFound, PermissionDenied, Invalid when the unit can't have the role.
    """
    if not actor.may(Right.SEE, on=unit):
        raise NotFound(what="unit", name=unit.id)
    manager = managing_unit(lineage(tx, unit), role)
    if not actor.may(Right.ACCOUNTS, on=manager or Unit(path=ALL_UNITS)):
        managed_by = "the operator" if manager is None else f"the system administrator of {manager.name}"
        visible = manager is None or actor.may(Right.SEE, on=manager)
        msg = f"accounts with the role {role.value} of {unit.name} are not managed by {actor.name}" + (
            f", but by {managed_by}" if visible else ""
        )
        raise PermissionDenied(msg)
    require_may_have(role, unit)


def require_may_have(role: Role, unit: Unit) -> None:
    """Check that a unit of this level can have a role.

    Raises: Invalid.
    """
    if not may_have(role, unit.level):
        problem = f"a unit of level {unit.level.value} can't have this role"
        raise Invalid(field="role", value=role.value, problem=problem)


def shows_accounts_of(actor: Actor, unit: Unit) -> bool:
    """Return whether the actor may see the accounts of a unit."""
    return any(holding.rights & _SHOWS_ACCOUNTS and unit.path.startswith(holding.path) for holding in actor.holdings)


def account_scope(actor: Actor) -> ColumnElement[bool]:
    """Return the SQL condition that selects the accounts that the actor may see, joined with their `Unit`."""
    everything = any(holding.path == ALL_UNITS for holding in actor.holdings)
    return or_(Account.id == actor.account, unit_scope(actor), true() if everything else false())


def unit_scope(actor: Actor) -> ColumnElement[bool]:
    """Return the SQL condition that selects the units whose accounts the actor may see."""
    paths = [holding.path for holding in actor.holdings if holding.rights & _SHOWS_ACCOUNTS]
    return or_(false(), *(Unit.path.startswith(path, autoescape=True) for path in paths))


def require_lists_accounts(actor: Actor) -> None:
    """Check that the actor may list accounts somewhere.

    Raises: PermissionDenied.
    """
    if not any(holding.rights & _SHOWS_ACCOUNTS for holding in actor.holdings):
        msg = f"{actor.name} was granted neither 'accounts' nor 'grant' on any unit"
        raise PermissionDenied(msg)


def visible_account(tx: Session, actor: Actor, account: AccountId, *, lock: bool = False) -> Account:
    """Return an account that the actor may see: their own, or one of a unit on or above which they manage or grant.

    Raises: NotFound.
    """
    row = tx.get(Account, account, with_for_update=lock)
    if row is None or not (row.id == actor.account or _sees(tx, actor, row.unit_id)):
        raise NotFound(what="account", name=account)
    return row


def _sees(tx: Session, actor: Actor, unit: UnitId | None) -> bool:
    """Return whether the actor sees accounts of a unit; an account of no unit is the operator's to see."""
    return shows_accounts_of(actor, Unit(path=ALL_UNITS) if unit is None else tx.get_one(Unit, unit))


def require_may_manage_account(tx: Session, actor: Actor, account: Account) -> None:
    """Check that the actor manages an account that they may see. Nobody manages their own.

    Raises: NotFound, PermissionDenied.
    """
    if account.id == actor.account:
        msg = f"{actor.name} can't manage their own account; whoever manages it does"
        raise PermissionDenied(msg)
    if not _sees(tx, actor, account.unit_id):
        raise NotFound(what="account", name=account.id)
    if account.unit_id is None:
        return  # only the operator sees it
    require_may_manage(tx, actor, account.account_type, tx.get_one(Unit, account.unit_id))
