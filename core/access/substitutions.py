"""Substitutions: a reviewer's right to review, lent to a colleague from one instant until another.

What the colleague may do is read anew with every request (`core.access.actors`): it ends with the dates, with the
reviewer's own grant, and when the reviewer's account is closed.
"""

from collections.abc import Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased

from core.access.grants import require_may_give
from core.access.management import account_scope, visible_account
from core.access.tables import Substitution
from core.db import audit
from core.db.in_force import in_force
from core.errors import Conflict, Invalid, NotFound
from core.ids import AccountId
from core.runtime.instant import Instant, rfc3339
from core.units.account_states import AccountState
from core.units.actor import Actor
from core.units.rights import Right, Role, rights_of
from core.units.tables import Account, Grant, Unit


def lend_review(
    tx: Session,
    actor: Actor,
    *,
    absent: AccountId,
    substitute: AccountId,
    since: Instant,
    until: Instant,
    now: Instant,
) -> Substitution:
    """Let an account review in place of another of its unit in [since, until).

    The reviewer does so, or whoever authorises the business administrator of that unit.
    Raises: NotFound, PermissionDenied, Conflict when it is so already, Invalid when one of the two can't review or
    substitute, or the dates are wrong.
    """
    absent_row = visible_account(tx, actor, absent, lock=True)
    substitute_row = visible_account(tx, actor, substitute)
    _require_may_lend(tx, actor, absent_row, now)
    if not since < until:
        raise Invalid(field="until", value=rfc3339(until), problem="it must be later than `since`")
    if until <= now:
        raise Invalid(field="until", value=rfc3339(until), problem="it is over already")
    is_colleague = absent != substitute and substitute_row.unit_id == absent_row.unit_id
    if not is_colleague or substitute_row.state is not AccountState.OPEN:
        problem = "not another open account of the same unit"
        raise Invalid(field="substitute", value=substitute_row.username, problem=problem)
    if not _reviews(tx, absent, now):
        raise Invalid(field="absent", value=absent_row.username, problem="it may review nowhere now")
    same = (Substitution.absent_id == absent, Substitution.substitute_id == substitute)
    if tx.scalar(select(Substitution.id).where(*same, Substitution.since < until, Substitution.until > since).limit(1)):
        msg = f"{substitute_row.username!r} reviews in place of {absent_row.username!r} then already"
        raise Conflict(msg)
    row = Substitution(absent_id=absent, substitute_id=substitute, since=since, until=until)
    tx.add(row)
    tx.flush()
    _audit(tx, actor, "review lent", row, now)
    return row


def end_substitution(tx: Session, actor: Actor, substitution: int, *, now: Instant) -> None:
    """End a substitution now; one that hasn't begun never does.

    Raises: NotFound, PermissionDenied, Conflict when it has ended.
    """
    row = tx.get(Substitution, substitution, with_for_update=True)
    if row is None:
        raise NotFound(what="substitution", name=substitution)
    try:
        absent = visible_account(tx, actor, row.absent_id)
    except NotFound:
        raise NotFound(what="substitution", name=substitution) from None
    _require_may_lend(tx, actor, absent, now)
    if row.until <= now:
        msg = f"this substitution ended at {rfc3339(row.until)}"
        raise Conflict(msg)
    _audit(tx, actor, "lending of review ended", row, now)
    if row.since >= now:
        tx.delete(row)
    else:
        row.until = now


def with_accounts(tx: Session, row: Substitution) -> tuple[Substitution, Account, Account]:
    """Return a substitution with the absent account and the substitute."""
    return row, tx.get_one(Account, row.absent_id), tx.get_one(Account, row.substitute_id)


def substitutions(
    tx: Session, actor: Actor, *, after: int, limit: int
) -> Sequence[tuple[Substitution, Account, Account]]:
    """Return substitutions that the actor may see, with both accounts: those of visible accounts, and their own."""
    absent, substitute = aliased(Account), aliased(Account)
    seen = select(Account.id).outerjoin(Unit, Unit.id == Account.unit_id).where(account_scope(actor))
    query = (
        select(Substitution, absent, substitute)
        .join(absent, absent.id == Substitution.absent_id)
        .join(substitute, substitute.id == Substitution.substitute_id)
        .where(or_(absent.id.in_(seen), substitute.id == actor.account), Substitution.id > after)
        .order_by(Substitution.id)
        .limit(limit)
    )
    return [(row, whose, by) for row, whose, by in tx.execute(query)]


def _require_may_lend(tx: Session, actor: Actor, absent: Account, now: Instant) -> None:
    if absent.id == actor.account:
        return
    if absent.unit_id is None:
        raise NotFound(what="account", name=absent.id)
    unit = tx.get_one(Unit, absent.unit_id)
    require_may_give(tx, actor, absent, unit, Role.BUSINESS_ADMIN, until=now, now=now)


def _reviews(tx: Session, account: AccountId, now: Instant) -> bool:
    query = select(Unit.level, Grant.role).join(Unit, Unit.id == Grant.unit_id)
    rows = tx.execute(query.where(Grant.account_id == account, in_force(Grant, now)))
    return any(Right.REVIEW in rights_of(role, level) for level, role in rows)


def _audit(tx: Session, actor: Actor, act: str, row: Substitution, now: Instant) -> None:
    detail = {"substitute": row.substitute_id, "since": row.since, "until": row.until}
    audit.record(tx, at=now, actor=actor.name, act=act, subject=f"account:{row.absent_id}", detail=detail)
