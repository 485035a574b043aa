"""Who is signed in. A session lies in the records, only as its token's hash; it ends by its clock or by signing out.

The token is 256 random bits, so a plain hash of it can't be turned back.
"""

import hashlib
import secrets

import msgspec
from sqlalchemy import delete
from sqlalchemy.orm import Session

from core.errors import NotSignedIn
from core.ids import AccountId, PersonId
from core.runtime.instant import Instant, Milliseconds
from core.units.actor import Actor, actor_of_account, actor_of_person
from core.units.tables import Account, Person, WebSession


class Opened(msgspec.Struct, frozen=True):
    """A new session. The token goes into the browser's cookie and is kept nowhere else."""

    token: str
    csrf: str
    """To be sent with every request that changes something."""
    expires_at: Instant


class SignedIn(msgspec.Struct, frozen=True):
    """The one who asks, and what a form of theirs must carry."""

    actor: Actor
    csrf: str
    expires_at: Instant


def open_session(
    tx: Session,
    *,
    account: AccountId | None = None,
    person: PersonId | None = None,
    now: Instant,
    lasts: Milliseconds,
) -> Opened:
    """Sign in an account, or a person known by WeChat, after the caller has made sure who it is."""
    opened = Opened(secrets.token_urlsafe(32), secrets.token_urlsafe(24), Instant(now + lasts))
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


def session_of(tx: Session, token: str, now: Instant) -> SignedIn:
    """Return who is signed in with a token, with what they may do now.

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
    return SignedIn(actor, row.csrf, row.expires_at)


def close_session(tx: Session, token: str) -> None:
    """Sign out; a token that serves no longer is none of an error."""
    tx.execute(delete(WebSession).where(WebSession.token_hash == hash_of(token)))


def close_sessions_of(tx: Session, account: AccountId) -> None:
    """Sign an account out everywhere, as after a change of its password."""
    tx.execute(delete(WebSession).where(WebSession.account_id == account))


def hash_of(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).digest()
