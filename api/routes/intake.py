"""What the intake couldn't take in: readings held in quarantine, and messages that couldn't be read. For operators.

Quarantine is told by unit: a held reading belongs to the unit in which its gateway was when it was held. Gateways that
stand nowhere, and messages that name none that can be trusted, are shown to those only who look after the whole tree.
"""

from collections.abc import Mapping
from itertools import chain

from fastapi import APIRouter
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from api.asking import Reading, SignedIn, Using
from api.shapes import LAST_MOMENT, Cursor, Limit, Moment, Page, Shape, cursor_of, place_of
from core.devices.directory import Refusal
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
NAMES_OTHERS = (Refusal.FOREIGN_GATEWAY, Refusal.STOPPED_EQUIPMENT)
"""Reasons whose detail names the gateway or the equipment with which a probe was, of whichever unit."""


class HeldOut(Shape):
    """A reading kept out of telemetry, and why.

    One that can't be read has no probe, quantity or time, and stands in `as_sent` as it came. `at` is null where no
    calendar has the time that was sent, which `ts` says in milliseconds.
    """

    id: int
    gateway: str
    reason: str
    detail: str
    since: Moment
    probe: str | None = None
    quantity: str | None = None
    at: Moment | None = None
    ts: int | None = None
    value: float | None = None
    q: int | None = None
    as_sent: str | None = None


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
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[HeldOut]:
    """List what is held, in the order in which it came."""
    place = place_of(cursor, 1)
    after = place[0] if place else 0
    may_see = _gateways(tx, asker.actor, parts.clock.now())
    log = parts.log.get()
    if may_see is None:
        found = log.held(gw=GatewayNumber(gateway) if gateway else None, reason=reason, after=after, limit=limit)
    else:
        theirs = [gw for gw in may_see if gateway in {None, gw}]
        each = (log.held(gw=GatewayNumber(gw), reason=reason, after=after, limit=limit) for gw in theirs)
        found = sorted(chain.from_iterable(each), key=lambda one: one.id)[:limit]
    items = [_held(one, whole=may_see is None) for one in found if may_see is None or one.since >= may_see[one.gw]]
    return Page(items=items, next=cursor_of(found[-1].id) if len(found) == limit else None)


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


def _gateways(tx: Session, actor: Actor, now: Instant) -> Mapping[str, Instant] | None:
    """Return the gateways whose quarantine the asker looks after, each since it came to its unit; None for all of them.

    Raises: NotGranted when they look after none.
    """
    roots = tx.scalars(select(Unit).where(Unit.parent_id.is_(None))).all()
    if roots and all(actor.may(Right.QUARANTINE, on=root) for root in roots):
        return None
    if not any(Right.QUARANTINE in held.rights for held in actor.holdings):
        msg = f"{actor.name} looks after no quarantine"
        raise NotGranted(msg)
    asked = (
        select(Gateway.number, GatewayUnit.since)
        .join(GatewayUnit, GatewayUnit.gateway_id == Gateway.id)
        .join(Unit, Unit.id == GatewayUnit.unit_id)
        .where(
            actor.scope(Right.QUARANTINE),
            GatewayUnit.since <= now,
            or_(GatewayUnit.until.is_(None), GatewayUnit.until > now),
        )
    )
    return {row.number: row.since for row in tx.execute(asked)}


def _held(one: Held, *, whole: bool) -> HeldOut:
    """Write what is held; `whole`: for who looks after all units, and may read what a detail says of other units."""
    detail = one.detail if whole or one.reason not in NAMES_OTHERS else ""
    shown = HeldOut(id=one.id, gateway=one.gw, reason=one.reason, detail=detail, since=one.since)
    reading = one.reading
    if isinstance(reading, bytes):
        shown.as_sent = reading.decode("utf-8", "replace")
        return shown
    hundredths = reading.quantity in {"t", "h"}
    shown.probe, shown.quantity, shown.ts, shown.q = reading.p, reading.quantity, reading.ts, reading.q
    shown.at = reading.at if reading.at <= LAST_MOMENT else None
    shown.value = None if reading.value is None else reading.value / (100 if hundredths else 1)
    return shown
