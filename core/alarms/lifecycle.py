"""Alarm lifecycle: opens, re-opens and recovers a zone's alarms when the condition of one of its probes changes.

A zone's alarm is active while the condition of any bound probe is active, and recovers when all are ok, so two probes
in one room don't make it flap. The probes may belong to gateways of two shards, and so to two workers. The zone's row
is locked *before* the conditions are read; otherwise each worker could see the other's old condition, and neither would
close the alarm.

Guarantees, tested by tests/integration/test_escalation.py, test_alarm_cycles.py and test_alerting_races.py:
* at most one alarm per rule and zone is open (the database has a unique index for this too);
* alarm, steps and event are written in the caller's transaction, together with the condition that opened the alarm;
* a recovered alarm has no step left that could fire, and everybody with a message about it gets a recovery message;
* an alarm that re-opens keeps its first t0 (`core.alarms.escalation_steps`), so a door that never quite closes reaches
  level 3.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from core.alarms.alarm_facts import AlarmSnapshot, event_row, policy_of, widen, worst
from core.alarms.condition_changes import FOLLOWED_LATE, ConditionChange
from core.alarms.duration import cycle_onset_at, cycle_opened_at, time_out
from core.alarms.escalation_steps import DRAIN, AlarmOpening, write_steps
from core.alarms.outbox import OutboxWriter
from core.alarms.recovery import recover
from core.alarms.states import AlarmEventKind, AlarmHandling, AlarmOrigin, AlarmState, StepState
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, RuleState
from core.alarms.zone_cache import CachedZone, ZoneCache
from core.db.in_values import in_values
from core.db.insert import insert_all, insert_missing
from core.devices.tables import EquipmentUnit, Zone
from core.ids import AlarmId, Centi, EquipmentId, UnitId, ZoneId, new_alarm_id
from core.rules.rule_types import END, GOING_ON, Condition, Rule
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds
from core.runtime.logs import logger

log = logger(__name__)

LONGEST_DRAIN = Milliseconds(10 * MINUTE)
ZoneRule = tuple[ZoneId, Rule]


class _OpenedAlarm(NamedTuple):
    """An alarm that opened or re-opened."""

    opening: AlarmOpening
    onset: Instant
    value: Centi | None


def settle(
    tx: Session, zones: ZoneCache, outbox: OutboxWriter, condition_changes: Sequence[ConditionChange], now: Instant
) -> tuple[list[AlarmId], list[AlarmId]]:
    """Open, update or recover the alarms of the zones in `condition_changes`; return the opened and the recovered ones.

    Call it after the conditions were written, in the same transaction.
    """
    by_key: dict[ZoneRule, list[ConditionChange]] = {}
    for item in condition_changes:
        by_key.setdefault((item.zone, item.rule), []).append(item)
    if not by_key:
        return [], []
    lock(tx, {zone for zone, _ in by_key})
    conditions = read_conditions(tx, {zone for zone, _ in by_key})
    alarms = _open_and_recovered(tx, by_key, now)
    not_open = {key: items for key, items in by_key.items() if not alarms.get(key, (None,))[0]}
    past_keys = _matching_ended_alarms(tx, not_open, now)
    conditions = {key: condition for key, condition in conditions.items() if key not in past_keys}
    units = standing_units(tx, {zones[zone].equipment for zone, _ in by_key}, now)
    opened: list[_OpenedAlarm] = []
    new: dict[ZoneRule, dict[str, Any]] = {}
    recovered: list[AlarmId] = []
    kept: list[tuple[Alarm, Sequence[ConditionChange], Condition]] = []
    for key, changes in sorted(by_key.items()):
        watched = zones[key[0]]
        condition = conditions.get(key, Condition.OK)
        open_alarm, recovered_alarm = alarms.get(key, (None, None))
        if condition is Condition.OK:
            if open_alarm:
                recover(tx, zones, outbox, open_alarm, changes, now)
                recovered.append(open_alarm.id)
        elif open_alarm:
            kept.append((open_alarm, changes, condition))
        elif recovered_alarm and _just_recovered(recovered_alarm, zones, changes, now):
            _reopen(recovered_alarm, changes, now)
            opening = AlarmOpening(
                recovered_alarm.id,
                recovered_alarm.cycle,
                recovered_alarm.opened_at,
                policy_of(recovered_alarm),
                draining=_draining(changes),
            )
            opened.append(_OpenedAlarm(opening, cycle_onset_at(recovered_alarm), _opening_value(changes)))
        elif (unit := units.get(watched.equipment)) is None:
            log.error("no alarm: the equipment never stood in a unit", zone=key[0], equipment=watched.equipment)
        else:
            new[key] = alarm_row(watched, changes, unit, now)
    tx.flush()
    insert_all(tx, Alarm, list(new.values()))
    for key, row in new.items():
        opening = AlarmOpening(row["id"], 1, now, zones[key[0]].profile.policy, draining=_draining(by_key[key]))
        opened.append(_OpenedAlarm(opening, row["onset_at"], row["opening_value"]))
    _update_open(tx, kept, now)
    write_steps(tx, [item.opening for item in opened], now)
    insert_missing(tx, AlarmEvent, [_opening_event(item, now) for item in opened])
    return [item.opening.alarm for item in opened], recovered


def lock(tx: Session, zones: set[ZoneId]) -> None:
    """Lock the rows of zones until the end of the transaction; SQLite has a single writer anyway.

    All at once and in order, so that two workers can't deadlock on each other's zones.
    """
    if not zones:
        return
    tx.execute(
        select(Zone.id).where(in_values(tx, Zone.id, sorted(zones))).order_by(Zone.id).with_for_update(key_share=True)
    ).all()


def read_conditions(tx: Session, zones: Iterable[ZoneId]) -> dict[ZoneRule, Condition]:
    """Return the condition of each zone and rule that isn't ok: active if any probe is active, else clearing."""
    rows = tx.execute(
        select(RuleState.zone_id, RuleState.rule, RuleState.condition)
        .where(in_values(tx, RuleState.zone_id, list(zones)), RuleState.condition.in_(GOING_ON))
        .distinct()
    )
    conditions: dict[ZoneRule, Condition] = {}
    for zone, rule, condition in rows:
        key = (zone, rule)
        if conditions.get(key) is not Condition.ACTIVE:
            conditions[key] = condition
    return conditions


