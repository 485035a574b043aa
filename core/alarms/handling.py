"""What people do about an alarm: acknowledge that they have it, record what they found, did and threw away.

Acknowledging does not stop escalation, the temperature does (AL-12), unless the alarm's policy says otherwise.
Handling may be recorded at any time; an alarm closes when it has recovered *and* was handled, so one that is handled
but still too warm keeps its steps and repeats (AL-11).
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.alarms.duration import cycle_opened_at
from core.alarms.facts import event, policy_of
from core.alarms.tables import Alarm, AlarmStep, HandlingRecord
from core.db import audit
from core.errors import Conflict, Invalid, NotFound
from core.ids import AlarmId
from core.runtime.instant import MINUTE, Instant
from core.text import require_plain
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


def acknowledge(
    tx: Session, actor: Actor, alarm_id: AlarmId, *, through: Through, now: Instant, linked: bool = False
) -> Alarm:
    """Note that somebody has taken the alarm on. Idempotent: the first one stands, the second changes nothing (AL-08).

    `linked`: the actor shows the link of a message about this alarm that was sent to them.
    Raises: NotFound (also for another unit's people), NotGranted.
    """
    alarm = _held(tx, alarm_id)
    _require(tx, actor, Right.ACKNOWLEDGE, alarm, now, linked=linked)
    if alarm.handling != "unacknowledged" or alarm.state == "closed":
        return alarm
    alarm.handling = "acknowledged"
    alarm.acknowledged_at, alarm.acknowledged_by, alarm.acknowledged_through = now, actor.person, through
    took = now - cycle_opened_at(alarm)
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


def handle(
    tx: Session, actor: Actor, alarm_id: AlarmId, report: Report, *, now: Instant, linked: bool = False
) -> Alarm:
    """Record what was found and done; closes the alarm if it has recovered, else it closes when it does.

    Raises: NotFound, NotGranted, Invalid, Conflict (it was handled before: a record is never changed).
    """
    for fault in faults(report):
        raise fault
    alarm = _held(tx, alarm_id)
    _require(tx, actor, Right.HANDLE, alarm, now, linked=linked)
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


def faults(report: Report) -> Sequence[Invalid]:
    """Return what is wrong with a report, all of it at once."""
    return [fault for field, value in msgspec.structs.asdict(report).items() if (fault := _fault(field, value))]


def _fault(field: str, value: str) -> Invalid | None:
    if not value.strip() or len(value) > LONGEST:
        return Invalid(field, value, f"must be 1 to {LONGEST} characters")
    try:
        require_plain(field, value, several_lines=True)
    except Invalid as error:
        return error
    return None


def acknowledged_in_time(alarm: Alarm) -> bool | None:
    """Whether the alarm was acknowledged within its policy's time (30 min: AL-07); None while it isn't acknowledged.

    Of one that opened again the time counts from there, since it had to be acknowledged anew.
    """
    if alarm.acknowledged_at is None:
        return None
    return alarm.acknowledged_at - cycle_opened_at(alarm) <= policy_of(alarm).acknowledge_within_min * MINUTE


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


def may_act(tx: Session, actor: Actor, right: Right, alarm: Alarm, now: Instant, *, linked: bool = False) -> bool:
    """Return whether somebody was granted it on what the alarm is of.

    Whoever was sent a message about it (`linked`) may as well, as long as they are told of this equipment: when it has
    been moved meanwhile, these are people who may see nothing else of the unit that the alarm is of.
    """
    if actor.may(right, on=tx.get_one(Unit, alarm.unit_id), equipment=alarm.equipment_id):
        return True
    if not linked or actor.person is None:
        return False
    told = (person for people in contacts_for(tx, alarm.equipment_id, now).values() for person in people)
    return actor.person in {person.id for person in told}


def _require(tx: Session, actor: Actor, right: Right, alarm: Alarm, now: Instant, *, linked: bool) -> None:
    """Let pass who may act.

    Raises: NotFound when the actor may not see the alarm at all, NotGranted.
    """
    if not may_act(tx, actor, right, alarm, now, linked=linked):
        unit = tx.get_one(Unit, alarm.unit_id)
        actor.require(right, on=unit, equipment=alarm.equipment_id, asked=("alarm", alarm.id))
