"""Grants: a role given to an account on a unit and all units below it, never more or longer than the giver has it.

A system administrator is given by the unit that manages it, a security officer by the province's system administrator.
Every other role is given by whoever holds `grant` there; that of a business administrator from above (UP-20, UP-21).
tests/integration/test_grants.py tries to give more.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.access.account_history import note
from core.access.management import account_scope, require_may_have, require_may_manage, visible_account
from core.access.messages import message
from core.db.in_force import in_force
from core.errors import Conflict, Invalid, NotFound, PermissionDenied
from core.ids import AccountId, UnitId
from core.runtime.instant import Instant, rfc3339
from core.units.account_states import AccountEventKind
from core.units.actor import ALL_UNITS, Actor
from core.units.rights import RIGHTS, Right, Role, rights_of
from core.units.tables import Account, Grant, Unit

GIVEN_BY_SYSTEM_ADMINS = frozenset({Role.SYSTEM_ADMIN, Role.SECURITY_OFFICER})


class GiversHolding(msgspec.Struct, frozen=True):
    """Rights of a giver on a unit and below it, and until when; None for ever."""

    path: str
    rights: frozenset[Right]
    until: Instant | None


def give_grant(
    tx: Session,
    actor: Actor,
    account: AccountId,
    unit: Unit,
    role: Role,
    *,
    until: Instant | None = None,
    now: Instant,
) -> Grant:
    """Grant a role to an account on a unit from now on.

    Raises: NotFound, PermissionDenied, Conflict when the account has it already, Invalid when the unit can't have the
    role, or the grant would last longer than the giver's.
    """
    if not actor.may(Right.SEE, on=unit):
        raise NotFound(what="unit", name=unit.id)
    row = visible_account(tx, actor, account, lock=True)
    require_may_give(tx, actor, row, unit, role, until=until, now=now)
    if until is not None and until <= now:
        raise Invalid(field="until", value=rfc3339(until), problem="it is over already")
    same = (Grant.account_id == account, Grant.unit_id == unit.id, Grant.role == role)
    if tx.scalar(select(Grant.id).where(*same, in_force(Grant, now))) is not None:
        msg = f"the account {row.username!r} has the role {role.value} on {unit.name} already; end that grant first"
        raise Conflict(msg)
    return add_grant(tx, actor, row, unit, role, until=until, now=now)


def require_may_give(
    tx: Session, actor: Actor, account: Account, unit: Unit, role: Role, *, until: Instant | None, now: Instant
) -> None:
    """Check that the actor may give an account a role on a unit until an instant.

    Raises: NotFound, PermissionDenied, Invalid.
    """
    if account.id == actor.account:
        msg = f"{actor.name} can't grant their own account anything"
        raise PermissionDenied(msg)
    if role in GIVEN_BY_SYSTEM_ADMINS:
        require_may_manage(tx, actor, role, unit)
        if role is Role.SYSTEM_ADMIN and (account.account_type, account.unit_id) != (role, unit.id):
            problem = f"the account wasn't opened as the system administrator of {unit.name}"
            raise Invalid(field="role", value=role.value, problem=problem)
        return
    holdings = givers_holdings(tx, actor, now)
    if not _covers(holdings, unit, role):
        msg = f"{actor.name} may not grant the role {role.value} on {unit.name}: it is more than they may pass on there"
        raise PermissionDenied(msg)
    require_may_have(role, unit)
    end = latest_end(holdings, unit, role)
    if end is not None and (until is None or until > end):
        too_long = message("grant_end", until=rfc3339(end))
        raise Invalid(field="until", value=None if until is None else rfc3339(until), problem=too_long)


def latest_end(holdings: Iterable[GiversHolding], unit: Unit, role: Role) -> Instant | None:
    """Return until when a giver could grant a role on a unit at the longest; None for ever.

    Every right of the role, and the right to grant, must last as long with the giver.
    """
    able = [holding for holding in holdings if _reaches(holding, unit, role)]
    ends = []
    for right in RIGHTS[role] | {Right.GRANT}:
        lasting = [holding.until for holding in able if right in holding.rights]
        if None not in lasting:
            ends.append(max(end for end in lasting if end is not None))
    return min(ends, default=None)


def _covers(holdings: Iterable[GiversHolding], unit: Unit, role: Role) -> bool:
    """Return whether a giver holds all rights of a role where they would give it.

    Rights that a business administrator of one level has beside the others go with that office (`RIGHTS_OF_LEVEL`):
    nobody above holds the unit codes of a county, and the county gets them from its city all the same.
    """
    able = [holding for holding in holdings if _reaches(holding, unit, role)]
    held = frozenset[Right]().union(*(holding.rights for holding in able))
    return RIGHTS[role] | {Right.GRANT} <= held


def _reaches(holding: GiversHolding, unit: Unit, role: Role) -> bool:
    """Return whether a holding reaches the unit; a business administrator is authorised from above."""
    is_above = holding.path != unit.path or holding.path == ALL_UNITS
    return unit.path.startswith(holding.path) and (role is not Role.BUSINESS_ADMIN or is_above)


def givers_holdings(tx: Session, actor: Actor, now: Instant) -> list[GiversHolding]:
    """Return what the actor holds, with the end of each grant. A substitute's rights aren't among it: they are lent."""
    if actor.account is None:
        everywhere = [holding for holding in actor.holdings if holding.path == ALL_UNITS]
        return [GiversHolding(holding.path, holding.rights, None) for holding in everywhere]
    query = (
        select(Unit.path, Unit.level, Grant.role, Grant.until)
        .join(Unit, Unit.id == Grant.unit_id)
        .where(Grant.account_id == actor.account, in_force(Grant, now))
    )
    return [GiversHolding(path, rights_of(role, level), until) for path, level, role, until in tx.execute(query)]


def add_grant(
    tx: Session, actor: Actor, account: Account, unit: Unit, role: Role, *, until: Instant | None, now: Instant
) -> Grant:
    """Add a grant that the caller has checked."""
    grant = Grant(account_id=account.id, unit_id=unit.id, role=role, since=now, until=until)
    tx.add(grant)
    tx.flush()
    note(tx, account, AccountEventKind.GRANTED, by=actor, now=now, unit=unit, role=role)
    return grant


def end_grant(tx: Session, actor: Actor, grant: int, *, now: Instant) -> Grant:
    """End a grant now. Who may give it may end it.

    Raises: NotFound, PermissionDenied, Conflict when it has ended.
    """
    row = tx.get(Grant, grant, with_for_update=True)
    unit = None if row is None else tx.get_one(Unit, row.unit_id)
    if row is None or unit is None or not actor.may(Right.SEE, on=unit):
        raise NotFound(what="grant", name=grant)
    try:
        account = visible_account(tx, actor, row.account_id)
    except NotFound:
        raise NotFound(what="grant", name=grant) from None
    if row.until is not None and row.until <= now:
        msg = f"this grant ended at {rfc3339(row.until)}"
        raise Conflict(msg)
    with suppress(Invalid):  # it couldn't be given any longer, or not for so long: all the more it may be ended
        require_may_give(tx, actor, account, unit, row.role, until=row.until, now=now)
    row.until = Instant(max(now, row.since + 1))
    note(tx, account, AccountEventKind.GRANT_ENDED, by=actor, now=now, unit=unit, role=row.role)
    return row


def with_names(tx: Session, grant: Grant) -> tuple[Grant, Account, Unit]:
    """Return a grant with its account and unit."""
    return grant, tx.get_one(Account, grant.account_id), tx.get_one(Unit, grant.unit_id)


def grants(
    tx: Session, actor: Actor, *, account: AccountId | None = None, unit: UnitId | None = None, after: int, limit: int
) -> Sequence[tuple[Grant, Account, Unit]]:
    """Return grants, past ones too, that the actor may see: on units that they see, of accounts that they see."""
    seen = select(Account.id).outerjoin(Unit, Unit.id == Account.unit_id).where(account_scope(actor))
    query = (
        select(Grant, Account, Unit)
        .join(Account, Account.id == Grant.account_id)
        .join(Unit, Unit.id == Grant.unit_id)
        .where(or_(actor.scope(Right.SEE), Account.id == actor.account), Account.id.in_(seen))
        .where(Grant.id > after)
        .order_by(Grant.id)
        .limit(limit)
    )
    if account is not None:
        query = query.where(Grant.account_id == account)
    if unit is not None:
        query = query.where(Grant.unit_id == unit)
    return [(grant, whose, where) for grant, whose, where in tx.execute(query)]