def alarm_row(
    watched: CachedZone, condition_changes: Sequence[ConditionChange], unit: UnitId, now: Instant
) -> dict[str, Any]:
    """Return the row of a new alarm, from the earliest condition change.

    It is a dict for a bulk insert: thousands of alarms open at once when a county loses its power.
    """
    first = min(condition_changes, key=lambda item: item.onset)
    snapshot = AlarmSnapshot(watched.profile.title, first.limit, watched.profile.policy)
    return {
        "id": new_alarm_id(),
        "zone_id": watched.zone,
        "equipment_id": watched.equipment,
        "unit_id": unit,
        "probe_id": first.probe,
        "rule": first.rule,
        "state": AlarmState.OPEN,
        "cycle": 1,
        "opened_at": now,
        "onset_at": first.onset,
        "opening_value": first.value,
        "peak": worst(first.rule, [item.peak for item in condition_changes]),
        "limit": first.limit,
        "snapshot": msgspec.json.encode(snapshot).decode(),
    }


def standing_units(tx: Session, equipment: Iterable[EquipmentId], at: Instant) -> dict[EquipmentId, UnitId]:
    """Return the unit of each equipment at an instant, or its last unit before. Never placed equipment is left out."""
    rows = tx.execute(
        select(EquipmentUnit.equipment_id, EquipmentUnit.unit_id)
        .where(in_values(tx, EquipmentUnit.equipment_id, list(equipment)), EquipmentUnit.since <= at)
        .order_by(EquipmentUnit.since)
    )
    return {equipment_id: unit for equipment_id, unit in rows}  # noqa: C416  # a Row is no pair of types


