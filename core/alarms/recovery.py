"""How an alarm recovers: its steps are cancelled, those who were told are told, and it waits to be handled.

The alarm's row is locked by the caller. Steps are cancelled before who was told is read: a worker that fires a step at
this moment holds the step's row until its messages are there.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import and_, func, select, update
from sqlalchemy.orm import Session

from core.alarms.duration import cycle_onset_at
from core.alarms.evidence import Evidence
from core.alarms.facts import event, facts, worst
from core.alarms.post import Draft, Post
from core.alarms.tables import Alarm, AlarmStep, Outbox
from core.alarms.watched import Zones
from core.db.insert import insert_missing
from core.ids import PersonId
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.units.tables import Person

DIGEST_AFTER = Milliseconds(5 * MINUTE)
DIGEST = 0
"""Tier of the step that puts an alarm into the digest of late data."""


def recover(tx: Session, zones: Zones, post: Post, alarm: Alarm, seen: Sequence[Evidence], now: Instant) -> None:
    """End an open alarm's cycle, and tell of it: from when to when, and how long it was out in all.

    Where nothing was measured (the probe was taken away) nobody is told that all were well.
    """
    measured = any(one.measured for one in seen)
    mine = and_(AlarmStep.alarm_id == alarm.id, AlarmStep.cycle == alarm.cycle)
    pending = and_(mine, AlarmStep.state.in_(["due", "held", "suppressed"]))
    untold = tx.scalar(select(func.count()).where(mine, AlarmStep.tier == 1, AlarmStep.state.in_(["due", "held"])))
    tx.execute(update(AlarmStep).where(pending).values(state="cancelled"))
    alarm.recovered_at = now
    ends = [one.ended for one in seen if one.ended is not None]
    if alarm.probe_ended_at is not None:
        ends.append(alarm.probe_ended_at)
    # Where nothing was measured any more it lasted, as far as is known, until that was seen.
    alarm.ended_at = max(cycle_onset_at(alarm), max(ends, default=now))
    for one in seen:
        alarm.peak = worst(alarm.rule, [alarm.peak, one.peak])
    alarm.state = "closed" if alarm.handling == "handled" else "recovered"
    told = _told(tx, alarm)
    if measured:
        value = next((one.value for one in seen if one.value is not None), None)
        drafts = [
            Draft(
                kind="recovery",
                facts=facts(alarm, zones, tier=tier, value=value, until=now),
                person=person,
                openid=openid,
                tier=tier,
                about=alarm.id,
                cycle=alarm.cycle,
            )
            for person, openid, tier in told
        ]
        for draft in post.queue(tx, drafts, now):
            tx.add(event(alarm.id, "unreachable", now, person=draft.person, tier=draft.tier))
    tx.add(event(alarm.id, "recovered", now, cycle=alarm.cycle, ended=alarm.ended_at, measured=measured))
    if alarm.state == "closed":
        alarm.closed_at = now
        tx.add(event(alarm.id, "closed", now))
    elif untold and not told and alarm.cycle == 1:
        put_in_digest(tx, [alarm], now)


def put_in_digest(tx: Session, alarms: Iterable[Alarm], now: Instant) -> None:
    """Let level 1 know, in one message a gateway, of alarms that were over before anyone could be told."""
    due_at = now + DIGEST_AFTER
    insert_missing(
        tx,
        AlarmStep,
        [{"alarm_id": alarm.id, "cycle": alarm.cycle, "tier": DIGEST, "turn": 0, "due_at": due_at} for alarm in alarms],
    )


def _told(tx: Session, alarm: Alarm) -> list[tuple[PersonId, str | None, int]]:
    """Return person, openid and highest tier of everybody who has, or may yet get, a message of this cycle."""
    rows = tx.execute(
        select(Outbox.person_id, Person.openid, func.max(Outbox.tier))
        .join(Person, Person.id == Outbox.person_id)
        .where(
            Outbox.alarm_id == alarm.id,
            Outbox.cycle == alarm.cycle,
            Outbox.kind == "alarm",
            Outbox.state.in_(["queued", "sent"]),
        )
        .group_by(Outbox.person_id, Person.openid)
        .order_by(Outbox.person_id)
    )
    return [(person, openid, tier) for person, openid, tier in rows]
