"""What people do about an alarm: acknowledge that they have it, record what they found, did and threw away.

Acknowledging does not stop escalation, the temperature does (AL-12), unless the alarm's policy says otherwise.
Handling may be recorded at any time; an alarm closes when it has recovered *and* was handled, so one that is handled
but still too warm keeps its steps and repeats (AL-11).
"""

from typing import Literal

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.alarms.facts import event, policy_of
from core.alarms.tables import Alarm, AlarmStep, HandlingRecord
from core.db import audit
from core.errors import Conflict, Invalid, NotFound, NotGranted
from core.ids import AlarmId
from core.runtime.instant import MINUTE, Instant
from core.units.actor import Actor
from core.units.contacts import contacts_for
from core.units.rights import Right
from core.units.tables import Unit

Through = Literal["web", "wechat"]
LONGEST = 300


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found and done, and what became of the vaccine (CC-06)."""

    cause: str
    action: str
    disposition: str


def acknowledge(tx: Session, actor: Actor, alarm_id: AlarmId, *, through: Through, now: Instant) -> Alarm:
    """Note that somebody has taken the alarm on. Idempotent: the first one stands, the second changes nothing (AL-08).

    Raises: NotFound, NotGranted (another unit's people).
    """
    alarm = _held(tx, alarm_id)
    _require(tx, actor, Right.ACKNOWLEDGE, alarm, now)
    if alarm.handling != "unacknowledged" or alarm.state == "closed":
        return alarm
    alarm.handling = "acknowledged"
    alarm.acknowledged_at, alarm.acknowledged_by, alarm.acknowledged_through = now, actor.person, through
    took = now - alarm.opened_at
    said = {"by": actor.name, "through": through, "cycle": alarm.cycle, "took_ms": took}
    tx.add(event(alarm.id, "acknowledged", now, person=actor.person, **said))
    audit.record(
        tx, at=now, actor=actor.name, act="alarm acknowledged", subject=f"alarm:{alarm.id}", detail={"through": through}
    )
    if policy_of(alarm).acknowledging_stops_escalation:
        further = [
            AlarmStep.alarm_id == alarm.id,
            AlarmStep.state.in_(["due", "held", "suppressed"]),
            AlarmStep.tier > 1,
        ]
        tx.execute(update(AlarmStep).where(*further).values(state="cancelled"))
    return alarm


def handle(tx: Session, actor: Actor, alarm_id: AlarmId, report: Report, *, now: Instant) -> Alarm:
    """Record what was found and done; closes the alarm if it has recovered, else it closes when it does.

    Raises: NotFound, NotGranted, Invalid, Conflict (it was handled before: a record is never changed).
    """
    for field in Report.__struct_fields__:
        value = getattr(report, field)
        if not value.strip() or len(value) > LONGEST:
            raise Invalid(field, value, f"must be 1 to {LONGEST} characters")
    alarm = _held(tx, alarm_id)
    _require(tx, actor, Right.HANDLE, alarm, now)
    if alarm.handling == "handled":
        msg = f"alarm {alarm.id} was handled before; its record stands"
        raise Conflict(msg)
    alarm.handling = "handled"
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
    tx.add(event(alarm.id, "handled", now, person=actor.person, by=actor.name))
    audit.record(tx, at=now, actor=actor.name, act="alarm handled", subject=f"alarm:{alarm.id}")
    if alarm.state == "recovered":
        alarm.state, alarm.closed_at = "closed", now
        tx.add(event(alarm.id, "closed", now))
    return alarm


def acknowledged_in_time(alarm: Alarm) -> bool | None:
    """Whether the alarm was acknowledged within its policy's time (30 min: AL-07); None while it isn't acknowledged."""
    if alarm.acknowledged_at is None:
        return None
    return alarm.acknowledged_at - alarm.opened_at <= policy_of(alarm).acknowledge_within_min * MINUTE


def _held(tx: Session, alarm_id: AlarmId) -> Alarm:
    """Return the alarm, locked, as it is now."""
    asked = (
        select(Alarm)
        .where(Alarm.id == alarm_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    alarm = tx.scalar(asked)
    if alarm is None:
        raise NotFound(what="alarm", name=alarm_id)
    return alarm


def may_act(tx: Session, actor: Actor, right: Right, alarm: Alarm, now: Instant) -> bool:
    """Return whether somebody was granted it on the alarm's unit, or is told of this equipment now."""
    if actor.may(right, on=tx.get_one(Unit, alarm.unit_id)):
        return True
    told = (person for people in contacts_for(tx, alarm.equipment_id, now).values() for person in people)
    return actor.person is not None and actor.person in {person.id for person in told}


def _require(tx: Session, actor: Actor, right: Right, alarm: Alarm, now: Instant) -> None:
    """Let pass who may act.

    Raises: NotGranted.
    """
    if not may_act(tx, actor, right, alarm, now):
        msg = f"{actor.name} is neither of the unit of alarm {alarm.id} nor one of its contacts"
        raise NotGranted(msg)
