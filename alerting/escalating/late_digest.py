"""Digest of late data: one message a gateway about excursions that were over before anyone could be told.

Each is an alarm that waits for its handling record; the digest tells level 1 that there are such alarms.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms.alarm_facts import event
from core.alarms.message_text import DigestFacts
from core.alarms.outbox import MessageDraft, OutboxWriter
from core.alarms.recovery import DIGEST
from core.alarms.states import AlarmEventKind, AlarmState, NotificationKind, StepState
from core.alarms.tables import Alarm, AlarmStep
from core.alarms.zone_cache import ZoneCache
from core.contacts.contacts import ContactLevel, contacts_of
from core.contacts.reachability import is_reachable
from core.devices.tables import Gateway, ProbeGateway
from core.ids import EquipmentId, PersonId, ProbeId
from core.runtime.instant import Instant
from core.units.tables import Person


def send_digests(
    tx: Session,
    zones: ZoneCache,
    outbox: OutboxWriter,
    steps: Sequence[AlarmStep],
    alarms: Sequence[Alarm],
    now: Instant,
) -> None:
    """Tell of these alarms, and of all others of the same gateways that wait for their digest."""
    if not steps:
        return
    gateways = _gateways(tx, {alarm.probe_id for alarm in alarms})
    first_alarm = {gateways.get(alarm.probe_id, ""): alarm for alarm in alarms}
    waiting = _waiting(tx, {step.id for step in steps})
    gateways = {**_gateways(tx, {alarm.probe_id for _, alarm in waiting}), **gateways}
    of_gateway: dict[str, list[Alarm]] = defaultdict(list)
    for step, alarm in [*zip(steps, alarms, strict=True), *waiting]:
        gateway = gateways.get(alarm.probe_id, "")
        if gateway in first_alarm:
            step.state, step.fired_at = StepState.FIRED, now
            if alarm.state == AlarmState.RECOVERED:
                of_gateway[gateway].append(alarm)
    contacts = contacts_of(tx, {alarm.equipment_id for over in of_gateway.values() for alarm in over}, now)
    managers = {equipment: levels[ContactLevel.VACCINE_MANAGER] for equipment, levels in contacts.items()}
    for gateway, over in of_gateway.items():
        _tell(tx, zones, outbox, gateway, over, managers, first_alarm[gateway], now)


def _tell(
    tx: Session,
    zones: ZoneCache,
    outbox: OutboxWriter,
    gateway: str,
    over: Sequence[Alarm],
    managers: Mapping[EquipmentId, Sequence[Person]],
    first: Alarm,
    now: Instant,
) -> None:
    """Write to each level-1 contact about the alarms that are theirs.

    `first` sets this digest apart from the gateway's others.
    """
    people: dict[PersonId, Person] = {}
    theirs: dict[PersonId, list[Alarm]] = defaultdict(list)
    for alarm in over:
        contacts = managers[alarm.equipment_id]
        for person in contacts:
            people[person.id] = person
            theirs[person.id].append(alarm)
        reachable = sum(is_reachable(person, outbox.channels) for person in contacts)
        if reachable:
            tx.add(event(alarm.id, AlarmEventKind.DIGEST, now, people=reachable))
        else:
            tx.add(
                event(
                    alarm.id,
                    AlarmEventKind.NOBODY_TO_TELL,
                    now,
                    cycle=alarm.cycle,
                    level=int(ContactLevel.VACCINE_MANAGER),
                )
            )
    drafts = []
    for person_id, alarms in theirs.items():
        unit, timezone = zones.unit(alarms[0].unit_id)
        digest = DigestFacts(
            unit=unit,
            timezone=timezone,
            gateway=gateway,
            alarms=len(alarms),
            first=min(alarm.onset_at for alarm in alarms),
            last=max(alarm.ended_at or alarm.onset_at for alarm in alarms),
        )
        drafts.append(
            MessageDraft(
                kind=NotificationKind.DIGEST,
                facts=digest,
                person=person_id,
                openid=people[person_id].openid,
                tier=1,
                about=f"gw{gateway}",
                cycle=first.cycle,
                repeat=first.id,
            )
        )
    for draft in outbox.queue(tx, drafts, now):
        for alarm in theirs[draft.person]:
            tx.add(event(alarm.id, AlarmEventKind.UNREACHABLE, now, person=draft.person, tier=draft.tier))


def _waiting(tx: Session, known: Iterable[int]) -> list[tuple[AlarmStep, Alarm]]:
    """Return the alarms that wait for a digest, without those whose steps are `known`."""
    rows = tx.execute(
        select(AlarmStep, Alarm)
        .join(Alarm, Alarm.id == AlarmStep.alarm_id)
        .where(AlarmStep.state == StepState.DUE, AlarmStep.tier == DIGEST, AlarmStep.id.not_in(list(known)))
        .with_for_update(skip_locked=True, of=AlarmStep)
    )
    return [(step, alarm) for step, alarm in rows]  # a Row is no pair of types


def _gateways(tx: Session, probes: Iterable[ProbeId]) -> dict[ProbeId, str]:
    """Return the number of each probe's gateway, the last where there were several."""
    rows = tx.execute(
        select(ProbeGateway.probe_id, Gateway.number)
        .join(Gateway, Gateway.id == ProbeGateway.gateway_id)
        .where(ProbeGateway.probe_id.in_(list(probes)))
        .order_by(ProbeGateway.since)
    )
    return {probe: number for probe, number in rows}  # noqa: C416  # a Row is no pair of types
