"""Alarms: lists, one with all that happened, who was told, acknowledging and handling."""

import json
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import Field, JsonValue, StringConstraints
from sqlalchemy.orm import Session

from api.asking import Asker, Reading, SignedIn, Using, Writing, may_see
from api.once import Creating
from api.shapes import MOST, AlarmNumber, Celsius, Moment, Page, Shape, UnitNumber, ZoneNumber, cursor_of, place_of
from core.alarms import handling as deeds
from core.alarms import listing
from core.alarms.duration import time_out
from core.alarms.listing import AlarmSeen, Told, Wanted
from core.alarms.tables import Alarm
from core.devices.history import Span
from core.ids import AlarmId, EquipmentId, PersonId, UnitId, ZoneId
from core.runtime.instant import Instant
from core.units.rights import Right

router = APIRouter(prefix="/alarms", tags=["alarms"])
State = Literal["open", "recovered", "closed"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


class AlarmOut(Shape):
    """An alarm: what, where, since when, how far it went, who has taken it up."""

    id: AlarmId
    rule: str
    state: State
    handling: str
    cycle: int
    unit: UnitId
    unit_name: str
    equipment: EquipmentId
    equipment_name: str
    zone: ZoneId
    zone_kind: str
    onset_at: Moment
    """Beginning of the excursion, of the first cycle."""
    opened_at: Moment
    """First opening, from which escalation counts."""
    cycle_opened_at: Moment | None
    """Last re-opening; null in the first cycle."""
    ended_at: Moment | None
    """End of the excursion, of the last cycle."""
    recovered_at: Moment | None
    """When that was confirmed."""
    out_seconds: float
    """Time beyond the limits in all cycles, without the time between them; until now while it goes on."""
    closed_at: Moment | None
    limit: Celsius | None
    opening_value: Celsius | None
    peak: Celsius | None
    acknowledged_at: Moment | None
    acknowledged_by: str | None
    acknowledged_through: str | None
    handling_seconds: float | None
    """From the alarm to its acknowledgement."""
    on_time: bool | None
    """Acknowledged within 30 minutes."""
    origin: str
    """live; late: made of readings that came late; withdrawn: made so, and later readings have left nothing of it."""
    exceeds: AlarmId | None
    """The alarm that a late one exceeds, which somebody had acknowledged or handled before."""


class AttemptOut(Shape):
    """One try to hand a message over."""

    at: Moment
    outcome: str
    code: str
    detail: str


class MessageOut(Shape):
    """A message to one person, and every try (AL-06). `state`: queued, sent, failed, superseded."""

    id: int
    person: PersonId
    person_name: str
    kind: str
    cycle: int
    tier: int
    channel: str
    state: str
    created_at: Moment
    sent_at: Moment | None
    receipt: str | None
    attempts: Sequence[AttemptOut]


class EventOut(Shape):
    """Something that happened to an alarm."""

    at: Moment
    kind: str
    person_name: str | None
    detail: JsonValue


class Handling(Shape):
    """What was found, what was done, and what became of the vaccine."""

    cause: Text
    action: Text
    disposition: Text


class HandlingOut(Handling):
    """A handling record."""

    at: Moment
    by: str


class Asked(Shape):
    """Which alarms, and which part of the list."""

    state: Sequence[State] = ()
    """Any of these; may be given several times."""
    handling: Literal["unacknowledged", "acknowledged", "handled"] | None = None
    rule: str | None = None
    unit: UnitNumber | None = None
    zone: ZoneNumber | None = None
    since: Annotated[Moment | None, Field(alias="from", description="opened at or after")] = None
    until: Annotated[Moment | None, Field(alias="to", description="opened before")] = None
    cursor: Annotated[str | None, Field(max_length=200)] = None
    limit: Annotated[int, Field(ge=1, le=MOST)] = 50


@router.get("")
def alarms(tx: Reading, asker: SignedIn, parts: Using, asked: Annotated[Asked, Query()]) -> Page[AlarmOut]:
    """List alarms of the asker's units and equipment, the newest first."""
    wanted = Wanted(
        states=asked.state,
        handling=asked.handling,
        rule=asked.rule,
        unit=asked.unit,
        zone=asked.zone,
        since=asked.since,
        until=asked.until,
    )
    place = place_of(asked.cursor, 2)
    behind = (place[0], place[1]) if place else None
    scope = asker.actor.scope(Right.SEE, Alarm.equipment_id)
    found = listing.alarms(tx, scope, wanted, behind=behind, limit=asked.limit)
    last = found[-1].alarm if len(found) == asked.limit else None
    now = parts.clock.now()
    return Page(items=[alarm_out(one, now) for one in found], next=cursor_of(last.opened_at, last.id) if last else None)


@router.get("/{alarm}")
def alarm(alarm: AlarmNumber, tx: Reading, asker: SignedIn, parts: Using) -> AlarmOut:
    """Return one alarm."""
    return alarm_out(listing.alarm_for(tx, asker.actor, alarm), parts.clock.now())


@router.get("/{alarm}/events")
def events(alarm: AlarmNumber, tx: Reading, asker: SignedIn, parts: Using) -> list[EventOut]:
    """List what happened to an alarm, in order."""
    hidden = _hidden(tx, asker, alarm, parts.clock.now())
    return [
        EventOut(at=event.at, kind=event.kind, person_name=name, detail=json.loads(event.detail))
        for event, name in listing.events(tx, alarm, hidden)
    ]


@router.get("/{alarm}/messages")
def messages(alarm: AlarmNumber, tx: Reading, asker: SignedIn, parts: Using) -> list[MessageOut]:
    """List who was to be told, when each message was handed over, and every try.

    Messages from the time after the equipment went elsewhere are for those who may see it there.
    """
    hidden = _hidden(tx, asker, alarm, parts.clock.now())
    return [_message(one) for one in listing.told(tx, alarm, hidden)]


@router.post("/{alarm}/acknowledge")
def acknowledge(alarm: AlarmNumber, tx: Writing, asker: SignedIn, parts: Using) -> AlarmOut:
    """Say that one is seeing to it. Acknowledged before, nothing changes: the answer says by whom.

    Acknowledging does not stop the escalation; the temperature does.
    """
    now = parts.clock.now()
    deeds.acknowledge(tx, asker.actor, alarm, through=asker.through, now=now)
    return alarm_out(listing.alarm_for(tx, asker.actor, alarm), now)


@router.post("/{alarm}/handling", status_code=201)
def handle(
    alarm: AlarmNumber, body: Handling, tx: Writing, asker: SignedIn, parts: Using, once: Creating
) -> HandlingOut:
    """Record cause, action, and what became of the vaccine; it closes an alarm that has recovered."""
    return once(HandlingOut, lambda: _handle(tx, asker, alarm, body, parts.clock.now()))


@router.get("/{alarm}/handling")
def handling(alarm: AlarmNumber, tx: Reading, asker: SignedIn) -> HandlingOut | None:
    """Return the handling record, null while there is none."""
    listing.alarm_for(tx, asker.actor, alarm)
    found = listing.handling_of(tx, alarm)
    return None if found is None else HandlingOut.model_validate(found)


def alarm_out(one: AlarmSeen, now: Instant) -> AlarmOut:
    """Write an alarm with the names of what it concerns."""
    names = set(AlarmOut.model_fields) & set(one.alarm.__table__.columns.keys()) - {"acknowledged_by"}
    return AlarmOut(
        **{name: getattr(one.alarm, name) for name in names},
        unit=one.unit.id,
        unit_name=one.unit.name,
        equipment=one.equipment.id,
        equipment_name=one.equipment.name,
        zone=one.zone.id,
        zone_kind=one.zone.kind,
        acknowledged_by=one.acknowledged_by,
        out_seconds=time_out(one.alarm, now) / 1000,
        handling_seconds=None if one.handling_time is None else one.handling_time / 1000,
        on_time=one.on_time,
        exceeds=one.alarm.exceeds_id,
    )


def _hidden(tx: Session, asker: Asker, alarm: AlarmId, now: Instant) -> Sequence[Span]:
    """Return what of an alarm's time isn't the asker's to see.

    Raises: NotFound, when none of it is.
    """
    return listing.hidden_time(tx, listing.alarm_for(tx, asker.actor, alarm).alarm, may_see(asker.actor), now)


def _handle(tx: Session, asker: Asker, alarm: AlarmId, body: Handling, now: Instant) -> HandlingOut:
    deeds.handle(tx, asker.actor, alarm, deeds.Report(**body.model_dump()), now=now)
    return HandlingOut.model_validate(listing.handling_of(tx, alarm))


def _message(one: Told) -> MessageOut:
    names = set(MessageOut.model_fields) - {"person", "person_name", "attempts"}
    return MessageOut(
        **{name: getattr(one.message, name) for name in names},
        person=one.person,
        person_name=one.name,
        attempts=[AttemptOut.model_validate({n: getattr(a, n) for n in AttemptOut.model_fields}) for a in one.attempts],
    )
