"""What the intake couldn't take in: readings held in quarantine, and messages that couldn't be read. For operators.

Quarantine is told by unit: a held reading belongs to the unit in which its gateway stands. Gateways that stand nowhere,
and messages that name none that can be trusted, are shown to those only who look after the whole tree.
"""

from collections.abc import Sequence
from itertools import chain

from fastapi import APIRouter
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from api.asking import Reading, SignedIn, Using
from api.shapes import Cursor, Limit, Moment, Page, Shape, cursor_of, place_of
from core.devices.tables import Gateway, GatewayUnit
from core.errors import NotGranted
from core.intake.port import Held
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit
from core.wire.topics import GatewayNumber

router = APIRouter(prefix="/intake", tags=["intake"])
BODY_SHOWN = 500


class HeldOut(Shape):
    """A reading kept out of telemetry, and why."""

    id: int
    gateway: str
    probe: str
    quantity: str
    at: Moment
    value: float | None
    q: int
    reason: str
    detail: str
    since: Moment


class DeadLetterOut(Shape):
    """A message that couldn't be read. `body` is its beginning, with what isn't text replaced."""

    id: int
    at: Moment
    topic: str
    reason: str
    body: str
    bytes: int


@router.get("/quarantine")
def quarantine(
    tx: Reading,
    asker: SignedIn,
    parts: Using,
    gateway: str | None = None,
    reason: str | None = None,
    limit: Limit = 100,
) -> list[HeldOut]:
    """List what is held, the oldest first."""
    may_see = _gateways(tx, asker.actor, parts.clock.now())
    log = parts.log.get()
    if may_see is None:
        found = log.held(gw=GatewayNumber(gateway) if gateway else None, reason=reason, limit=limit)
    else:
        theirs = [gw for gw in may_see if gateway in {None, gw}]
        each = (log.held(gw=GatewayNumber(gw), reason=reason, limit=limit) for gw in theirs)
        found = sorted(chain.from_iterable(each), key=lambda one: one.id)[:limit]
    return [_held(one) for one in found]


@router.get("/dead-letters")
def dead_letters(
    tx: Reading, asker: SignedIn, parts: Using, cursor: Cursor = None, limit: Limit = 100
) -> Page[DeadLetterOut]:
    """List the messages that couldn't be read, in the order in which they came."""
    if _gateways(tx, asker.actor, parts.clock.now()) is not None:
        msg = "a message that couldn't be read belongs to no unit; only who looks after all units may see it"
        raise NotGranted(msg)
    place = place_of(cursor, 1)
    found = parts.log.get().dead_letters(after=place[0] if place else 0, limit=limit)
    items = [
        DeadLetterOut(
            id=one.id,
            at=one.at,
            topic=one.topic,
            reason=one.reason,
            body=one.body[:BODY_SHOWN].decode("utf-8", "replace"),
            bytes=len(one.body),
        )
        for one in found
    ]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


def _gateways(tx: Session, actor: Actor, now: Instant) -> Sequence[str] | None:
    """Return the numbers of the gateways whose quarantine the asker looks after; None for all of them.

    Raises: NotGranted when they look after none.
    """
    roots = tx.scalars(select(Unit).where(Unit.parent_id.is_(None))).all()
    if roots and all(actor.may(Right.QUARANTINE, on=root) for root in roots):
        return None
    if not any(Right.QUARANTINE in held.rights for held in actor.holdings):
        msg = f"{actor.name} looks after no quarantine"
        raise NotGranted(msg)
    asked = (
        select(Gateway.number)
        .join(GatewayUnit, GatewayUnit.gateway_id == Gateway.id)
        .join(Unit, Unit.id == GatewayUnit.unit_id)
        .where(
            actor.scope(Right.QUARANTINE),
            GatewayUnit.since <= now,
            or_(GatewayUnit.until.is_(None), GatewayUnit.until > now),
        )
    )
    return tx.scalars(asked).all()


def _held(one: Held) -> HeldOut:
    reading = one.reading
    hundredths = reading.quantity in {"t", "h"}
    value = None if reading.value is None else reading.value / (100 if hundredths else 1)
    return HeldOut(
        id=one.id,
        gateway=one.gw,
        probe=reading.p,
        quantity=reading.quantity,
        at=reading.at,
        value=value,
        q=reading.q,
        reason=one.reason,
        detail=one.detail,
        since=one.since,
    )
