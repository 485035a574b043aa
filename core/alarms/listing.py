"""What can be asked about alarms: lists, one with all that is known of it, and how quickly they were acknowledged.

Everything is limited to the units for which the caller gives a condition: `actor.scope(Right.SEE)`.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session, aliased

from core.alarms.tables import Alarm, AlarmEvent, Attempt, HandlingRecord, Outbox
from core.devices.tables import Equipment, Zone
from core.errors import NotFound
from core.ids import AlarmId, PersonId, UnitId, ZoneId
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Person, Unit

ON_TIME = Milliseconds(30 * MINUTE)
"""Within this an alarm is to be acknowledged (AL-07)."""


class AlarmSeen(msgspec.Struct, frozen=True):
    """An alarm with the things that it names."""

    alarm: Alarm
    zone: Zone
    equipment: Equipment
    unit: Unit
    acknowledged_by: str | None
    """The person's name."""

    @property
    def handling_time(self) -> Milliseconds | None:
        """From the alarm to its acknowledgement; None while there is none."""
        at = self.alarm.acknowledged_at
        return None if at is None else Milliseconds(at - self.alarm.opened_at)

    @property
    def on_time(self) -> bool | None:
        """Whether it was acknowledged within 30 minutes; None while it isn't acknowledged."""
        return None if self.handling_time is None else self.handling_time <= ON_TIME


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which alarms are asked for; None leaves a question open."""

    states: Sequence[str] = ()
    handling: str | None = None
    rule: str | None = None
    unit: UnitId | None = None
    zone: ZoneId | None = None
    since: Instant | None = None
    """Opened at or after."""
    until: Instant | None = None
    """Opened before."""


class Told(msgspec.Struct, frozen=True):
    """One message about an alarm to one person, and every try to hand it over (AL-06)."""

    message: Outbox
    person: PersonId
    name: str
    attempts: Sequence[Attempt]


class Timeliness(msgspec.Struct, frozen=True):
    """How many alarms were acknowledged within 30 minutes, how many later, how many not at all (AL-07)."""

    on_time: int
    late: int
    unacknowledged: int


def alarms(
    tx: Session, scope: ColumnElement[bool], wanted: Wanted, *, behind: tuple[int, int] | None, limit: int
) -> list[AlarmSeen]:
    """Return up to `limit` alarms, the newest first; go on behind the last one's (opened_at, id)."""
    asked = _joined().where(scope, *_conditions(wanted)).order_by(Alarm.opened_at.desc(), Alarm.id.desc()).limit(limit)
    if behind is not None:
        opened, last = behind
        asked = asked.where(or_(Alarm.opened_at < opened, and_(Alarm.opened_at == opened, Alarm.id < last)))
    return [AlarmSeen(*row) for row in tx.execute(asked)]


def alarm_for(tx: Session, actor: Actor, alarm: AlarmId, *, right: Right = Right.SEE) -> AlarmSeen:
    """Return one alarm that the asker may see.

    Raises: NotFound, NotGranted.
    """
    found = alarm_with(tx, alarm)
    actor.require(right, on=found.unit)
    return found


def alarm_with(tx: Session, alarm: AlarmId) -> AlarmSeen:
    """Return one alarm to a caller who has made sure that the asker may see it, such as by a signed link.

    Raises: NotFound.
    """
    row = tx.execute(_joined().where(Alarm.id == alarm)).one_or_none()
    if row is None:
        raise NotFound(what="alarm", name=alarm)
    return AlarmSeen(*row)


def told(tx: Session, alarm: AlarmId) -> list[Told]:
    """Return every message about an alarm in the order in which they were written."""
    asked = (
        select(Outbox, Person.id, Person.name)
        .join(Person, Person.id == Outbox.person_id)
        .where(Outbox.alarm_id == alarm)
        .order_by(Outbox.id)
    )
    rows = tx.execute(asked).all()
    tries: dict[int, list[Attempt]] = {message.id: [] for message, _, _ in rows}
    for attempt in tx.scalars(select(Attempt).where(Attempt.outbox_id.in_(tries)).order_by(Attempt.id)):
        tries[attempt.outbox_id].append(attempt)
    return [Told(message, person, name, tries[message.id]) for message, person, name in rows]


def events(tx: Session, alarm: AlarmId) -> list[tuple[AlarmEvent, str | None]]:
    """Return what happened to an alarm, in order, each with the name of who did it."""
    asked = (
        select(AlarmEvent, Person.name)
        .outerjoin(Person, Person.id == AlarmEvent.person_id)
        .where(AlarmEvent.alarm_id == alarm)
        .order_by(AlarmEvent.id)
    )
    return [(event, name) for event, name in tx.execute(asked)]


def handling_of(tx: Session, alarm: AlarmId) -> HandlingRecord | None:
    """Return the handling record of an alarm, if there is one yet."""
    return tx.scalar(select(HandlingRecord).where(HandlingRecord.alarm_id == alarm))


def open_count(tx: Session, scope: ColumnElement[bool]) -> int:
    """Count the alarms that aren't closed."""
    asked = select(func.count()).select_from(Alarm).join(Unit, Unit.id == Alarm.unit_id)
    return tx.scalar(asked.where(scope, Alarm.state != "closed")) or 0


def timeliness(tx: Session, scope: ColumnElement[bool], since: Instant, until: Instant) -> Timeliness:
    """Count the alarms opened in [since, until) by how they were acknowledged."""
    took = Alarm.acknowledged_at - Alarm.opened_at
    asked = (
        select(
            func.count().filter(took <= ON_TIME),
            func.count().filter(took > ON_TIME),
            func.count().filter(Alarm.acknowledged_at.is_(None)),
        )
        .join(Unit, Unit.id == Alarm.unit_id)
        .where(scope, Alarm.opened_at >= since, Alarm.opened_at < until)
    )
    return Timeliness(*tx.execute(asked).one())


def _joined() -> Select[Alarm, Zone, Equipment, Unit, str | None]:
    acknowledger = aliased(Person)
    return (
        select(Alarm, Zone, Equipment, Unit, acknowledger.name)
        .join(Zone, Zone.id == Alarm.zone_id)
        .join(Equipment, Equipment.id == Alarm.equipment_id)
        .join(Unit, Unit.id == Alarm.unit_id)
        .outerjoin(acknowledger, acknowledger.id == Alarm.acknowledged_by)
    )


def _conditions(wanted: Wanted) -> list[ColumnElement[bool]]:
    said: list[ColumnElement[bool]] = []
    if wanted.states:
        said.append(Alarm.state.in_(wanted.states))
    if wanted.handling is not None:
        said.append(Alarm.handling == wanted.handling)
    if wanted.rule is not None:
        said.append(Alarm.rule == wanted.rule)
    if wanted.unit is not None:
        said.append(Alarm.unit_id == wanted.unit)
    if wanted.zone is not None:
        said.append(Alarm.zone_id == wanted.zone)
    if wanted.since is not None:
        said.append(Alarm.opened_at >= wanted.since)
    if wanted.until is not None:
        said.append(Alarm.opened_at < wanted.until)
    return said