def _open_and_recovered(
    tx: Session, keys: Mapping[ZoneRule, object], now: Instant
) -> dict[ZoneRule, tuple[Alarm | None, Alarm | None]]:
    """Return for each key the open alarm, and the last recovered alarm that may re-open."""
    rows = tx.scalars(
        select(Alarm)
        .where(
            in_values(tx, Alarm.zone_id, {zone for zone, _ in keys}),
            or_(
                Alarm.state == AlarmState.OPEN,
                # An alarm that recovered at the instant of its opening is a record of the past and never re-opens.
                and_(
                    Alarm.state == AlarmState.RECOVERED,
                    Alarm.recovered_at > now - DAY,
                    Alarm.recovered_at > Alarm.opened_at,
                ),
            ),
        )
        .order_by(Alarm.recovered_at, Alarm.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    alarms: dict[ZoneRule, tuple[Alarm | None, Alarm | None]] = {}
    for alarm in rows:
        key = (alarm.zone_id, alarm.rule)
        open_alarm, recovered_alarm = alarms.get(key, (None, None))
        alarms[key] = (alarm, recovered_alarm) if alarm.state == AlarmState.OPEN else (open_alarm, alarm)
    return alarms


def _matching_ended_alarms(
    tx: Session, by_key: Mapping[ZoneRule, Sequence[ConditionChange]], now: Instant
) -> set[ZoneRule]:
    """Return the zones and rules whose condition changes were followed late and overlap an alarm that has ended.

    The probes of a zone may come through two shards, and one shard may be followed an hour later than the other. Such
    an excursion opens no alarm. Either it ends, and is then marked (`alerting.evaluating.live_readings`) and compared
    with that alarm, or it lasts until now.
    """
    late: dict[ZoneRule, tuple[Instant, Instant]] = {}
    """Span from the onset to the newest reading."""
    for key, condition_changes in by_key.items():
        times = [item.at for item in condition_changes if item.at is not None]
        if len(times) == len(condition_changes) and max(times) <= now - FOLLOWED_LATE:
            late[key] = min(item.onset for item in condition_changes), max(times)
    if not late:
        return set()
    ended = select(Alarm.zone_id, Alarm.rule, Alarm.onset_at, Alarm.ended_at).where(
        in_values(tx, Alarm.zone_id, {zone for zone, _ in late}),
        Alarm.state != AlarmState.OPEN,
        Alarm.origin != AlarmOrigin.WITHDRAWN,
        Alarm.onset_at <= max(newest for _, newest in late.values()),
        Alarm.ended_at >= min(onset for onset, _ in late.values()),
    )
    keys = set()
    for zone, rule, since, until in tx.execute(ended):
        key = (zone, rule)
        if key in late and until is not None and since <= late[key][1] and until >= late[key][0]:
            keys.add(key)
    if keys:
        log.info("excursions of alarms that have ended, followed late", zones=sorted({zone for zone, _ in keys}))
    return keys


def _just_recovered(alarm: Alarm, zones: ZoneCache, condition_changes: Sequence[ConditionChange], now: Instant) -> bool:
    """Return whether an alarm recovered so recently that it re-opens.

    Readings may be followed long after they were taken, and an end and the next onset then have nearly one server time.
    So the time between these two must be possible as well for a recovery that is seen in time.
    """
    if alarm.recovered_at is None or now - alarm.recovered_at > _merge_window(zones, alarm.zone_id):
        return False
    if alarm.ended_at is None or not condition_changes:
        return True
    onset = min(item.onset for item in condition_changes)
    return onset - alarm.ended_at <= longest_pause(zones, alarm.zone_id, alarm.rule)


def longest_pause(zones: ZoneCache, zone: ZoneId, rule: Rule) -> Milliseconds:
    """Return the longest event time from an end to the next onset after which readings in order re-open an alarm."""
    limit = zones.bounds(zone, MINUTE).limit(rule)
    if limit is None:
        return Milliseconds(END)
    return Milliseconds(limit.inside + limit.gap + _merge_window(zones, zone) - limit.delay)


def _merge_window(zones: ZoneCache, zone: ZoneId) -> Milliseconds:
    return Milliseconds(zones[zone].profile.policy.merge_min * MINUTE)


def _draining(condition_changes: Sequence[ConditionChange]) -> bool:
    return all(item.draining for item in condition_changes)


def _reopen(alarm: Alarm, condition_changes: Sequence[ConditionChange], now: Instant) -> None:
    """Begin another cycle of a recovered alarm: it has to be acknowledged and handled again."""
    alarm.earlier_out = time_out(alarm, now)
    alarm.state, alarm.cycle, alarm.cycle_opened_at = AlarmState.OPEN, alarm.cycle + 1, now
    onset = min((item.onset for item in condition_changes), default=now)
    # Time before the end of the last cycle is already counted in that cycle.
    alarm.cycle_onset_at = onset if alarm.ended_at is None else max(onset, alarm.ended_at)
    alarm.recovered_at = alarm.ended_at = alarm.probe_ended_at = None
    alarm.handling = AlarmHandling.UNACKNOWLEDGED
    alarm.acknowledged_at = alarm.acknowledged_by = alarm.acknowledged_through = None
    for item in condition_changes:
        alarm.peak = worst(alarm.rule, [alarm.peak, item.peak])


def _opening_value(condition_changes: Sequence[ConditionChange]) -> Centi | None:
    return min(condition_changes, key=lambda item: item.onset).value


def _opening_event(opened: _OpenedAlarm, now: Instant) -> dict[str, object]:
    """Return the event row of an opening."""
    cycle = opened.opening.cycle
    kind = AlarmEventKind.OPENED if cycle == 1 else AlarmEventKind.REOPENED
    return event_row(opened.opening.alarm, kind, now, cycle=cycle, onset=opened.onset, value=opened.value)


def _update_open(tx: Session, kept: Sequence[tuple[Alarm, Sequence[ConditionChange], Condition]], now: Instant) -> None:
    _release_held(tx, [alarm for alarm, _, condition in kept if condition is Condition.ACTIVE])
    for alarm, condition_changes, _ in kept:
        for item in condition_changes:
            until = item.at if item.ended is None else item.ended
            # An earlier excursion of a probe that is followed late is no part of this one until it reaches it.
            if until is None or until >= alarm.onset_at or until > now - FOLLOWED_LATE:
                widen(alarm, item.onset, item.peak)
            if item.ended is not None:
                alarm.probe_ended_at = max(item.ended, alarm.probe_ended_at or item.ended)
        backlog_flags = [item.draining for item in condition_changes if item.draining is not None]
        if backlog_flags:
            latest = min(now + DRAIN, cycle_opened_at(alarm) + LONGEST_DRAIN) if all(backlog_flags) else now
            due_steps = and_(
                AlarmStep.alarm_id == alarm.id, AlarmStep.cycle == alarm.cycle, AlarmStep.state == StepState.DUE
            )
            # In a later cycle, steps of other levels may be due too; none may fire before level 1.
            before_latest = or_(and_(AlarmStep.tier == 1, AlarmStep.repeat == 0), AlarmStep.due_at < latest)
            tx.execute(update(AlarmStep).where(due_steps, before_latest).values(due_at=latest))


def _release_held(tx: Session, alarms: Sequence[Alarm]) -> None:
    """Make the held steps of alarms due again: the condition is active again.

    Another worker may be setting a step to held at this moment, by the old condition. Locking the pending steps waits
    for that worker; without it, that step would never be released.
    """
    by_cycle: dict[int, list[AlarmId]] = {}
    for alarm in alarms:
        by_cycle.setdefault(alarm.cycle, []).append(alarm.id)
    for cycle, alarm_ids in by_cycle.items():
        of_alarms = and_(in_values(tx, AlarmStep.alarm_id, alarm_ids), AlarmStep.cycle == cycle)
        if tx.get_bind().dialect.name != "sqlite":  # which has one writer anyway
            pending = select(AlarmStep.id).where(of_alarms, AlarmStep.state.in_([StepState.DUE, StepState.HELD]))
            tx.execute(pending.order_by(AlarmStep.id).with_for_update()).all()
        tx.execute(update(AlarmStep).where(of_alarms, AlarmStep.state == StepState.HELD).values(state=StepState.DUE))
