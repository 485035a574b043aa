"""Alarms: lists, one alarm with its history, messages, acknowledging and handling."""

import json
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, JsonValue, StringConstraints
from sqlalchemy.orm import Session

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal, Principal, visibility_of
from api.db_session import ReadSession, WriteSession
from api.idempotency import IdempotentCreateDep
from api.schemas import (
    LARGEST_PAGE,
    AlarmNumber,
    Celsius,
    Moment,
    Page,
    Schema,
    UnitNumber,
    ZoneNumber,
    cursor_of,
    place_of,
)
from core.alarms import handling as deeds
from core.alarms import queries
from core.alarms.duration import time_out
from core.alarms.queries import AlarmDetail, AlarmFilter, Notification
from core.alarms.states import AlarmHandling, AlarmState
from core.devices.zone_history import TimeSpan
from core.ids import AlarmId, EquipmentId, PersonId, UnitId, ZoneId
from core.runtime.instant import Instant

router = APIRouter(prefix="/alarms", tags=["alarms"])
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


class AlarmOut(Schema):
    """An alarm: what, where, since when, how far it went, who acknowledged it."""

    id: AlarmId
    rule: str
    state: AlarmState
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
    """When the end was confirmed."""
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
    """live; late: opened by readings that came late; withdrawn: a late alarm that later readings have refuted."""
    exceeds: AlarmId | None
    """The alarm that this late one exceeds; somebody had acknowledged or handled it before."""


class AttemptOut(Schema):
    """One try to send a message."""

    at: Moment
    outcome: str
    code: str
    detail: str


class MessageOut(Schema):
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


class EventOut(Schema):
    """Something that happened to an alarm."""

    at: Moment
    kind: str
    person_name: str | None
    detail: JsonValue


class Handling(Schema):
    """Cause, action, and the vaccine's disposition."""

    cause: Text
    action: Text
    disposition: Text


class HandlingOut(Handling):
    """A handling record."""

    at: Moment
    by: str


class AlarmListQuery(Schema):
    """Filter of the alarm list, and its page."""

    state: Sequence[AlarmState] = ()
    """Any of these; may be given several times."""
    handling: AlarmHandling | None = None
    rule: str | None = None
    unit: UnitNumber | None = None
    below: Annotated[bool, Field(description="with `unit`: also of all units below it")] = False
    zone: ZoneNumber | None = None
    since: Annotated[Moment | None, Field(alias="from", description="opened at or after")] = None
    until: Annotated[Moment | None, Field(alias="to", description="opened before")] = None
    cursor: Annotated[str | None, Field(max_length=200)] = None
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE)] = 50


@router.get("")
def alarms(
    tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep, query: Annotated[AlarmListQuery, Query()]
) -> Page[AlarmOut]:
    """List alarms of the principal's units and equipment, the newest first."""
    alarm_filter = AlarmFilter(
        states=query.state,
        handling=query.handling,
        rule=query.rule,
        unit=query.unit,
        below=query.below,
        zone=query.zone,
        since=query.since,
        until=query.until,
    )
    position = place_of(query.cursor, 2)
    after = (position[0], position[1]) if position else None
    listed = queries.alarms(tx, principal.actor, alarm_filter, after=after, limit=query.limit)
    last = listed[-1].alarm if len(listed) == query.limit else None
    now = context.clock.now()
    items = [alarm_out(item, now) for item in listed]
    return Page(items=items, next=cursor_of(last.opened_at, last.id) if last else None)


@router.get("/{alarm}")
def alarm(alarm: AlarmNumber, tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep) -> AlarmOut:
    """Return one alarm."""
    return alarm_out(queries.alarm_for(tx, principal.actor, alarm), context.clock.now())


@router.get("/{alarm}/events")
def events(alarm: AlarmNumber, tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep) -> list[EventOut]:
    """List what happened to an alarm, in order."""
    hidden = _hidden(tx, principal, alarm, context.clock.now())
    return [
        EventOut(at=event.at, kind=event.kind, person_name=name, detail=json.loads(event.detail))
        for event, name in queries.events(tx, alarm, hidden)
    ]


