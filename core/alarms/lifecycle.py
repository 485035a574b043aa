"""When an alarm opens, opens again and recovers: what becomes of a zone when a condition of one of its probes changes.

A zone's alarm is active while any bound probe's condition is, and recovers when all are ok, so two probes of a room
never flap it. They may come through gateways of two shards, thus two workers: the zone's row is locked *before* the
conditions are read, or each would see the other's old one and nobody would close it.

Guarantees, tried by tests/integration/test_lifecycle.py on both databases:
* at most one alarm of a rule and zone is open (the database's unique index holds it too);
* alarm, steps and event come in one transaction, the caller's, with the condition that opened it;
* a recovered alarm has no step left that could fire, and everybody who was, or may yet be, told is told of it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from core.alarms.message import AlarmFacts
from core.alarms.post import Draft, Post
from core.alarms.profile import Policy
from core.alarms.rules.sample import Condition, Rule
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, Outbox, RuleState
from core.alarms.watched import Watched, Zones
from core.db.insert import insert_missing
from core.devices.tables import EquipmentUnit, Zone
from core.ids import AlarmId, Centi, EquipmentId, PersonId, ProbeId, UnitId, ZoneId
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds
from core.runtime.logs import logger
from core.units.tables import Person

log = logger(__name__)

DRAIN = Milliseconds(MINUTE)
"""Level 1 waits so long after the last reading of a backlog: the next may show that it is over."""
LONGEST_DRAIN = Milliseconds(10 * MINUTE)
DIGEST_AFTER = Milliseconds(5 * MINUTE)
DIGEST = 0
"""Tier of the step that puts an alarm into the digest of late data."""

Key = tuple[ZoneId, Rule]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule says of a zone through one probe. Its condition is in `rule_state` already."""

    zone: ZoneId
    rule: Rule
    probe: ProbeId
    onset: Instant
    """Event time; of silence, server time."""
    value: Centi | None = None
    """The newest reading."""
    peak: Centi | None = None
    limit: Centi | None = None
    ended: Instant | None = None
    """When it was over, once it is."""
    draining: bool | None = None
    """True: the newest reading is of a backlog, more may come; False: no longer; None: it never was."""
    measured: bool = True
    """False when the evidence ended without a measurement: the probe was taken away, the equipment stopped."""


class Snapshot(msgspec.Struct, frozen=True):
    """Rule and policy as they were at the opening."""

    profile: str
    limit: Centi | None
    policy: Policy


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
    units = standing_units(tx, {zones[zone].equipment for zone, _ in by_key}, now)
    to_open: list[tuple[Alarm, Watched, bool]] = []
    recovered: list[AlarmId] = []
    for key, seen in sorted(by_key.items()):
        watched = zones[key[0]]
        condition = conditions.get(key, Condition.OK)
        open_one, old = alarms.get(key, (None, None))
        if condition is Condition.OK:
            if open_one:
                _recover(tx, zones, post, open_one, seen, now)
                recovered.append(open_one.id)
        elif open_one:
            _keep(tx, open_one, seen, condition, now)
        elif old and _just_recovered(old, watched.profile.policy, now):
            _reopen(old, seen, now)
            to_open.append((old, watched, _draining(seen)))
        elif (unit := units.get(watched.equipment)) is None:
            log.error("no alarm: the equipment never stood in a unit", zone=key[0], equipment=watched.equipment)
        else:
            alarm = new_alarm(watched, seen, unit, now)
            tx.add(alarm)
            to_open.append((alarm, watched, _draining(seen)))
    tx.flush()
    _write_steps(tx, to_open, now)
    return [alarm.id for alarm, _, _ in to_open], recovered


def lock(tx: Session, zones: set[ZoneId]) -> None:
    """Let nobody else decide about these zones until the end of the transaction (SQLite has one writer anyway)."""
    if not zones:
        return
    tx.execute(
        select(Zone.id).where(Zone.id.in_(sorted(zones))).order_by(Zone.id).with_for_update(key_share=True)
    ).all()


