"""When an alarm opens, opens again and recovers: what becomes of a zone when a condition of one of its probes changes.

A zone's alarm is active while any bound probe's condition is, and recovers when all are ok, so two probes of a room
never flap it. They may come through gateways of two shards, thus two workers: the zone's row is locked *before* the
conditions are read, or each would see the other's old one and nobody would close it.

Guarantees, tried by tests/integration/test_escalation.py, test_alarm_cycles.py and test_alerting_races.py:
* at most one alarm of a rule and zone is open (the database's unique index holds it too);
* alarm, steps and event come in one transaction, the caller's, with the condition that opened it;
* a recovered alarm has no step left that could fire, and everybody who was, or may yet be, told is told of it;
* an alarm that opens again keeps its first t0 (`core.alarms.steps`), so a door that never quite closes reaches level 3.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from core.alarms.duration import cycle_onset_at, cycle_opened_at, time_out
from core.alarms.evidence import Evidence
from core.alarms.facts import Snapshot, event_row, policy_of, widen, worst
from core.alarms.post import Post
from core.alarms.profile import Policy
from core.alarms.recovery import recover
from core.alarms.rules.sample import GOING_ON, Condition, Rule
from core.alarms.steps import DRAIN, Opening, write_steps
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, RuleState
from core.alarms.watched import Watched, Zones
from core.db.among import among
from core.db.insert import insert_all, insert_missing
from core.devices.tables import EquipmentUnit, Zone
from core.ids import AlarmId, Centi, EquipmentId, UnitId, ZoneId, new_alarm_id
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds
from core.runtime.logs import logger

log = logger(__name__)

FOLLOWED_LATE = Milliseconds(10 * MINUTE)
"""A reading that is followed so long after it was taken says nothing of now."""
LONGEST_DRAIN = Milliseconds(10 * MINUTE)
Key = tuple[ZoneId, Rule]


class _Opened(NamedTuple):
    """An alarm that opened, or opened again."""

    opening: Opening
    onset: Instant
    value: Centi | None


def settle(
    tx: Session, zones: Zones, post: Post, evidence: Sequence[Evidence], now: Instant
) -> tuple[list[AlarmId], list[AlarmId]]:
    """Open, keep or recover the alarms of the zones that `evidence` is about; return those opened and recovered.

    Call it after the conditions were written, in the same transaction.
    """
    by_key: dict[Key, list[Evidence]] = {}
    for one in evidence:
        by_key.setdefault((one.zone, one.rule), []).append(one)
    if not by_key:
        return [], []
    lock(tx, {zone for zone, _ in by_key})
    conditions = read_conditions(tx, {zone for zone, _ in by_key})
    alarms = _alarms(tx, by_key, now)
    known = _known_already(tx, {key: seen for key, seen in by_key.items() if not alarms.get(key, (None,))[0]}, now)
    conditions = {key: condition for key, condition in conditions.items() if key not in known}
    units = standing_units(tx, {zones[zone].equipment for zone, _ in by_key}, now)
    opened: list[_Opened] = []
    new: dict[Key, dict[str, Any]] = {}
    recovered: list[AlarmId] = []
    kept: list[tuple[Alarm, Sequence[Evidence], Condition]] = []
    for key, seen in sorted(by_key.items()):
        watched = zones[key[0]]
        condition = conditions.get(key, Condition.OK)
        open_one, old = alarms.get(key, (None, None))
        if condition is Condition.OK:
            if open_one:
                recover(tx, zones, post, open_one, seen, now)
                recovered.append(open_one.id)
        elif open_one:
            kept.append((open_one, seen, condition))
        elif old and _just_recovered(old, watched.profile.policy, now):
            _reopen(old, seen, now)
            opening = Opening(old.id, old.cycle, old.opened_at, policy_of(old), draining=_draining(seen))
            opened.append(_Opened(opening, cycle_onset_at(old), _opening_value(seen)))
        elif (unit := units.get(watched.equipment)) is None:
            log.error("no alarm: the equipment never stood in a unit", zone=key[0], equipment=watched.equipment)
        else:
            new[key] = alarm_row(watched, seen, unit, now)
    tx.flush()
    insert_all(tx, Alarm, list(new.values()))
    for key, row in new.items():
        opening = Opening(row["id"], 1, now, zones[key[0]].profile.policy, draining=_draining(by_key[key]))
        opened.append(_Opened(opening, row["onset_at"], row["opening_value"]))
    _keep(tx, kept, now)
    write_steps(tx, [one.opening for one in opened], now)
    insert_missing(tx, AlarmEvent, [_event_of(one, now) for one in opened])
    return [one.opening.alarm for one in opened], recovered


def lock(tx: Session, zones: set[ZoneId]) -> None:
    """Let nobody else decide about these zones until the end of the transaction (SQLite has one writer anyway)."""
    if not zones:
        return
    tx.execute(
        select(Zone.id).where(among(tx, Zone.id, sorted(zones))).order_by(Zone.id).with_for_update(key_share=True)
    ).all()


def read_conditions(tx: Session, zones: Iterable[ZoneId]) -> dict[Key, Condition]:
    """Return the condition of each rule and zone that isn't ok: active where any probe's is, else clearing."""
    rows = tx.execute(
        select(RuleState.zone_id, RuleState.rule, RuleState.condition)
        .where(among(tx, RuleState.zone_id, list(zones)), RuleState.condition.in_(GOING_ON))
        .distinct()
    )
    found: dict[Key, Condition] = {}
    for zone, rule, condition in rows:
        key = (zone, Rule(rule))
        if found.get(key) is not Condition.ACTIVE:
            found[key] = Condition(condition)
    return found


def alarm_row(watched: Watched, seen: Sequence[Evidence], unit: UnitId, now: Instant) -> dict[str, Any]:
    """Return an open alarm of what was seen first, as a row: thousands open at once when a county loses its power."""
    first = min(seen, key=lambda one: one.onset)
    snapshot = Snapshot(watched.profile.title, first.limit, watched.profile.policy)
    return {
        "id": new_alarm_id(),
        "zone_id": watched.zone,
        "equipment_id": watched.equipment,
        "unit_id": unit,
        "probe_id": first.probe,
        "rule": first.rule,
        "state": "open",
        "cycle": 1,
        "opened_at": now,
        "onset_at": first.onset,
        "opening_value": first.value,
        "peak": worst(first.rule, [one.peak for one in seen]),
        "limit": first.limit,
        "snapshot": msgspec.json.encode(snapshot).decode(),
    }


def standing_units(tx: Session, equipment: Iterable[EquipmentId], at: Instant) -> dict[EquipmentId, UnitId]:
    """Return where each equipment stood, or stood last before; one that never stood anywhere is left out."""
    rows = tx.execute(
        select(EquipmentUnit.equipment_id, EquipmentUnit.unit_id)
        .where(among(tx, EquipmentUnit.equipment_id, list(equipment)), EquipmentUnit.since <= at)
        .order_by(EquipmentUnit.since)
    )
    return {equipment_id: unit for equipment_id, unit in rows}  # noqa: C416  # a Row is no pair of types


def _alarms(tx: Session, keys: Mapping[Key, object], now: Instant) -> dict[Key, tuple[Alarm | None, Alarm | None]]:
    """Return of each key the open alarm, and the last that recovered and might open again."""
    rows = tx.scalars(
        select(Alarm)
        .where(
            among(tx, Alarm.zone_id, {zone for zone, _ in keys}),
            or_(
                Alarm.state == "open",
                # One that recovered as it opened is a record of the past, and stays what it is.
                and_(Alarm.state == "recovered", Alarm.recovered_at > now - DAY, Alarm.recovered_at > Alarm.opened_at),
            ),
        )
        .order_by(Alarm.recovered_at, Alarm.id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    found: dict[Key, tuple[Alarm | None, Alarm | None]] = {}
    for alarm in rows:
        key = (alarm.zone_id, Rule(alarm.rule))
        open_one, old = found.get(key, (None, None))
        found[key] = (alarm, old) if alarm.state == "open" else (open_one, alarm)
    return found


def _known_already(tx: Session, by_key: Mapping[Key, Sequence[Evidence]], now: Instant) -> set[Key]:
    """Return the zones and rules of which late followed readings show what an alarm that has ended is about.

    A zone's probes may come through two shards, and one be followed an hour later than the other. Such an excursion
    opens nothing: it is marked where it ends (`alerting.chunk`) and compared with that alarm, or goes on until now.
    """
    late: dict[Key, tuple[Instant, Instant]] = {}
    """From the onset to the newest reading."""
    for key, seen in by_key.items():
        times = [one.at for one in seen if one.at is not None]
        if len(times) == len(seen) and max(times) <= now - FOLLOWED_LATE:
            late[key] = min(one.onset for one in seen), max(times)
    if not late:
        return set()
    ended = select(Alarm.zone_id, Alarm.rule, Alarm.onset_at, Alarm.ended_at).where(
        among(tx, Alarm.zone_id, {zone for zone, _ in late}),
        Alarm.state != "open",
        Alarm.origin != "withdrawn",
        Alarm.onset_at <= max(newest for _, newest in late.values()),
        Alarm.ended_at >= min(onset for onset, _ in late.values()),
    )
    known = set()
    for zone, rule, since, until in tx.execute(ended):
        key = (zone, Rule(rule))
        if key in late and until is not None and since <= late[key][1] and until >= late[key][0]:
            known.add(key)
    if known:
        log.info("excursions of alarms that have ended, followed late", zones=sorted({zone for zone, _ in known}))
    return known


def _just_recovered(alarm: Alarm, policy: Policy, now: Instant) -> bool:
    return alarm.recovered_at is not None and now - alarm.recovered_at <= policy.merge_min * MINUTE


def _draining(seen: Sequence[Evidence]) -> bool:
    return all(one.draining for one in seen)


def _reopen(alarm: Alarm, seen: Sequence[Evidence], now: Instant) -> None:
    """Begin another cycle: who came for the last one has to be told anew."""
    alarm.earlier_out = time_out(alarm, now)
    alarm.state, alarm.cycle, alarm.cycle_opened_at = "open", alarm.cycle + 1, now
    onset = min((one.onset for one in seen), default=now)
    # What began before the last cycle had ended is counted in that one.
    alarm.cycle_onset_at = onset if alarm.ended_at is None else max(onset, alarm.ended_at)
    alarm.recovered_at = alarm.ended_at = alarm.probe_ended_at = None
    alarm.handling = "unacknowledged"
    alarm.acknowledged_at = alarm.acknowledged_by = alarm.acknowledged_through = None
    for one in seen:
        alarm.peak = worst(alarm.rule, [alarm.peak, one.peak])


def _opening_value(seen: Sequence[Evidence]) -> Centi | None:
    return min(seen, key=lambda one: one.onset).value


def _event_of(opened: _Opened, now: Instant) -> dict[str, object]:
    """Return the line of history."""
    cycle = opened.opening.cycle
    kind = "opened" if cycle == 1 else "reopened"
    return event_row(opened.opening.alarm, kind, now, cycle=cycle, onset=opened.onset, value=opened.value)


def _keep(tx: Session, kept: Sequence[tuple[Alarm, Sequence[Evidence], Condition]], now: Instant) -> None:
    _fire_held(tx, [alarm for alarm, _, condition in kept if condition is Condition.ACTIVE])
    for alarm, seen, _ in kept:
        for one in seen:
            widen(alarm, one.onset, one.peak)
            if one.ended is not None:
                alarm.probe_ended_at = max(one.ended, alarm.probe_ended_at or one.ended)
        drained = [one.draining for one in seen if one.draining is not None]
        if drained:
            latest = min(now + DRAIN, cycle_opened_at(alarm) + LONGEST_DRAIN) if all(drained) else now
            mine = and_(AlarmStep.alarm_id == alarm.id, AlarmStep.cycle == alarm.cycle, AlarmStep.state == "due")
            # In a later cycle others may be due with level 1; none comes before it.
            first = or_(and_(AlarmStep.tier == 1, AlarmStep.turn == 0), AlarmStep.due_at < latest)
            tx.execute(update(AlarmStep).where(mine, first).values(due_at=latest))


def _fire_held(tx: Session, alarms: Sequence[Alarm]) -> None:
    """Let what was held of alarms fire at once: they are abnormal again before it was over.

    Another worker may be holding a step at this moment, by the old condition: its end is waited for, and meanwhile none
    is claimed. Else nobody would ever look at that step again.
    """
    of_cycle: dict[int, list[AlarmId]] = {}
    for alarm in alarms:
        of_cycle.setdefault(alarm.cycle, []).append(alarm.id)
    for cycle, ids in of_cycle.items():
        mine = and_(among(tx, AlarmStep.alarm_id, ids), AlarmStep.cycle == cycle)
        if tx.get_bind().dialect.name != "sqlite":  # which has one writer anyway
            pending = select(AlarmStep.id).where(mine, AlarmStep.state.in_(["due", "held"]))
            tx.execute(pending.order_by(AlarmStep.id).with_for_update()).all()
        tx.execute(update(AlarmStep).where(mine, AlarmStep.state == "held").values(state="due"))