@router.get("/{alarm}/messages")
def messages(
    alarm: AlarmNumber, tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep
) -> list[MessageOut]:
    """List the messages to people, when each was handed over, and every try.

    Messages from the time after the equipment went elsewhere are shown only to those who may see it there.
    """
    hidden = _hidden(tx, principal, alarm, context.clock.now())
    return [_message(message) for message in queries.notifications(tx, alarm, hidden)]


@router.post("/{alarm}/acknowledge")
def acknowledge(alarm: AlarmNumber, tx: WriteSession, principal: CurrentPrincipal, context: AppContextDep) -> AlarmOut:
    """Acknowledge an alarm. If it was acknowledged before, nothing changes: the answer tells by whom.

    Acknowledging does not stop the escalation; the temperature does.
    """
    now = context.clock.now()
    deeds.acknowledge(tx, principal.actor, alarm, through=principal.through, now=now)
    return alarm_out(queries.alarm_for(tx, principal.actor, alarm), now)


@router.post("/{alarm}/handling", status_code=201)
def handle(
    alarm: AlarmNumber,
    body: Handling,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    once: IdempotentCreateDep,
) -> HandlingOut:
    """Record cause, action, and the vaccine's disposition; it closes an alarm that has recovered."""
    return once(HandlingOut, lambda: _handle(tx, principal, alarm, body, context.clock.now()))


@router.get("/{alarm}/handling")
def handling(alarm: AlarmNumber, tx: ReadSession, principal: CurrentPrincipal) -> HandlingOut | None:
    """Return the handling record, null while there is none."""
    queries.alarm_for(tx, principal.actor, alarm)
    record = queries.handling_of(tx, alarm)
    return None if record is None else HandlingOut.model_validate(record)


def alarm_out(item: AlarmDetail, now: Instant) -> AlarmOut:
    """Return an alarm with the names of its unit, equipment and zone."""
    alarm = item.alarm
    return AlarmOut.model_validate(
        {
            "id": alarm.id,
            "rule": alarm.rule,
            "state": alarm.state,
            "handling": alarm.handling,
            "cycle": alarm.cycle,
            "unit": item.unit.id,
            "unit_name": item.unit.name,
            "equipment": item.equipment.id,
            "equipment_name": item.equipment.name,
            "zone": item.zone.id,
            "zone_kind": item.zone.kind,
            "onset_at": alarm.onset_at,
            "opened_at": alarm.opened_at,
            "cycle_opened_at": alarm.cycle_opened_at,
            "ended_at": alarm.ended_at,
            "recovered_at": alarm.recovered_at,
            "out_seconds": time_out(alarm, now) / 1000,
            "closed_at": alarm.closed_at,
            "limit": alarm.limit,
            "opening_value": alarm.opening_value,
            "peak": alarm.peak,
            "acknowledged_at": alarm.acknowledged_at,
            "acknowledged_by": item.acknowledged_by,
            "acknowledged_through": alarm.acknowledged_through,
            "handling_seconds": None if item.handling_time is None else item.handling_time / 1000,
            "on_time": item.on_time,
            "origin": alarm.origin,
            "exceeds": alarm.exceeds_id,
        }
    )


def _hidden(tx: Session, principal: Principal, alarm: AlarmId, now: Instant) -> Sequence[TimeSpan]:
    """Return the parts of an alarm's time that the principal may not see.

    Raises: NotFound, if they may see none of it.
    """
    return queries.hidden_time(
        tx, queries.alarm_for(tx, principal.actor, alarm).alarm, visibility_of(principal.actor), now
    )


def _handle(tx: Session, principal: Principal, alarm: AlarmId, body: Handling, now: Instant) -> HandlingOut:
    deeds.handle(tx, principal.actor, alarm, deeds.HandlingReport(**body.model_dump()), now=now)
    return HandlingOut.model_validate(queries.handling_of(tx, alarm))


def _message(notification: Notification) -> MessageOut:
    message = notification.message
    return MessageOut(
        id=message.id,
        person=notification.person,
        person_name=notification.name,
        kind=message.kind,
        cycle=message.cycle,
        tier=message.tier,
        channel=message.channel,
        state=message.state,
        created_at=message.created_at,
        sent_at=message.sent_at,
        receipt=message.receipt,
        attempts=[AttemptOut.model_validate(attempt) for attempt in notification.attempts],
    )
