"""Passwords: hashing, and changing one's own. The last ones are kept as hashes, so that none is chosen again.

argon2 takes some tens of milliseconds on purpose, so passwords are hashed and compared outside transactions.
"""

import secrets
import string
from collections.abc import Iterable
from functools import cache
from typing import NewType

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.access.account_history import note
from core.access.messages import message
from core.access.password_policy import REMEMBERED_PASSWORDS, check_password
from core.access.sessions import OpenedSession, close_sessions_of, open_session
from core.access.tables import UsedPassword
from core.db.engine import Records
from core.errors import Invalid, NotSignedIn
from core.ids import AccountId
from core.runtime.instant import Instant, Milliseconds
from core.units.account_states import AccountEventKind, AccountState
from core.units.actor import Actor
from core.units.tables import Account

PasswordHash = NewType("PasswordHash", str)
_hasher = PasswordHasher()
_ALPHABETS = (string.ascii_lowercase, string.ascii_uppercase, string.digits)
_INITIAL_LENGTH = 14


def hash_password(username: str, password: str, *, used: Iterable[str] = ()) -> PasswordHash:
    """Check a new password against the policy and the hashes of used ones, and hash it. Not inside a transaction.

    Raises: Invalid.
    """
    check_password(username, password)
    if any(matches(password_hash, password) for password_hash in used):
        raise Invalid(field="password", value="***", problem=message("password_used", count=REMEMBERED_PASSWORDS))
    return PasswordHash(_hasher.hash(password))


def initial_password() -> tuple[str, PasswordHash]:
    """Return a random password for a new or locked account, and its hash. Its owner must change it first."""
    while True:
        text = "".join(secrets.choice("".join(_ALPHABETS)) for _ in range(_INITIAL_LENGTH))
        if all(set(text) & set(alphabet) for alphabet in _ALPHABETS):
            return text, PasswordHash(_hasher.hash(text))


def used_passwords(tx: Session, account: AccountId) -> list[str]:
    """Return the hashes of the last passwords of an account, the present one included."""
    query = select(UsedPassword.password_hash).where(UsedPassword.account_id == account)
    return list(tx.scalars(query.order_by(UsedPassword.id.desc()).limit(REMEMBERED_PASSWORDS)))


def keep_password(
    tx: Session, account: Account, password_hash: PasswordHash, *, is_initial: bool = False, now: Instant
) -> None:
    """Store a password hash in an account and among its last ones, and forget those before."""
    account.password_hash, account.password_set_at = password_hash, None if is_initial else now
    tx.add(UsedPassword(account_id=account.id, password_hash=password_hash, set_at=now))
    tx.flush()
    mine = UsedPassword.account_id == account.id
    kept = select(UsedPassword.id).where(mine).order_by(UsedPassword.id.desc()).limit(REMEMBERED_PASSWORDS)
    tx.execute(delete(UsedPassword).where(mine, UsedPassword.id.not_in(kept.scalar_subquery())))


def change_own_password(
    records: Records, actor: Actor, present: str, new: str, *, now: Instant, ttl: Milliseconds, user_agent: str = ""
) -> OpenedSession:
    """Change the actor's password, end all their sessions, and open a new one.

    Raises: NotSignedIn for an actor without an account, and when the password was changed meanwhile; Invalid.
    """
    if actor.account is None:
        msg = f"{actor.name} has no password"
        raise NotSignedIn(msg)
    with records.read() as tx:
        row = tx.get_one(Account, actor.account)
        username, present_hash, used = row.username, row.password_hash, used_passwords(tx, actor.account)
    if not matches(present_hash, present):
        raise Invalid(field="present", value="***", problem=message("password_wrong"))
    new_hash = hash_password(username, new, used=[present_hash, *used])
    with records.write() as tx:
        account = tx.get_one(Account, actor.account, with_for_update=True)
        if account.password_hash != present_hash or account.state is not AccountState.OPEN:
            msg = "the password was changed meanwhile, or the account was closed; sign in again"
            raise NotSignedIn(msg)
        keep_password(tx, account, new_hash, now=now)
        note(tx, account, AccountEventKind.PASSWORD_CHANGED, by=actor, now=now)
        close_sessions_of(tx, account.id)
        return open_session(tx, account=account.id, now=now, ttl=ttl, user_agent=user_agent)


def matches(password_hash: str, password: str) -> bool:
    """Return whether a password has this hash."""
    try:
        return _hasher.verify(password_hash, password)
    except VerificationError:
        return False


def rehashed(password_hash: str, password: str) -> str | None:
    """Return the hash of a password by the present parameters, or None if it has them already."""
    return _hasher.hash(password) if _hasher.check_needs_rehash(password_hash) else None


@cache
def dummy_hash() -> str:
    """Return a hash to verify against when there is no account, so that the answer takes the same time."""
    return _hasher.hash("nobody has this password")
