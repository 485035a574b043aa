"""API tokens for machines: bearer tokens bound to a unit and a role. Only their hash is stored."""

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.access.management import require_may_manage
from core.access.sessions import hash_of
from core.db import audit
from core.errors import Conflict, NotSignedIn
from core.plain_text import require_plain
from core.runtime.instant import Instant
from core.units.actor import Actor, Holding
from core.units.rights import NOT_FOR_MACHINES, Role, rights_of
from core.units.tables import ApiToken, Unit


def issue_token(
    tx: Session, actor: Actor, *, name: str, unit: Unit, role: Role, expires_at: Instant | None, now: Instant
) -> str:
    """Create a token and return it. It is not shown again, because only its hash is stored.

    Raises: PermissionDenied, Conflict when the name is taken.
    """
    require_may_manage(tx, actor, role, unit)
    require_plain("name", name)
    if token_named(tx, name) is not None:
        msg = f"there is a token {name!r} already; take another name"
        raise Conflict(msg)
    token = f"cc_{secrets.token_urlsafe(32)}"
    row = ApiToken(name=name, token_hash=hash_of(token), unit_id=unit.id, role=role, expires_at=expires_at)
    tx.add(row)
    tx.flush()
    audit.record(
        tx,
        at=now,
        actor=actor.name,
        act="token issued",
        subject=f"token:{row.id}",
        detail={"unit": unit.id, "role": role},
    )
    return token


def actor_of_token(tx: Session, token: str, now: Instant) -> Actor:
    """Return the actor of a token.

    Raises: NotSignedIn.
    """
    row = tx.scalar(select(ApiToken).where(ApiToken.token_hash == hash_of(token)))
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        msg = "this token is not known, or not any longer"
        raise NotSignedIn(msg)
    unit = tx.get_one(Unit, row.unit_id)
    return Actor(f"token:{row.id}", (Holding(unit.path, rights_of(row.role, unit.level) - NOT_FOR_MACHINES),))


def token_named(tx: Session, name: str) -> ApiToken | None:
    """Return the token with a name, or None."""
    return tx.scalar(select(ApiToken).where(ApiToken.name == name))


def tokens_with_units(tx: Session) -> list[tuple[ApiToken, str]]:
    """Return all tokens by name, each with the name of its unit."""
    query = select(ApiToken, Unit.name).join(Unit, Unit.id == ApiToken.unit_id).order_by(ApiToken.name)
    return [(token, unit) for token, unit in tx.execute(query)]


def revoke_token(tx: Session, actor: Actor, row: ApiToken, *, now: Instant) -> None:
    """End a token at once.

    Raises: PermissionDenied.
    """
    require_may_manage(tx, actor, row.role, tx.get_one(Unit, row.unit_id))
    row.expires_at = now
    audit.record(tx, at=now, actor=actor.name, act="token revoked", subject=f"token:{row.id}")