def read_conditions(tx: Session, zones: Iterable[ZoneId]) -> dict[Key, Condition]:
    """Return the condition of each rule and zone that isn't ok: active where any probe's is, else clearing."""
    rows = tx.execute(
        select(RuleState.zone_id, RuleState.rule, RuleState.condition)
        .where(RuleState.zone_id.in_(list(zones)), RuleState.condition.in_([Condition.ACTIVE, Condition.CLEARING]))
        .distinct()
    )
    found: dict[Key, Condition] = {}
    for zone, rule, condition in rows:
        key = (zone, Rule(rule))
        if found.get(key) is not Condition.ACTIVE:
            found[key] = Condition(condition)
    return found


def new_alarm(watched: Watched, seen: Sequence[Evidence], unit: UnitId, now: Instant) -> Alarm:
    """Return an open alarm of what was seen first."""
    first = min(seen, key=lambda one: one.onset)
    snapshot = Snapshot(watched.profile.title, first.limit, watched.profile.policy)
    return Alarm(
        zone_id=watched.zone,
        equipment_id=watched.equipment,
        unit_id=unit,
        probe_id=first.probe,
        rule=first.rule,
        state="open",
        cycle=1,
        opened_at=now,
        onset_at=first.onset,
        opening_value=first.value,
        peak=_worst(first.rule, [one.peak for one in seen]),
        limit=first.limit,
        snapshot=msgspec.json.encode(snapshot).decode(),
    )


def policy_of(alarm: Alarm) -> Policy:
    """Return the policy that an alarm opened under."""
    return msgspec.json.decode(alarm.snapshot, type=Snapshot).policy


def facts(
    alarm: Alarm, zones: Zones, *, tier: int, value: Centi | None, turn: int = 0, silent: bool = False
) -> AlarmFacts:
    """Return what a message about an alarm tells."""
    watched = zones[alarm.zone_id]
    unit, timezone = zones.unit(alarm.unit_id)
    return AlarmFacts(
        alarm=alarm.id,
        unit=unit,
        timezone=timezone,
        equipment=watched.equipment_name,
        zone_kind=watched.kind,
        rule=alarm.rule,
        value=value,
        limit=alarm.limit,
        onset=alarm.onset_at,
        opened=alarm.opened_at,
        tier=tier,
        cycle=alarm.cycle,
        turn=turn,
        silent=silent,
        peak=alarm.peak,
        recovered=alarm.ended_at,
    )


def event(alarm: AlarmId, kind: str, now: Instant, *, person: PersonId | None = None, **detail: object) -> AlarmEvent:
    """Return a line of an alarm's history. Never put personal data in `detail`."""
    return AlarmEvent(alarm_id=alarm, at=now, kind=kind, person_id=person, detail=json.dumps(detail, sort_keys=True))


def standing_units(tx: Session, equipment: Iterable[EquipmentId], at: Instant) -> dict[EquipmentId, UnitId]:
    """Return where each equipment stood, or stood last before; one that never stood anywhere is left out."""
    rows = tx.execute(
        select(EquipmentUnit.equipment_id, EquipmentUnit.unit_id)
        .where(EquipmentUnit.equipment_id.in_(list(equipment)), EquipmentUnit.since <= at)
        .order_by(EquipmentUnit.since)
    )
    return {equipment_id: unit for equipment_id, unit in rows}  # noqa: C416  # a Row is no pair of types


def widen(alarm: Alarm, onset: Instant, peak: Centi | None) -> None:
    """Let an alarm begin as early, and reach as far, as is known now."""
    alarm.onset_at = min(alarm.onset_at, onset)
    alarm.peak = _worst(Rule(alarm.rule), [alarm.peak, peak])


