"""Accounts: opening them for named persons, closing, reopening and resetting them. Opening is not granting (UP-23)."""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.access.account_history import note
from core.access.grants import add_grant
from core.access.management import require_may_have, require_may_manage, require_may_manage_account, visible_account
from core.access.misuse import resolve_incidents
from core.access.passwords import PasswordHash, keep_password
from core.access.sessions import close_sessions_of
from core.db.crypto import FieldCipher
from core.errors import Conflict, Invalid
from core.ids import AccountId, PersonId
from core.plain_text import require_plain
from core.runtime.instant import Instant
from core.units.account_states import AccountEventKind, AccountState
from core.units.actor import ALL_UNITS, Actor
from core.units.identities import Identity
from core.units.named_persons import enter_named_person
from core.units.rights import Right, Role
from core.units.tables import Account, Unit

LONGEST_USERNAME = 50


class NewAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account to open for a named person of a unit (实名制, UP-06)."""

    username: str
    account_type: Role
    unit: Unit
    name: str
    identity: Identity
    phone: str


def open_account(
    tx: Session, actor: Actor, new: NewAccount, password_hash: PasswordHash, cipher: FieldCipher, *, now: Instant
) -> Account:
    """Open an account with an initial password. It may sign in, and do nothing until it is granted something.

    A system administrator's account works at once: opening it and granting it are the same party's (UP-02).
    Raises: NotFound, PermissionDenied, Conflict when the user name was ever taken, Invalid.
    """
    require_may_manage(tx, actor, new.account_type, new.unit)
    person = enter_named_person(
        tx, actor, new.unit, name=new.name, identity=new.identity, phone=new.phone, cipher=cipher, now=now
    )
    account = _add(
        tx, actor, new.username, password_hash, new.unit, new.account_type, person.id, is_initial=True, now=now
    )
    if new.account_type is Role.SYSTEM_ADMIN:
        add_grant(tx, actor, account, new.unit, new.account_type, until=None, now=now)
    return account


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
    """Open an account with a password that was chosen, and grant it a role at once. Only the operator may do both.

    Raises: PermissionDenied, Conflict when the user name was ever taken, Invalid when the unit can't have the role.
    """
    actor.require(Right.ACCOUNTS, on=Unit(path=ALL_UNITS), subject=("unit", unit.id))
    require_may_have(role, unit)
    account = _add(tx, actor, username, password_hash, unit, role, person, is_initial=False, now=now)
    add_grant(tx, actor, account, unit, role, until=None, now=now)
    return account


def close_account(tx: Session, actor: Actor, account: AccountId, *, now: Instant) -> Account:
    """Close an account: it can't sign in, and its sessions end. Its row, name and history stay.

    Raises: NotFound, PermissionDenied, Conflict when it is closed already.
    """
    row = _managed(tx, actor, account)
    if row.state is AccountState.CLOSED:
        msg = f"the account {row.username!r} is closed already"
        raise Conflict(msg)
    row.state = AccountState.CLOSED
    close_sessions_of(tx, row.id)
    note(tx, row, AccountEventKind.CLOSED, by=actor, now=now)
    return row


def reset_account(
    tx: Session, actor: Actor, account: AccountId, password_hash: PasswordHash, *, now: Instant
) -> Account:
    """Give an account another initial password and end its sessions; one that is locked is open again (SE-09).

    Raises: NotFound, PermissionDenied, Conflict for a closed account.
    """
    row = _managed(tx, actor, account)
    if row.state is AccountState.CLOSED:
        msg = f"the account {row.username!r} is closed; open it again first"
        raise Conflict(msg)
    set_password(tx, actor, row, password_hash, is_initial=True, now=now)
    return row


def reopen_account(
    tx: Session, actor: Actor, account: AccountId, password_hash: PasswordHash, *, now: Instant
) -> Account:
    """Open a closed account again, with another initial password. Its grants are as they were.

    Raises: NotFound, PermissionDenied, Conflict when it isn't closed.
    """
    row = _managed(tx, actor, account)
    if row.state is not AccountState.CLOSED:
        msg = f"the account {row.username!r} isn't closed"
        raise Conflict(msg)
    row.state = AccountState.OPEN
    note(tx, row, AccountEventKind.REOPENED, by=actor, now=now)
    set_password(tx, actor, row, password_hash, is_initial=True, now=now)
    return row


def set_password(
    tx: Session, actor: Actor, account: Account, password_hash: PasswordHash, *, is_initial: bool, now: Instant
) -> None:
    """Replace the password of an account that the actor manages, open it if it was locked, and end its sessions.

    Raises: NotFound, PermissionDenied.
    """
    require_may_manage_account(tx, actor, account)
    keep_password(tx, account, password_hash, is_initial=is_initial, now=now)
    account.state = AccountState.OPEN
    close_sessions_of(tx, account.id)
    note(tx, account, AccountEventKind.PASSWORD_RESET, by=actor, now=now)
    resolve_incidents(tx, actor, account, now=now)


def account_named(tx: Session, username: str) -> Account | None:
    """Return the account with a user name, or None."""
    return tx.scalar(select(Account).where(Account.username == username))


def _managed(tx: Session, actor: Actor, account: AccountId) -> Account:
    row = visible_account(tx, actor, account, lock=True)
    require_may_manage_account(tx, actor, row)
    return row


def _add(  # noqa: PLR0913 (what an account is made of)
    tx: Session,
    actor: Actor,
    username: str,
    password_hash: PasswordHash,
    unit: Unit,
    account_type: Role,
    person: PersonId | None,
    *,
    is_initial: bool,
    now: Instant,
) -> Account:
    require_plain("username", username)
    if not username or username != username.strip() or len(username) > LONGEST_USERNAME:
        raise Invalid(field="username", value=username, problem="empty, too long, or with spaces around it")
    if account_named(tx, username) is not None:
        msg = f"there is an account {username!r} already; take another user name"
        raise Conflict(msg)
    account = Account(
        username=username,
        password_hash=password_hash,
        person_id=person,
        unit_id=unit.id,
        account_type=account_type,
        state=AccountState.OPEN,
    )
    tx.add(account)
    tx.flush()
    keep_password(tx, account, password_hash, is_initial=is_initial, now=now)
    note(tx, account, AccountEventKind.OPENED, by=actor, now=now, unit=unit, role=account_type)
    return account
