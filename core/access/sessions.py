"""Web sessions: opening, look-up and closing.

The records keep only the SHA-256 of a session's token. The token is 256 random bits, so a plain hash can't be reversed.
A session ends at its expiry, by signing out, or when its owner ends it from another one.
"""

import hashlib
import secrets

import msgspec
from sqlalchemy import ColumnElement, delete, false, select
from sqlalchemy.orm import Session

from core.access.actors import actor_of_account, actor_of_person
from core.errors import NotFound, NotSignedIn
from core.ids import AccountId, PersonId
from core.runtime.instant import Instant, Milliseconds
from core.units.actor import Actor
from core.units.tables import Account, Person, WebSession

_LONGEST_USER_AGENT = 200
_ID_LENGTH = 16


class OpenedSession(msgspec.Struct, frozen=True):
    """A new session. The token goes into the browser's cookie and is stored nowhere else."""

    token: str
    csrf: str
    """CSRF token: every request that changes something must carry it."""
    expires_at: Instant


class SignedInActor(msgspec.Struct, frozen=True):
    """An open session: its actor, CSRF token and expiry."""

    actor: Actor
    csrf: str
    expires_at: Instant
    password_set_at: Instant | None = None
    """When the account's password was chosen; None for an initial one, and for a person known by WeChat."""


class ListedSession(msgspec.Struct, frozen=True):
    """One of an actor's open sessions, as a list shows it."""

    id: str
    created_at: Instant
    expires_at: Instant
    user_agent: str
    is_current: bool


def open_session(
    tx: Session,
    *,
    account: AccountId | None = None,
    person: PersonId | None = None,
    now: Instant,
    ttl: Milliseconds,
    user_agent: str = "",
) -> OpenedSession:
    """Open a session for an account or for a person known by WeChat. The caller has verified the identity."""
    opened = OpenedSession(secrets.token_urlsafe(32), secrets.token_urlsafe(24), Instant(now + ttl))
    tx.execute(delete(WebSession).where(WebSession.expires_at <= now))
    tx.add(
        WebSession(
            token_hash=hash_of(opened.token),
            account_id=account,
            person_id=person,
            csrf=opened.csrf,
            created_at=now,
            expires_at=opened.expires_at,
            user_agent="".join(filter(str.isprintable, user_agent))[:_LONGEST_USER_AGENT] or None,
        )
    )
    tx.flush()
    return opened


def session_of(tx: Session, token: str, now: Instant) -> SignedInActor:
    """Return the session of a token, with what its actor may do now.

    Raises: NotSignedIn.
    """
    row = tx.get(WebSession, hash_of(token))
    if row is None or row.expires_at <= now:
        msg = "nobody is signed in, or not any longer"
        raise NotSignedIn(msg)
    if row.account_id is None:
        actor = actor_of_person(tx, tx.get_one(Person, row.person_id), now)
        return SignedInActor(actor, row.csrf, row.expires_at)
    account = tx.get_one(Account, row.account_id)
    actor = actor_of_account(tx, account, now)
    return SignedInActor(actor, row.csrf, row.expires_at, account.password_set_at)


def sessions_of(tx: Session, actor: Actor, token: str, now: Instant) -> list[ListedSession]:
    """Return the open sessions of the actor's account, or person, newest first. `token` is that of the current one."""
    rows = tx.scalars(
        select(WebSession).where(_of(actor), WebSession.expires_at > now).order_by(WebSession.created_at.desc())
    )
    current = hash_of(token)
    return [
        ListedSession(
            _name_of(row), row.created_at, row.expires_at, row.user_agent or "", is_current=row.token_hash == current
        )
        for row in rows
    ]


def end_own_session(tx: Session, actor: Actor, session: str) -> None:
    """End one of the actor's sessions by the id with which it is listed.

    Raises: NotFound.
    """
    row = next((row for row in tx.scalars(select(WebSession).where(_of(actor))) if _name_of(row) == session), None)
    if row is None:
        raise NotFound(what="session", name=session)
    tx.delete(row)
    tx.flush()


def _of(actor: Actor) -> ColumnElement[bool]:
    if actor.account is not None:
        return WebSession.account_id == actor.account
    return false() if actor.person is None else WebSession.person_id == actor.person


def _name_of(row: WebSession) -> str:
    """Return the id under which a session is listed. From it nobody can find the token."""
    return hashlib.sha256(b"listed" + row.token_hash).hexdigest()[:_ID_LENGTH]


def close_session(tx: Session, token: str) -> None:
    """Close a session. A token that is unknown or expired is not an error."""
    tx.execute(delete(WebSession).where(WebSession.token_hash == hash_of(token)))


def close_sessions_of(tx: Session, account: AccountId) -> None:
    """Close all sessions of an account, for example after its password changed."""
    tx.execute(delete(WebSession).where(WebSession.account_id == account))


def hash_of(token: str) -> bytes:
    """Return the hash under which a token is stored."""
    return hashlib.sha256(token.encode()).digest()
