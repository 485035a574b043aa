"""Acknowledgement and handling of alarms by people.

An acknowledgement does not stop escalation, only the temperature does (AL-12), unless the alarm's policy says
otherwise. Handling may be recorded at any time. An alarm closes when it has recovered *and* was handled, so an alarm
that is handled but still too warm keeps its steps and repeats (AL-11).
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.alarms.alarm_facts import event, policy_of
from core.alarms.duration import cycle_opened_at
from core.alarms.states import PENDING_STEPS, ActedThrough, AlarmEventKind, AlarmHandling, AlarmState, StepState
from core.alarms.tables import Alarm, AlarmStep, HandlingRecord
from core.contacts.contacts import contacts_for
from core.db import audit
from core.errors import Conflict, Invalid, NotFound
from core.ids import AlarmId
from core.plain_text import require_plain
from core.runtime.instant import MINUTE, Instant
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit

LONGEST_TEXT = 300


class HandlingReport(msgspec.Struct, frozen=True, kw_only=True):
    """Handling report: cause, action taken, and disposition of the vaccine (CC-06)."""

    cause: str
    action: str
    disposition: str


def acknowledge(
    tx: Session, actor: Actor, alarm_id: AlarmId, *, through: ActedThrough, now: Instant, linked: bool = False
) -> Alarm:
    """Acknowledge an alarm. Idempotent: a second acknowledgement changes nothing (AL-08).

    `linked`: the actor has opened the link of a message about this alarm that was sent to them.
    Raises: NotFound (also for people of another unit), PermissionDenied.
    """
    alarm = _locked(tx, alarm_id)
    _require(tx, actor, Right.ACKNOWLEDGE, alarm, now, linked=linked)
    if alarm.handling != AlarmHandling.UNACKNOWLEDGED or alarm.state == AlarmState.CLOSED:
        return alarm
    alarm.handling = AlarmHandling.ACKNOWLEDGED
    alarm.acknowledged_at, alarm.acknowledged_by, alarm.acknowledged_through = now, actor.person, through
    delay = now - cycle_opened_at(alarm)
    detail = {"by": actor.name, "through": through, "cycle": alarm.cycle, "took_ms": delay}
    tx.add(event(alarm.id, AlarmEventKind.ACKNOWLEDGED, now, person=actor.person, **detail))
    audit.record(
        tx, at=now, actor=actor.name, act="alarm acknowledged", subject=f"alarm:{alarm.id}", detail={"through": through}
    )
    if policy_of(alarm).acknowledging_stops_escalation:
        later_steps = [
            AlarmStep.alarm_id == alarm.id,
            AlarmStep.state.in_(PENDING_STEPS),
            AlarmStep.tier > 1,
        ]
        tx.execute(update(AlarmStep).where(*later_steps).values(state=StepState.CANCELLED))
    return alarm


def handle(
    tx: Session, actor: Actor, alarm_id: AlarmId, report: HandlingReport, *, now: Instant, linked: bool = False
) -> Alarm:
    """Record the handling report. The alarm closes now if it has recovered, otherwise when it recovers.

    Raises: NotFound, PermissionDenied, Invalid, Conflict when it was handled before (a record is never changed).
    """
    for error in faults(report):
        raise error
    alarm = _locked(tx, alarm_id)
    _require(tx, actor, Right.HANDLE, alarm, now, linked=linked)
    if alarm.handling == AlarmHandling.HANDLED:
        msg = f"alarm {alarm.id} was handled before; its record stands"
        raise Conflict(msg)
    alarm.handling = AlarmHandling.HANDLED
    tx.add(
        HandlingRecord(
            alarm_id=alarm.id,
            at=now,
            by=actor.name,
            cause=report.cause.strip(),
            action=report.action.strip(),
            disposition=report.disposition.strip(),
        )
    )
    tx.add(event(alarm.id, AlarmEventKind.HANDLED, now, person=actor.person, by=actor.name))
    audit.record(tx, at=now, actor=actor.name, act="alarm handled", subject=f"alarm:{alarm.id}")
    if alarm.state == AlarmState.RECOVERED:
        alarm.state, alarm.closed_at = AlarmState.CLOSED, now
        tx.add(event(alarm.id, AlarmEventKind.CLOSED, now))
    return alarm


def faults(report: HandlingReport) -> Sequence[Invalid]:
    """Return all errors of a report."""
    return [error for field, value in msgspec.structs.asdict(report).items() if (error := _error_of(field, value))]


def _error_of(field: str, value: str) -> Invalid | None:
    if not value.strip() or len(value) > LONGEST_TEXT:
        return Invalid(field, value, f"must be 1 to {LONGEST_TEXT} characters")
    try:
        require_plain(field, value, several_lines=True)
    except Invalid as error:
        return error
    return None


def acknowledged_in_time(alarm: Alarm) -> bool | None:
    """Return whether an alarm was acknowledged within its policy's time (30 min: AL-07); None if not acknowledged.

    For an alarm that opened again, the time counts from the re-opening, because it had to be acknowledged again.
    """
    if alarm.acknowledged_at is None:
        return None
    return alarm.acknowledged_at - cycle_opened_at(alarm) <= policy_of(alarm).acknowledge_within_min * MINUTE


def _locked(tx: Session, alarm_id: AlarmId) -> Alarm:
    """Lock the alarm's row and return its current state.

    Raises: NotFound.
    """
    query = (
        select(Alarm)
        .where(Alarm.id == alarm_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    alarm = tx.scalar(query)
    if alarm is None:
        raise NotFound(what="alarm", name=alarm_id)
    return alarm


def may_act(tx: Session, actor: Actor, right: Right, alarm: Alarm, now: Instant, *, linked: bool = False) -> bool:
    """Return whether the actor may use a right on the alarm's unit or equipment.

    A person who opened the link of a message (`linked`) may too, while they are a contact of this equipment. When the
    equipment has moved, these are people who may see nothing else of the alarm's unit.
    """
    if actor.may(right, on=tx.get_one(Unit, alarm.unit_id), equipment=alarm.equipment_id):
        return True
    if not linked or actor.person is None:
        return False
    contacts = (person for people in contacts_for(tx, alarm.equipment_id, now).values() for person in people)
    return actor.person in {person.id for person in contacts}


def _require(tx: Session, actor: Actor, right: Right, alarm: Alarm, now: Instant, *, linked: bool) -> None:
    """Check `may_act`.

    Raises: NotFound when the actor may not see the alarm at all, PermissionDenied.
    """
    if not may_act(tx, actor, right, alarm, now, linked=linked):
        unit = tx.get_one(Unit, alarm.unit_id)
        actor.require(right, on=unit, equipment=alarm.equipment_id, subject=("alarm", alarm.id))