def _alarms(tx: Session, keys: Mapping[Key, object], now: Instant) -> dict[Key, tuple[Alarm | None, Alarm | None]]:
    """Return of each key the open alarm, and the last that recovered and might open again."""
    rows = tx.scalars(
        select(Alarm)
        .where(
            Alarm.zone_id.in_({zone for zone, _ in keys}),
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


def _just_recovered(alarm: Alarm, policy: Policy, now: Instant) -> bool:
    return alarm.recovered_at is not None and now - alarm.recovered_at <= policy.merge_min * MINUTE


def _draining(seen: Sequence[Evidence]) -> bool:
    return all(one.draining for one in seen)


def _worst(rule: str, values: Iterable[Centi | None]) -> Centi | None:
    known = [value for value in values if value is not None]
    if not known or rule not in (Rule.ABOVE, Rule.BELOW):
        return None
    return max(known) if rule == Rule.ABOVE else min(known)


def _reopen(alarm: Alarm, seen: Sequence[Evidence], now: Instant) -> None:
    """Begin another cycle: who came for the last one has to be told anew."""
    alarm.state, alarm.cycle, alarm.opened_at = "open", alarm.cycle + 1, now
    alarm.recovered_at = alarm.ended_at = None
    alarm.handling = "unacknowledged"
    alarm.acknowledged_at = alarm.acknowledged_by = alarm.acknowledged_through = None
    for one in seen:
        alarm.peak = _worst(alarm.rule, [alarm.peak, one.peak])


def _write_steps(tx: Session, opened: Sequence[tuple[Alarm, Watched, bool]], now: Instant) -> None:
    """Write the steps of opened alarms, with absolute times, and the line of history."""
    steps = []
    for alarm, watched, draining in opened:
        for tier, after in watched.profile.policy.offsets():
            due_at = now + (DRAIN if draining and tier == 1 else after)
            steps.append({"alarm_id": alarm.id, "cycle": alarm.cycle, "tier": tier, "turn": 0, "due_at": due_at})
        kind = "opened" if alarm.cycle == 1 else "reopened"
        tx.add(event(alarm.id, kind, now, cycle=alarm.cycle, onset=alarm.onset_at, value=alarm.opening_value))
    insert_missing(tx, AlarmStep, steps)


def _keep(tx: Session, alarm: Alarm, seen: Sequence[Evidence], condition: Condition, now: Instant) -> None:
    for one in seen:
        widen(alarm, one.onset, one.peak)
    mine = and_(AlarmStep.alarm_id == alarm.id, AlarmStep.cycle == alarm.cycle)
    if condition is Condition.ACTIVE:
        # Abnormal again before it was over: what was held fires at once.
        tx.execute(update(AlarmStep).where(mine, AlarmStep.state == "held").values(state="due"))
    drained = [one.draining for one in seen if one.draining is not None]
    if drained:
        latest = min(now + DRAIN, alarm.opened_at + LONGEST_DRAIN) if all(drained) else now
        first = and_(mine, AlarmStep.tier == 1, AlarmStep.turn == 0, AlarmStep.state == "due")
        tx.execute(update(AlarmStep).where(first).values(due_at=latest))


def _recover(tx: Session, zones: Zones, post: Post, alarm: Alarm, seen: Sequence[Evidence], now: Instant) -> None:
    measured = any(one.measured for one in seen)
    mine = and_(AlarmStep.alarm_id == alarm.id, AlarmStep.cycle == alarm.cycle)
    pending = and_(mine, AlarmStep.state.in_(["due", "held", "suppressed"]))
    untold = tx.scalar(select(func.count()).where(mine, AlarmStep.tier == 1, AlarmStep.state.in_(["due", "held"])))
    # Before who was told is read: a worker that fires a step right now holds its row until its messages are there.
    tx.execute(update(AlarmStep).where(pending).values(state="cancelled"))
    alarm.recovered_at = now
    alarm.ended_at = max((one.ended for one in seen if one.ended is not None), default=None)
    if alarm.ended_at is None or alarm.ended_at < alarm.onset_at:
        alarm.ended_at = alarm.onset_at
    for one in seen:
        alarm.peak = _worst(alarm.rule, [alarm.peak, one.peak])
    alarm.state = "closed" if alarm.handling == "handled" else "recovered"
    told = _told(tx, alarm)
    if measured:
        value = next((one.value for one in seen if one.value is not None), None)
        post.queue(
            tx,
            [
                Draft(
                    kind="recovery",
                    facts=facts(alarm, zones, tier=tier, value=value),
                    person=person,
                    openid=openid,
                    tier=tier,
                    about=alarm.id,
                    cycle=alarm.cycle,
                )
                for person, openid, tier in told
            ],
            now,
        )
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
