"""Escalation: fires the due steps of alarms, each once, or holds or postpones them.

Guarantees, tried by tests/integration/test_escalation.py, test_alarm_people.py and test_alerting_races.py on both
databases:
* A step fires once: its messages, its `fired` and the next repeat are one transaction, and the step is claimed from
  `alarm_step` alone, by SKIP LOCKED (on SQLite by BEGIN IMMEDIATE).
* It fires only while the condition is active: clearing holds it, and only the recovery cancels it.
* People are looked up when it fires. A person in two levels gets one message. A level without a reachable person is an
  event of its own in the alarm's history, never "told", and the step counts.
* The alarm's row is never locked here, only read: the recovery locks it before it cancels steps.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import ColumnElement, Select, and_, exists, func, not_, select, update
from sqlalchemy.orm import Session

from alerting.escalating.late_digest import send_digests
from alerting.escalating.suppression import is_suppressed
from core.alarms.alarm_facts import event, event_row, facts_of_alarm, policy_of
from core.alarms.lifecycle import ZoneRule
from core.alarms.message_text import AlarmFacts
from core.alarms.outbox import MessageDraft, OutboxWriter
from core.alarms.recovery import DIGEST
from core.alarms.states import (
    PENDING_STEPS,
    AlarmEventKind,
    AlarmHandling,
    AlarmState,
    MessageState,
    NotificationKind,
    StepState,
)
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, OutboxMessage, RuleState, SeriesState
from core.alarms.zone_cache import ZoneCache
from core.contacts.contacts import contacts_of
from core.contacts.reachability import levels_out_of_reach
from core.db.in_values import in_values
from core.db.insert import insert_missing
from core.ids import AlarmId, Centi, PersonId, ZoneId
from core.rules.rule_types import GOING_ON, Condition, Rule
from core.runtime.instant import DAY, MINUTE, Instant
from core.units.tables import Person

STEPS_PER_TRANSACTION = 500
"""Steps in one transaction: so many are due at once only when a county loses power."""


class RuleStanding(msgspec.Struct, frozen=True):
    """Present state of a rule in a zone."""

    condition: Condition
    value: Centi | None
    """Worst of the newest readings of the abnormal probes."""
    at: Instant | None
    """Time of the newest of these readings."""
    offline: bool
    """Whether all these probes are offline; an offline probe keeps its last condition."""


CALM = RuleStanding(Condition.OK, None, None, offline=False)


def escalate(tx: Session, zones: ZoneCache, outbox: OutboxWriter, now: Instant) -> int:
    """Settle some of the due steps; return how many, 0 when none is due."""
    resume(tx, now)
    steps = _claim(tx, now)
    if steps:
        _Settling(tx, zones, outbox, now).settle(steps)
    return len(steps)


def notify_level_1(
    tx: Session, zones: ZoneCache, outbox: OutboxWriter, now: Instant, zone_ids: Collection[ZoneId]
) -> int:
    """Tell level 1 of open alarms in `zone_ids`, while the rest of the log is still being followed."""
    open_alarms = select(Alarm.id).where(in_values(tx, Alarm.zone_id, zone_ids), Alarm.state == AlarmState.OPEN)
    steps = _claim(tx, now, in_values(tx, AlarmStep.alarm_id, set(tx.scalars(open_alarms))), AlarmStep.tier == 1)
    if steps:
        _Settling(tx, zones, outbox, now).settle(steps)
    return len(steps)


def can_resume(tx: Session, now: Instant) -> bool:
    """Return whether `resume` would find a step; checked first, so that a window costs no write in each pass."""
    return tx.scalar(select(exists(_resumable(now)))) or False


def resume(tx: Session, now: Instant) -> None:
    """Resume paging for alarms whose maintenance window has ended: the first suppressed step is due now.

    The later ones keep their distance, since the window stopped the escalation's clock, not the temperature.
    """
    rows = tx.execute(_resumable(now).with_for_update(skip_locked=True, of=AlarmStep)).all()
    first_due: dict[tuple[AlarmId, int], Instant] = {}
    for alarm, cycle, due_at in rows:
        first_due[alarm, cycle] = min(due_at, first_due.get((alarm, cycle), due_at))
    for (alarm, cycle), due_at in first_due.items():
        alarm_steps = and_(AlarmStep.alarm_id == alarm, AlarmStep.cycle == cycle, AlarmStep.tier != DIGEST)
        is_waiting = AlarmStep.state.in_(PENDING_STEPS)
        moved = {"due_at": AlarmStep.due_at + (now - due_at), "state": StepState.DUE}
        tx.execute(update(AlarmStep).where(alarm_steps, is_waiting).values(moved))
        tx.add(event(alarm, AlarmEventKind.RESUMED, now, cycle=cycle))


def next_due(tx: Session) -> Instant | None:
    """Return when the next step is due."""
    return tx.scalar(select(func.min(AlarmStep.due_at)).where(AlarmStep.state == StepState.DUE))


def rule_standings(tx: Session, zones: Iterable[ZoneId]) -> dict[ZoneRule, RuleStanding]:
    """Return the state of each rule and zone that isn't ok."""
    offline = select(RuleState.series_id).where(
        RuleState.rule == Rule.PROBE_OFFLINE, RuleState.condition == Condition.ACTIVE
    )
    rows = tx.execute(
        select(
            RuleState.zone_id,
            RuleState.rule,
            RuleState.condition,
            SeriesState.value,
            SeriesState.newest_at,
            RuleState.series_id.in_(offline),
        )
        .outerjoin(SeriesState, SeriesState.series_id == RuleState.series_id)
        .where(in_values(tx, RuleState.zone_id, list(zones)), RuleState.condition.in_(GOING_ON))
    )
    states: dict[ZoneRule, RuleStanding] = {}
    for zone, rule, condition, value, at, is_offline in rows:
        key = (zone, rule)
        earlier = states.get(key)
        active = Condition.ACTIVE in (condition, earlier.condition if earlier else None)
        values = [number for number in (value, earlier.value if earlier else None) if number is not None]
        times = [number for number in (at, earlier.at if earlier else None) if number is not None]
        worst = (min if rule == Rule.BELOW else max)(values, default=None)
        states[key] = RuleStanding(
            Condition.ACTIVE if active else Condition.CLEARING,
            worst,
            max(times, default=None),
            offline=bool(is_offline) and (earlier is None or earlier.offline),
        )
    return states


