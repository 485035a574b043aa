"""History of accounts: each event is kept for the user list of the unit, and in the audit log."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.access.tables import AccountEvent
from core.db import audit
from core.ids import AccountId, UnitId
from core.runtime.instant import Instant
from core.units.account_states import AccountEventKind
from core.units.actor import Actor
from core.units.rights import Role
from core.units.tables import Account, Unit

_ACTS = {
    AccountEventKind.OPENED: "account created",
    AccountEventKind.CLOSED: "account closed",
    AccountEventKind.REOPENED: "account reopened",
    AccountEventKind.PASSWORD_CHANGED: "password changed",
    AccountEventKind.PASSWORD_RESET: "password reset",
    AccountEventKind.REPORTED_MISUSED: "account reported as misused",
    AccountEventKind.GRANTED: "role granted",
    AccountEventKind.GRANT_ENDED: "grant ended",
}


def note(
    tx: Session,
    account: Account,
    kind: AccountEventKind,
    *,
    by: Actor,
    now: Instant,
    unit: Unit | None = None,
    role: Role | None = None,
) -> None:
    """Add an event to the history of an account and to the audit log."""
    unit_id: UnitId | None = None if unit is None else unit.id
    tx.add(AccountEvent(account_id=account.id, at=now, kind=kind, actor=by.name, unit_id=unit_id, role=role))
    detail = {"username": account.username, "unit": unit_id, "role": role, "person": account.person_id}
    audit.record(
        tx,
        at=now,
        actor=by.name,
        act=_ACTS[kind],
        subject=f"account:{account.id}",
        detail={name: value for name, value in detail.items() if value is not None},
    )


def history_of(tx: Session, account: AccountId) -> Sequence[AccountEvent]:
    """Return the events of an account, oldest first."""
    query = select(AccountEvent).where(AccountEvent.account_id == account)
    return tx.scalars(query.order_by(AccountEvent.at, AccountEvent.id)).all()
