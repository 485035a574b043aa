"""Alarms of the past: excursions found by late readings, written in one transaction of the caller.

Late data must not wake anyone for an excursion that is over (AL-14), yet the vaccine may be damaged. So each such
excursion is an alarm that has already recovered, waits to be handled, and is counted in the digest of its gateway.
`core.rules.reconcile` decides which alarms there are.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from core.alarms.alarm_facts import event, widen
from core.alarms.condition_changes import ConditionChange
from core.alarms.duration import cycle_onset_at
from core.alarms.lifecycle import ZoneRule, alarm_row, standing_units
from core.alarms.recovery import put_in_digest
from core.alarms.states import PENDING_STEPS, AlarmEventKind, AlarmHandling, AlarmOrigin, AlarmState, StepState
from core.alarms.tables import Alarm, AlarmStep
from core.alarms.zone_cache import ZoneCache
from core.db.in_values import in_values
from core.ids import AlarmId, Centi, ZoneId
from core.rules.reconcile import AlarmChanges, Alterable, FoundEpisode, KnownAlarm, NewAlarm
from core.rules.rule_types import END, Rule
from core.runtime.instant import Instant
from core.runtime.logs import logger

log = logger(__name__)

Peak = Callable[[Instant, Instant], Centi | None]
"""Returns the worst value of a zone in [since, until]."""


class ChangedAlarms(NamedTuple):
    """Ids of new alarms, and of alarms that were changed."""

    made: list[AlarmId]
    changed: list[AlarmId]


def known_alarms(
    tx: Session, zones: Collection[ZoneId], since: Instant, until: Instant
) -> dict[ZoneRule, list[KnownAlarm]]:
    """Return the alarms of excursions in some zones that touch [since, until], in event order, none withdrawn."""
    found: dict[ZoneRule, list[KnownAlarm]] = {}
    query = select(Alarm.id, Alarm.zone_id, Alarm.rule, Alarm.onset_at, Alarm.ended_at, Alarm.state, Alarm.origin)
    rows = tx.execute(
        query.add_columns(Alarm.handling, Alarm.cycle_onset_at, Alarm.acknowledged_at)
        .where(
            in_values(tx, Alarm.zone_id, zones),
            Alarm.rule.in_([Rule.ABOVE, Rule.BELOW]),
            Alarm.origin != AlarmOrigin.WITHDRAWN,
            Alarm.onset_at <= until,
            or_(Alarm.state == AlarmState.OPEN, func.coalesce(Alarm.ended_at, Alarm.onset_at) >= since),
        )
        .order_by(Alarm.onset_at, Alarm.id)
    )
    for alarm_id, zone, rule, onset, ended, state, origin, handling, reopened, acknowledged in rows:
        ends = END if state == AlarmState.OPEN else onset if ended is None else ended
        untouched = state == AlarmState.RECOVERED and handling == AlarmHandling.UNACKNOWLEDGED
        if state == AlarmState.OPEN or (untouched and origin == AlarmOrigin.LIVE):
            standing = Alterable.WIDENS
        else:
            standing = Alterable.LATE if untouched else Alterable.FIXED
        known = KnownAlarm(alarm_id, onset, ends, standing, reopened, acknowledged)
        found.setdefault((zone, rule), []).append(known)
    return found


def hold(tx: Session, alarm_ids: Collection[AlarmId]) -> None:
    """Lock these alarms until the end of the transaction."""
    _locked(tx, alarm_ids)


def change(
    tx: Session, zones: ZoneCache, key: ZoneRule, changes: AlarmChanges, peak: Peak, now: Instant
) -> ChangedAlarms:
    """Apply the result of `reconcile`. The caller has locked the zone."""
    rows = _locked(tx, [*(each for each, _ in changes.widened), *(each for each, _ in changes.placed)])
    changed = [alarm_id for alarm_id, found in changes.widened if _follow(tx, rows[alarm_id], found, now)]
    changed += [alarm_id for alarm_id, found in changes.placed if _place(tx, rows[alarm_id], found, peak, now)]
    for withdrawn in _locked(tx, changes.withdrawn).values():
        _withdraw(tx, withdrawn, now)
        changed.append(withdrawn.id)
    made = [alarm for new in changes.made if (alarm := _make(tx, zones, key, new, peak, now))]
    put_in_digest(tx, made, now)
    return ChangedAlarms([alarm.id for alarm in made], changed)


def _locked(tx: Session, alarm_ids: Collection[AlarmId]) -> dict[AlarmId, Alarm]:
    if not alarm_ids:
        return {}
    query = select(Alarm).where(in_values(tx, Alarm.id, alarm_ids)).order_by(Alarm.id).with_for_update(key_share=True)
    return {alarm.id: alarm for alarm in tx.scalars(query.execution_options(populate_existing=True))}


def _follow(tx: Session, alarm: Alarm, episodes: Sequence[FoundEpisode], now: Instant) -> bool:
    """Widen a live alarm to its episodes; once it has recovered, it ends with the last of them."""
    before = (alarm.onset_at, alarm.ended_at, alarm.peak)
    for found in episodes:
        widen(alarm, found.since, found.peak, until=found.until)
    if alarm.ended_at is not None:
        last = episodes[-1]
        alarm.ended_at = max(cycle_onset_at(alarm), last.until if last.ended else max(alarm.ended_at, last.until))
    return _note(tx, alarm, before, now)


def _place(tx: Session, alarm: Alarm, found: FoundEpisode, peak: Peak, now: Instant) -> bool:
    before = (alarm.onset_at, alarm.ended_at, alarm.peak)
    alarm.onset_at, alarm.ended_at = found.since, found.until
    alarm.peak = peak(found.since, found.until) if alarm.exceeds_id is not None else found.peak
    alarm.probe_id, alarm.limit = found.probe, found.limit
    return _note(tx, alarm, before, now)


def _note(tx: Session, alarm: Alarm, before: tuple[Instant, Instant | None, Centi | None], now: Instant) -> bool:
    if before == (alarm.onset_at, alarm.ended_at, alarm.peak):
        return False
    tx.add(
        event(
            alarm.id,
            AlarmEventKind.WIDENED,
            now,
            late=True,
            onset=alarm.onset_at,
            ended=alarm.ended_at,
            peak=alarm.peak,
        )
    )
    return True


def _withdraw(tx: Session, alarm: Alarm, now: Instant) -> None:
    alarm.origin, alarm.state, alarm.closed_at = AlarmOrigin.WITHDRAWN, AlarmState.CLOSED, now
    pending = and_(AlarmStep.alarm_id == alarm.id, AlarmStep.state.in_(PENDING_STEPS))
    tx.execute(update(AlarmStep).where(pending).values(state=StepState.CANCELLED))
    tx.add(event(alarm.id, AlarmEventKind.WITHDRAWN, now, late=True, onset=alarm.onset_at, ended=alarm.ended_at))


def _make(tx: Session, zones: ZoneCache, key: ZoneRule, new: NewAlarm, peak: Peak, now: Instant) -> Alarm | None:
    found, watched = new.found, zones[key[0]]
    unit = standing_units(tx, [watched.equipment], found.since).get(watched.equipment)
    unit = unit or standing_units(tx, [watched.equipment], now).get(watched.equipment)
    if unit is None:
        log.error("no record of the past: the equipment never stood in a unit", zone=key[0], rule=key[1])
        return None
    worst = found.peak if new.exceeds is None else peak(found.since, found.until)
    seen = ConditionChange(
        zone=key[0], rule=key[1], probe=found.probe, onset=found.since, peak=worst, limit=found.limit
    )
    row = alarm_row(watched, [seen], unit, now)
    past = {"state": AlarmState.RECOVERED, "recovered_at": now, "ended_at": found.until}
    alarm = Alarm(**{**row, **past, "origin": AlarmOrigin.LATE, "exceeds_id": new.exceeds})
    tx.add(alarm)
    tx.flush()
    tx.add(event(alarm.id, AlarmEventKind.OPENED, now, late=True, onset=found.since, exceeds=new.exceeds))
    tx.add(event(alarm.id, AlarmEventKind.RECOVERED, now, late=True, ended=found.until, known_end=found.ended))
    return alarm
