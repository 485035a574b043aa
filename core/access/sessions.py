"""Web sessions: opening, look-up and closing.

The records keep only the SHA-256 of a session's token. The token is 256 random bits, so a plain hash can't be reversed.
A session ends at its expiry or by signing out.
"""

import hashlib
import secrets

import msgspec
from sqlalchemy import delete
from sqlalchemy.orm import Session

from core.access.actors import actor_of_account, actor_of_person
from core.errors import NotSignedIn
from core.ids import AccountId, PersonId
from core.runtime.instant import Instant, Milliseconds
from core.units.actor import Actor
from core.units.tables import Account, Person, WebSession


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


def open_session(
    tx: Session,
    *,
    account: AccountId | None = None,
    person: PersonId | None = None,
    now: Instant,
    ttl: Milliseconds,
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
    if row.account_id is not None:
        actor = actor_of_account(tx, tx.get_one(Account, row.account_id), now)
    else:
        actor = actor_of_person(tx, tx.get_one(Person, row.person_id), now)
    return SignedInActor(actor, row.csrf, row.expires_at)


def close_session(tx: Session, token: str) -> None:
    """Close a session. A token that is unknown or expired is not an error."""
    tx.execute(delete(WebSession).where(WebSession.token_hash == hash_of(token)))


def close_sessions_of(tx: Session, account: AccountId) -> None:
    """Close all sessions of an account, for example after its password changed."""
    tx.execute(delete(WebSession).where(WebSession.account_id == account))


def hash_of(token: str) -> bytes:
    """Return the hash under which a token is stored."""
    return hashlib.sha256(token.encode()).digest()
