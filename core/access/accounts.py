"""Accounts: creation, passwords and sign-in.

An unknown user name, a disabled account and a wrong password get the same answer after the same time. Accounts are
never locked, because a lock would let anybody keep others out; `api.sign_in_throttle` slows down repeated guesses
instead. argon2 takes some tens of milliseconds on purpose, so passwords are hashed outside transactions.
"""

from functools import cache
from typing import NewType

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.access.sessions import OpenedSession, close_sessions_of, open_session
from core.db import audit
from core.db.engine import Records
from core.db.in_force import in_force
from core.errors import Conflict, Invalid, NotFound, NotSignedIn, PermissionDenied
from core.ids import PersonId
from core.plain_text import is_plain, require_plain
from core.runtime.instant import Instant, Milliseconds
from core.units.actor import ALL_UNITS, Actor
from core.units.managing_units import managing_unit
from core.units.people import person_with_openid
from core.units.queries import lineage
from core.units.rights import Right, Role, may_have
from core.units.tables import Account, Grant, Unit

SHORTEST_PASSWORD = 8

PasswordHash = NewType("PasswordHash", str)
_hasher = PasswordHasher()


def hash_password(username: str, password: str) -> PasswordHash:
    """Check a new password and hash it. Do not call this inside a transaction.

    Raises: Invalid.
    """
    if len(password) < SHORTEST_PASSWORD:
        raise Invalid(field="password", value="***", problem=f"too short; take at least {SHORTEST_PASSWORD} characters")
    if password.casefold() == username.casefold():
        raise Invalid(field="password", value="***", problem="it is the user name; take another")
    return PasswordHash(_hasher.hash(password))


def create_account(
    tx: Session,
    actor: Actor,
    *,
    username: str,
    password_hash: PasswordHash,
    unit: Unit,
    role: Role,
    person: PersonId | None = None,
    now: Instant,
) -> Account:
    """Create an account and grant it a role on a unit and all units below it.

    Raises: PermissionDenied, Conflict when the user name is taken, Invalid when the unit can't have the role.
    """
    require_may_grant(tx, actor, role, unit)
    require_plain("username", username)
    if not username or username != username.strip():
        raise Invalid(field="username", value=username, problem="empty, or with spaces around it")
    if account_named(tx, username) is not None:
        msg = f"there is an account {username!r} already; take another user name"
        raise Conflict(msg)
    account = Account(username=username, password_hash=password_hash, person_id=person)
    tx.add(account)
    tx.flush()
    tx.add(Grant(account_id=account.id, unit_id=unit.id, role=role, since=now))
    audit.record(
        tx,
        at=now,
        actor=actor.name,
        act="account created",
        subject=f"account:{account.id}",
        detail={"username": username, "unit": unit.id, "role": role},
    )
    return account


def change_password(tx: Session, actor: Actor, account: Account, password_hash: PasswordHash, *, now: Instant) -> None:
    """Replace the password and close all sessions of the account."""
    if actor.account != account.id:
        _may_manage(tx, actor, account)
    account.password_hash = password_hash
    close_sessions_of(tx, account.id)
    audit.record(tx, at=now, actor=actor.name, act="password changed", subject=f"account:{account.id}")


def require_may_grant(tx: Session, actor: Actor, role: Role, unit: Unit) -> None:
    """Check that the actor may grant `role` on `unit`, by the rule of `core.units.managing_units`.

    Raises: NotFound, PermissionDenied, Invalid when the unit can't have the role.
    """
    if not actor.may(Right.SEE, on=unit):
        raise NotFound(what="unit", name=unit.id)
    manager = managing_unit(lineage(tx, unit), role)
    if not actor.may(Right.ACCOUNTS, on=manager or Unit(path=ALL_UNITS)):
        managed_by = "the operator" if manager is None else f"the system administrator of {manager.name}"
        msg = f"accounts with the role {role.value} of {unit.name} are managed by {managed_by}, not by {actor.name}"
        raise PermissionDenied(msg)
    if not may_have(role, unit.level):
        raise Invalid(
            field="role", value=role.value, problem=f"a unit of level {unit.level.value} can't have this role"
        )


def sign_in(records: Records, username: str, password: str, *, now: Instant, ttl: Milliseconds) -> OpenedSession:
    """Check user name and password, and open a session.

    Raises: NotSignedIn; an unknown user name gets the same answer as a wrong password, after the same time.
    """
    dummy_hash = _dummy_hash()
    stored = None
    if is_plain(username):  # PostgreSQL refuses text with a NUL character
        with records.read() as tx:
            row = account_named(tx, username)
            stored = None if row is None or row.disabled else (row.id, row.password_hash)
    matches = _matches(stored[1] if stored else dummy_hash, password)
    if stored is None or not matches:
        raise _wrong_credentials()
    new_hash = _hasher.hash(password) if _hasher.check_needs_rehash(stored[1]) else None
    with records.write() as tx:
        account = tx.get_one(Account, stored[0], with_for_update=True)
        if account.disabled or account.password_hash != stored[1]:
            raise _wrong_credentials()
        account.password_hash = new_hash or account.password_hash
        audit.record(tx, at=now, actor=f"account:{account.id}", act="signed in", subject=f"account:{account.id}")
        return open_session(tx, account=account.id, now=now, ttl=ttl)


def sign_in_by_wechat(records: Records, openid: str, *, now: Instant, ttl: Milliseconds) -> OpenedSession | None:
    """Open a session for the person whom WeChat has identified; None if nobody is bound to `openid`, or they left."""
    with records.write() as tx:
        person = person_with_openid(tx, openid)
        if person is None or (person.left_at is not None and person.left_at <= now):
            return None
        name = f"person:{person.id}"
        audit.record(tx, at=now, actor=name, act="signed in", subject=name)
        return open_session(tx, person=person.id, now=now, ttl=ttl)


def account_named(tx: Session, username: str) -> Account | None:
    """Return the account with a user name, or None."""
    return tx.scalar(select(Account).where(Account.username == username))


def accounts_with_grants(tx: Session, now: Instant) -> list[tuple[Account, str | None, str | None]]:
    """Return all accounts by user name, each with role and unit name of every grant in force, or with None twice."""
    query = (
        select(Account, Grant.role, Unit.name)
        .outerjoin(Grant, (Grant.account_id == Account.id) & in_force(Grant, now))
        .outerjoin(Unit, Unit.id == Grant.unit_id)
        .order_by(Account.username, Unit.path)
    )
    return [(account, role, unit) for account, role, unit in tx.execute(query)]


def _may_manage(tx: Session, actor: Actor, account: Account) -> None:
    query = select(Grant.role, Unit).join(Unit, Unit.id == Grant.unit_id).where(Grant.account_id == account.id)
    granted = tx.execute(query).all()
    if not any(actor.may(Right.SEE, on=unit) for _, unit in granted):
        raise NotFound(what="account", name=account.id)
    for role, unit in granted:
        require_may_grant(tx, actor, role, unit)


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except VerificationError:
        return False


@cache
def _dummy_hash() -> str:
    """Return a hash to verify against when there is no account, so that the answer takes the same time."""
    return _hasher.hash("nobody has this password")


def _wrong_credentials() -> NotSignedIn:
    return NotSignedIn("user name and password don't fit")