def _resumable(now: Instant) -> Select[AlarmId, int, Instant]:
    return (
        select(AlarmStep.alarm_id, AlarmStep.cycle, AlarmStep.due_at)
        .join(Alarm, Alarm.id == AlarmStep.alarm_id)
        .where(AlarmStep.state == StepState.SUPPRESSED, not_(is_suppressed(now)))
    )


def _claim(tx: Session, now: Instant, *of: ColumnElement[bool]) -> Sequence[AlarmStep]:
    return tx.scalars(
        select(AlarmStep)
        .where(AlarmStep.state == StepState.DUE, AlarmStep.due_at <= now, *of)
        .order_by(AlarmStep.due_at, AlarmStep.id)
        .limit(STEPS_PER_TRANSACTION)
        .with_for_update(skip_locked=True)
    ).all()


class _Settling:
    """Settling of the steps of one claim."""

    def __init__(self, tx: Session, zones: ZoneCache, outbox: OutboxWriter, now: Instant) -> None:
        self._tx = tx
        self._zones = zones
        self._outbox = outbox
        self._now = now
        self._fired: list[tuple[Alarm, AlarmStep, RuleStanding]] = []
        """Alarms with the highest of their steps that fire."""
        self._fired_steps: list[int] = []
        """Ids of all steps that fire. They are updated in one statement, so the objects stay as they were claimed."""

    def settle(self, steps: Sequence[AlarmStep]) -> None:
        """Settle the steps, all of one alarm together."""
        of_alarm: dict[AlarmId, list[AlarmStep]] = defaultdict(list)
        for step in steps:
            of_alarm[step.alarm_id].append(step)
        claimed_alarms = (
            select(Alarm).where(in_values(self._tx, Alarm.id, of_alarm)).execution_options(populate_existing=True)
        )
        alarms = {alarm.id: alarm for alarm in self._tx.scalars(claimed_alarms)}
        states = rule_standings(self._tx, {alarm.zone_id for alarm in alarms.values()})
        suppressed = _suppressed(self._tx, alarms, self._now)
        notified_at = _notified_lately(self._tx, alarms.values(), self._now)
        for alarm_id, due in of_alarm.items():
            alarm = alarms[alarm_id]
            tiers = [step for step in due if step.tier != DIGEST]
            current = [step for step in tiers if alarm.state == AlarmState.OPEN and step.cycle == alarm.cycle]
            for step in tiers:
                if step not in current:
                    step.state = StepState.CANCELLED
            if not current:
                continue
            state = states.get((alarm.zone_id, alarm.rule), CALM)
            if alarm.id in suppressed:
                self._keep_back(alarm, current, StepState.SUPPRESSED)
            elif state.condition is not Condition.ACTIVE:
                self._keep_back(alarm, current, StepState.HELD)
            else:
                self._fire(alarm, current, state, notified_at)
        self._tell()
        digests = [step for step in steps if step.tier == DIGEST]
        send_digests(
            self._tx, self._zones, self._outbox, digests, [alarms[step.alarm_id] for step in digests], self._now
        )

    def _keep_back(self, alarm: Alarm, due: Sequence[AlarmStep], step_state: StepState) -> None:
        for step in due:
            step.state = step_state
            self._tx.add(
                event(
                    alarm.id,
                    AlarmEventKind(step_state),
                    self._now,
                    cycle=step.cycle,
                    tier=step.tier,
                    repeat=step.repeat,
                )
            )

    def _fire(
        self,
        alarm: Alarm,
        due: Sequence[AlarmStep],
        state: RuleStanding,
        notified_at: Mapping[tuple[ZoneRule, int], Instant],
    ) -> None:
        """Fire the highest of an alarm's due steps; it tells everybody whom the lower ones would have told.

        If the zone flaps, the level is not told again before the floor of its policy is over.
        """
        policy = policy_of(alarm)
        top = max(due, key=lambda step: (step.tier, step.repeat))
        last_notified_at = notified_at.get(((alarm.zone_id, alarm.rule), top.tier))
        floor = policy.floor_min * MINUTE
        if (
            top.repeat == 0
            and alarm.cycle > 1
            and last_notified_at is not None
            and self._now - last_notified_at < floor
        ):
            for step in due:
                step.due_at = Instant(last_notified_at + floor)
            return
        self._fired_steps += (step.id for step in due)
        self._fired.append((alarm, top, state))

    def _tell(self) -> None:
        """Queue the messages of all fired steps and their next repeats: in one go, which is much faster."""
        if not self._fired:
            return
        fired = update(AlarmStep).where(in_values(self._tx, AlarmStep.id, self._fired_steps))
        self._tx.execute(
            fired.values(state=StepState.FIRED, fired_at=self._now).execution_options(synchronize_session=False)
        )
        contacts = contacts_of(self._tx, {alarm.equipment_id for alarm, _, _ in self._fired}, self._now)
        drafts: list[MessageDraft] = []
        events: list[dict[str, object]] = []
        for alarm, step, state in self._fired:
            people: dict[PersonId, Person] = {}
            levels = {level: of_level for level, of_level in contacts[alarm.equipment_id].items() if level <= step.tier}
            unreachable = levels_out_of_reach(levels, self._outbox.channels)
            for level, of_level in levels.items():
                if level in unreachable:
                    # Its messages are queued all the same, and sent once a channel is configured or a person bound.
                    events.append(
                        event_row(
                            alarm.id, AlarmEventKind.NOBODY_TO_TELL, self._now, cycle=alarm.cycle, level=int(level)
                        )
                    )
                people.update((person.id, person) for person in of_level)
            # Event time; a probe that is offline has none, and is offline until now.
            until = self._now if state.at is None or alarm.rule == Rule.PROBE_OFFLINE else state.at
            alarm_facts = facts_of_alarm(
                alarm,
                self._zones,
                tier=step.tier,
                value=state.value,
                until=until,
                repeat=step.repeat,
                offline=state.offline,
            )
            drafts += [_draft(alarm_facts, step, person) for person in people.values()]
            notified_levels = [int(level) for level in levels if level not in unreachable]
            if notified_levels:
                position = {"cycle": step.cycle, "tier": step.tier, "repeat": step.repeat}
                events.append(
                    event_row(alarm.id, AlarmEventKind.TOLD, self._now, person=None, levels=notified_levels, **position)
                )
        events += [
            event_row(draft.about, AlarmEventKind.UNREACHABLE, self._now, person=draft.person, tier=draft.tier)
            for draft in self._outbox.queue(self._tx, drafts, self._now)
            if isinstance(draft.about, int)
        ]
        insert_missing(self._tx, AlarmEvent, events)
        repeats = [repeat for alarm, step, _ in self._fired if (repeat := self._repeat(alarm, step))]
        insert_missing(self._tx, AlarmStep, repeats)

    def _repeat(self, alarm: Alarm, fired: AlarmStep) -> dict[str, object] | None:
        """Return the next repeat, on the grid of the first; missed repeats are not made up for."""
        policy = policy_of(alarm)
        stopped = policy.acknowledging_stops_escalation and alarm.handling != AlarmHandling.UNACKNOWLEDGED
        every = policy.repeat_min * MINUTE
        if fired.tier < policy.top or not every or stopped:
            return None
        due_at = fired.due_at + every * ((self._now - fired.due_at) // every + 1)
        row = {"alarm_id": alarm.id, "cycle": alarm.cycle, "tier": fired.tier, "due_at": due_at}
        return {**row, "repeat": fired.repeat + 1}


def _draft(alarm_facts: AlarmFacts, step: AlarmStep, person: Person) -> MessageDraft:
    return MessageDraft(
        kind=NotificationKind.ALARM,
        facts=alarm_facts,
        person=person.id,
        openid=person.openid,
        tier=step.tier,
        about=step.alarm_id,
        cycle=step.cycle,
        repeat=step.repeat,
    )


def _suppressed(tx: Session, alarms: Iterable[AlarmId], now: Instant) -> set[AlarmId]:
    return set(tx.scalars(select(Alarm.id).where(in_values(tx, Alarm.id, list(alarms)), is_suppressed(now))))


def _notified_lately(tx: Session, alarms: Iterable[Alarm], now: Instant) -> dict[tuple[ZoneRule, int], Instant]:
    """Return when each tier of a zone was last told about a rule, within a day, by any alarm and cycle.

    A tier is told together with all higher ones. A step whose messages were superseded unsent, or refused, has told
    nobody.
    """
    reopened_zones = {alarm.zone_id for alarm in alarms if alarm.cycle > 1}
    if not reopened_zones:
        return {}
    message = select(OutboxMessage.id).where(
        OutboxMessage.alarm_id == AlarmStep.alarm_id,
        OutboxMessage.cycle == AlarmStep.cycle,
        OutboxMessage.tier >= AlarmStep.tier,
        OutboxMessage.kind == NotificationKind.ALARM,
        OutboxMessage.created_at >= AlarmStep.fired_at,
        OutboxMessage.state.in_([MessageState.QUEUED, MessageState.SENT]),
    )
    rows = tx.execute(
        select(Alarm.zone_id, Alarm.rule, AlarmStep.tier, func.max(AlarmStep.fired_at))
        .join(AlarmStep, AlarmStep.alarm_id == Alarm.id)
        .where(
            in_values(tx, Alarm.zone_id, reopened_zones),
            AlarmStep.state == StepState.FIRED,
            AlarmStep.fired_at > now - DAY,
        )
        .where(exists(message))
        .group_by(Alarm.zone_id, Alarm.rule, AlarmStep.tier)
    )
    notified_at: dict[tuple[ZoneRule, int], Instant] = {}
    for zone, rule, top, fired_at in rows:
        for tier in range(1, top + 1):
            key = ((zone, rule), tier)
            notified_at[key] = max(fired_at or Instant(0), notified_at.get(key, Instant(0)))
    return notified_at
