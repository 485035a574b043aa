"""Recovery of alarms: cancels the steps and sends recovery messages; the alarm then waits to be handled.

The caller has locked the alarm's row. Steps are cancelled before the recipients are read: a worker that fires a step at
this moment holds the lock on the step's row until its messages are written.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import and_, func, select, update
from sqlalchemy.orm import Session

from core.alarms.alarm_facts import event, facts_of_alarm, worst
from core.alarms.condition_changes import ConditionChange
from core.alarms.duration import cycle_onset_at
from core.alarms.outbox import MessageDraft, OutboxWriter
from core.alarms.states import (
    PENDING_STEPS,
    AlarmEventKind,
    AlarmHandling,
    AlarmState,
    MessageState,
    NotificationKind,
    StepState,
)
from core.alarms.tables import Alarm, AlarmStep, OutboxMessage
from core.alarms.zone_cache import ZoneCache
from core.db.insert import insert_missing
from core.ids import PersonId
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.units.tables import Person

DIGEST_AFTER = Milliseconds(5 * MINUTE)
DIGEST = 0
"""Tier of the step that adds an alarm to the digest of late data."""


def recover(
    tx: Session,
    zones: ZoneCache,
    outbox: OutboxWriter,
    alarm: Alarm,
    condition_changes: Sequence[ConditionChange],
    now: Instant,
) -> None:
    """End the cycle of an open alarm and queue recovery messages with start, end and total time beyond the limit.

    If the end was not measured (the probe was taken away), there is no message: it would claim that all is well.
    """
    measured = any(item.measured for item in condition_changes)
    of_cycle = and_(AlarmStep.alarm_id == alarm.id, AlarmStep.cycle == alarm.cycle)
    pending = and_(of_cycle, AlarmStep.state.in_(PENDING_STEPS))
    unfired = AlarmStep.state.in_([StepState.DUE, StepState.HELD])
    unfired_level_1 = tx.scalar(select(func.count()).where(of_cycle, AlarmStep.tier == 1, unfired))
    tx.execute(update(AlarmStep).where(pending).values(state=StepState.CANCELLED))
    alarm.recovered_at = now
    ends = [item.ended for item in condition_changes if item.ended is not None]
    if alarm.probe_ended_at is not None:
        ends.append(alarm.probe_ended_at)
    # Without a measured end, the excursion is taken to have lasted until now.
    alarm.ended_at = max(cycle_onset_at(alarm), max(ends, default=now))
    for item in condition_changes:
        alarm.peak = worst(alarm.rule, [alarm.peak, item.peak])
    alarm.state = AlarmState.CLOSED if alarm.handling == AlarmHandling.HANDLED else AlarmState.RECOVERED
    recipients = _recipients(tx, alarm)
    if measured:
        value = next((item.value for item in condition_changes if item.value is not None), None)
        drafts = [
            MessageDraft(
                kind=NotificationKind.RECOVERY,
                facts=facts_of_alarm(alarm, zones, tier=tier, value=value, until=now),
                person=person,
                openid=openid,
                tier=tier,
                about=alarm.id,
                cycle=alarm.cycle,
            )
            for person, openid, tier in recipients
        ]
        for draft in outbox.queue(tx, drafts, now):
            tx.add(event(alarm.id, AlarmEventKind.UNREACHABLE, now, person=draft.person, tier=draft.tier))
    tx.add(event(alarm.id, AlarmEventKind.RECOVERED, now, cycle=alarm.cycle, ended=alarm.ended_at, measured=measured))
    if alarm.state == AlarmState.CLOSED:
        alarm.closed_at = now
        tx.add(event(alarm.id, AlarmEventKind.CLOSED, now))
    elif unfired_level_1 and not recipients and alarm.cycle == 1:
        put_in_digest(tx, [alarm], now)


def put_in_digest(tx: Session, alarms: Iterable[Alarm], now: Instant) -> None:
    """Schedule the digest for alarms that were over before anybody was told: one message per gateway to level 1."""
    due_at = now + DIGEST_AFTER
    insert_missing(
        tx,
        AlarmStep,
        [
            {"alarm_id": alarm.id, "cycle": alarm.cycle, "tier": DIGEST, "repeat": 0, "due_at": due_at}
            for alarm in alarms
        ],
    )


def _recipients(tx: Session, alarm: Alarm) -> list[tuple[PersonId, str | None, int]]:
    """Return person, openid and highest tier of everybody with a message of this cycle, sent or still queued."""
    rows = tx.execute(
        select(OutboxMessage.person_id, Person.openid, func.max(OutboxMessage.tier))
        .join(Person, Person.id == OutboxMessage.person_id)
        .where(
            OutboxMessage.alarm_id == alarm.id,
            OutboxMessage.cycle == alarm.cycle,
            OutboxMessage.kind == NotificationKind.ALARM,
            OutboxMessage.state.in_([MessageState.QUEUED, MessageState.SENT]),
        )
        .group_by(OutboxMessage.person_id, Person.openid)
        .order_by(OutboxMessage.person_id)
    )
    return [(person, openid, tier) for person, openid, tier in rows]
