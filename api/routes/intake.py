"""Quarantine and dead letters of the intake, for operators: held readings, and messages that couldn't be read.

Quarantine is shown by unit: a held reading belongs to the unit that its gateway was in when it was held. Held readings
of gateways in no unit, and messages without a trusted gateway, are only for operators of the whole tree.
"""

from collections.abc import Mapping
from itertools import chain

from fastapi import APIRouter
from sqlalchemy.orm import Session

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import ReadSession
from api.schemas import LAST_MOMENT, Cursor, Moment, Page, PageLimit, Schema, cursor_of, place_of
from core.devices.directory import RefusalReason
from core.devices.queries import gateways_in
from core.errors import PermissionDenied
from core.intake.port import QuarantinedReading
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.queries import has_whole_tree
from core.units.rights import Right
from core.wire.shards import GatewayNumber

router = APIRouter(prefix="/intake", tags=["intake"])
BODY_SHOWN = 500
NAMES_OTHERS = (RefusalReason.FOREIGN_GATEWAY, RefusalReason.STOPPED_EQUIPMENT)
"""Reasons whose detail names the gateway or the equipment that a probe was with, of any unit."""


class HeldOut(Schema):
    """A reading kept out of telemetry, and why.

    A reading that can't be decoded has no probe, quantity or time; `as_sent` has its text. `at` is null if no calendar
    has the time that was sent; `ts` is that time in milliseconds.
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


class DeadLetterOut(Schema):
    """A message that couldn't be read. `body` is its beginning, with bytes that aren't text replaced."""

    id: int
    at: Moment
    topic: str
    reason: str
    body: str
    bytes: int


@router.get("/quarantine")
def quarantine(
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    gateway: str | None = None,
    reason: str | None = None,
    cursor: Cursor = None,
    limit: PageLimit = 100,
) -> Page[HeldOut]:
    """List the held readings, in the order in which they came."""
    position = place_of(cursor, 1)
    after = position[0] if position else 0
    since_by_gateway = _gateways(tx, principal.actor, context.clock.now())
    log = context.log.get()
    if since_by_gateway is None:
        page = log.held(gw=GatewayNumber(gateway) if gateway else None, reason=reason, after=after, limit=limit)
    else:
        gateways = [gw for gw in since_by_gateway if gateway in {None, gw}]
        pages = (log.held(gw=GatewayNumber(gw), reason=reason, after=after, limit=limit) for gw in gateways)
        page = sorted(chain.from_iterable(pages), key=lambda held: held.id)[:limit]
    whole_tree = since_by_gateway is None
    visible = [held for held in page if since_by_gateway is None or held.since >= since_by_gateway[held.gw]]
    items = [_held(held, whole_tree=whole_tree) for held in visible]
    return Page(items=items, next=cursor_of(page[-1].id) if len(page) == limit else None)


@router.get("/dead-letters")
def dead_letters(
    tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep, cursor: Cursor = None, limit: PageLimit = 100
) -> Page[DeadLetterOut]:
    """List the messages that couldn't be read, in the order in which they came."""
    if _gateways(tx, principal.actor, context.clock.now()) is not None:
        msg = "a message that couldn't be read belongs to no unit; only who looks after all units may see it"
        raise PermissionDenied(msg)
    position = place_of(cursor, 1)
    letters = context.log.get().dead_letters(after=position[0] if position else 0, limit=limit)
    items = [
        DeadLetterOut(
            id=letter.id,
            at=letter.at,
            topic=letter.topic,
            reason=letter.reason,
            body=letter.body[:BODY_SHOWN].decode("utf-8", "replace"),
            bytes=len(letter.body),
        )
        for letter in letters
    ]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


def _gateways(tx: Session, actor: Actor, now: Instant) -> Mapping[str, Instant] | None:
    """Return since when each gateway is in a unit whose quarantine the principal may see; None for the whole tree.

    Raises: PermissionDenied if they may see no quarantine.
    """
    if has_whole_tree(tx, actor, Right.QUARANTINE):
        return None
    if not any(Right.QUARANTINE in held.rights for held in actor.holdings):
        msg = f"{actor.name} looks after no quarantine"
        raise PermissionDenied(msg)
    return gateways_in(tx, actor.scope(Right.QUARANTINE), now)


def _held(held: QuarantinedReading, *, whole_tree: bool) -> HeldOut:
    """Return a held reading for JSON; `whole_tree`: the principal may also read details about other units."""
    detail = held.detail if whole_tree or held.reason not in NAMES_OTHERS else ""
    answer = HeldOut(id=held.id, gateway=held.gw, reason=held.reason, detail=detail, since=held.since)
    reading = held.reading
    if isinstance(reading, bytes):
        answer.as_sent = reading.decode("utf-8", "replace")
        return answer
    hundredths = reading.quantity in {"t", "h"}
    answer.probe, answer.quantity, answer.ts, answer.q = reading.p, reading.quantity, reading.ts, reading.q
    answer.at = reading.at if reading.at <= LAST_MOMENT else None
    answer.value = None if reading.value is None else reading.value / (100 if hundredths else 1)
    return answer
