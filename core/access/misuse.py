"""Misuse of accounts: its owner reports it, and it is locked until it has a new password (SE-09)."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.access.account_history import note
from core.access.management import account_scope
from core.access.sessions import close_sessions_of
from core.access.tables import AccountIncident
from core.db import audit
from core.errors import PermissionDenied
from core.runtime.instant import HOUR, Instant, Milliseconds
from core.units.account_states import AccountEventKind, AccountState
from core.units.actor import Actor
from core.units.tables import Account, Unit

RESOLVED_WITHIN = Milliseconds(2 * HOUR)


def report_misuse(tx: Session, actor: Actor, *, now: Instant) -> AccountIncident:
    """Lock the actor's account, end all its sessions, and open an incident that is due in 2 h.

    Raises: PermissionDenied for an actor without an account.
    """
    if actor.account is None:
        msg = f"{actor.name} has no account that could be locked"
        raise PermissionDenied(msg)
    account = tx.get_one(Account, actor.account, with_for_update=True)
    account.state = AccountState.LOCKED
    close_sessions_of(tx, account.id)
    note(tx, account, AccountEventKind.REPORTED_MISUSED, by=actor, now=now)
    incident = AccountIncident(account_id=account.id, opened_at=now, due_at=Instant(now + RESOLVED_WITHIN))
    tx.add(incident)
    tx.flush()
    return incident


def resolve_incidents(tx: Session, actor: Actor, account: Account, *, now: Instant) -> None:
    """Close the open incidents of an account that has a new password."""
    query = select(AccountIncident).where(
        AccountIncident.account_id == account.id, AccountIncident.resolved_at.is_(None)
    )
    for incident in tx.scalars(query):
        incident.resolved_at, incident.resolved_by = now, actor.name
        audit.record(tx, at=now, actor=actor.name, act="incident resolved", subject=f"account_incident:{incident.id}")


def incidents(tx: Session, actor: Actor, *, after: int, limit: int) -> Sequence[tuple[AccountIncident, Account, Unit]]:
    """Return incidents of accounts that the actor may see, in the order in which they were opened."""
    query = (
        select(AccountIncident, Account, Unit)
        .join(Account, Account.id == AccountIncident.account_id)
        .join(Unit, Unit.id == Account.unit_id)
        .where(account_scope(actor), AccountIncident.id > after)
        .order_by(AccountIncident.id)
        .limit(limit)
    )
    return [(incident, account, unit) for incident, account, unit in tx.execute(query)]


def is_late(incident: AccountIncident, now: Instant) -> bool:
    """Return whether an incident was, or still is, unresolved later than it was due."""
    return (now if incident.resolved_at is None else incident.resolved_at) > incident.due_at
