"""Overview of a whole installation, without rights: unclosed alarms, current zones with their last reading, new events.

The demo shows it in its terminal.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.alarms.states import AlarmState, StepState
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, SeriesState
from core.devices.kinds_and_labels import zone_name
from core.devices.tables import Equipment, EquipmentUnit, Probe, ProbeZone, Series, Zone
from core.ids import Centi
from core.runtime.instant import Instant
from core.units.tables import Person, Unit


class UnclosedAlarm(msgspec.Struct, frozen=True):
    """An alarm that is not closed, and the highest level that was told in its cycle; 0 while nobody was."""

    alarm: Alarm
    zone: str
    level: int


class LastReading(msgspec.Struct, frozen=True):
    """A probe in its zone with its last temperature; without a value if it failed, without a time if none came."""

    unit: str
    zone: str
    probe: str
    value: Centi | None
    at: Instant | None


class EventInZone(msgspec.Struct, frozen=True):
    """An event of an alarm, with the name of its person, if any."""

    event: AlarmEvent
    rule: str
    zone: str
    person: str | None


def unclosed_alarms(tx: Session) -> list[UnclosedAlarm]:
    """Return the alarms that are not closed, newest first."""
    notified_level = (
        select(func.max(AlarmStep.tier))
        .where(AlarmStep.alarm_id == Alarm.id, AlarmStep.cycle == Alarm.cycle, AlarmStep.state == StepState.FIRED)
        .correlate(Alarm)
        .scalar_subquery()
    )
    query = (
        select(Alarm, Equipment.name, Zone.kind, notified_level)
        .join(Zone, Zone.id == Alarm.zone_id)
        .join(Equipment, Equipment.id == Zone.equipment_id)
        .where(Alarm.state != AlarmState.CLOSED)
        .order_by(Alarm.opened_at.desc())
    )
    return [
        UnclosedAlarm(alarm, zone_name(equipment, kind), level or 0)
        for alarm, equipment, kind, level in tx.execute(query)
    ]


def last_readings(tx: Session) -> list[LastReading]:
    """Return the probes that are bound to a zone of placed equipment, ordered by unit and zone."""
    query = (
        select(Unit.name, Equipment.name, Zone.kind, Probe.code, SeriesState.value, SeriesState.newest_at)
        .select_from(EquipmentUnit)
        .join(Unit, Unit.id == EquipmentUnit.unit_id)
        .join(Equipment, Equipment.id == EquipmentUnit.equipment_id)
        .join(Zone, Zone.equipment_id == Equipment.id)
        .join(ProbeZone, ProbeZone.zone_id == Zone.id)
        .join(Probe, Probe.id == ProbeZone.probe_id)
        .join(Series, (Series.probe_id == Probe.id) & (Series.quantity == "t"))
        .outerjoin(SeriesState, SeriesState.series_id == Series.id)
        .where(EquipmentUnit.until.is_(None), ProbeZone.until.is_(None))
        .order_by(Unit.path, Equipment.id, Zone.id, Probe.code)
    )
    return [
        LastReading(unit, zone_name(equipment, kind), probe, value, at)
        for unit, equipment, kind, probe, value, at in tx.execute(query)
    ]


def last_event_id(tx: Session) -> int:
    """Return the id of the newest event of any alarm, 0 if there is none."""
    return tx.scalar(select(func.max(AlarmEvent.id))) or 0


def events_after(tx: Session, event_id: int) -> Sequence[EventInZone]:
    """Return the events of all alarms that were written after one, in order."""
    query = (
        select(AlarmEvent, Alarm.rule, Equipment.name, Zone.kind, Person.name)
        .join(Alarm, Alarm.id == AlarmEvent.alarm_id)
        .join(Zone, Zone.id == Alarm.zone_id)
        .join(Equipment, Equipment.id == Zone.equipment_id)
        .outerjoin(Person, Person.id == AlarmEvent.person_id)
        .where(AlarmEvent.id > event_id)
        .order_by(AlarmEvent.id)
    )
    return [
        EventInZone(event, rule, zone_name(equipment, kind), person)
        for event, rule, equipment, kind, person in tx.execute(query)
    ]
