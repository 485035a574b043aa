"""What can be asked about alarms: lists, one with all that is known of it, and how quickly they were acknowledged.

Everything is limited to the units for which the caller gives a condition: `actor.scope(Right.SEE)`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from core.alarms.duration import cycle_opened_at
from core.alarms.handling import acknowledged_in_time
from core.alarms.tables import Alarm, AlarmEvent, Attempt, HandlingRecord, Outbox
from core.devices.history import MaySee, Span, stays_seen
from core.devices.tables import Equipment, Zone
from core.errors import NotFound
from core.ids import AlarmId, PersonId, UnitId, ZoneId
from core.runtime.instant import Instant, Milliseconds
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Account, Person, Unit

AT_ONCE = 500
BY_PEOPLE = ("acknowledged", "handled")
"""Events that name who did it; others name whom they were about."""


class AlarmSeen(msgspec.Struct, frozen=True):
    """An alarm with the things that it names."""

    alarm: Alarm
    zone: Zone
    equipment: Equipment
    unit: Unit
    acknowledged_by: str | None
    """Name of the person, or of an account that is no person's."""
    acknowledged_by_actor: str | None
    """As the audit has it."""

    @property
    def handling_time(self) -> Milliseconds | None:
        """From the alarm to its acknowledgement; None while there is none."""
        at = self.alarm.acknowledged_at
        return None if at is None else Milliseconds(at - cycle_opened_at(self.alarm))

    @property
    def on_time(self) -> bool | None:
        """Whether it was acknowledged within 30 minutes, or what its policy says; None while it isn't acknowledged."""
        return acknowledged_in_time(self.alarm)


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


class Handled(msgspec.Struct, frozen=True, kw_only=True):
    """What was found and done, and what became of the vaccine; `by` is a name that people know."""

    at: Instant
    by: str
    cause: str
    action: str
    disposition: str


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
    return _seen(tx, asked)


def alarm_for(tx: Session, actor: Actor, alarm: AlarmId, *, right: Right = Right.SEE) -> AlarmSeen:
    """Return one alarm that the asker may see: of the unit in which the equipment was when it opened.

    Raises: NotFound, also when it is not the asker's to see; NotGranted for another `right`.
    """
    found = alarm_with(tx, alarm)
    actor.require(right, on=found.unit, equipment=found.equipment.id, asked=("alarm", alarm))
    return found


def alarm_with(tx: Session, alarm: AlarmId) -> AlarmSeen:
    """Return one alarm to a caller who has made sure that the asker may see it, such as by a signed link.

    Raises: NotFound.
    """
    found = _seen(tx, _joined().where(Alarm.id == alarm))
    if not found:
        raise NotFound(what="alarm", name=alarm)
    return found[0]


def told(tx: Session, alarm: AlarmId, hidden: Sequence[Span] = ()) -> list[Told]:
    """Return the messages about an alarm in the order in which they were written, but for those of `hidden` time."""
    asked = (
        select(Outbox, Person.id, Person.name)
        .join(Person, Person.id == Outbox.person_id)
        .where(Outbox.alarm_id == alarm)
        .order_by(Outbox.id)
    )
    rows = [row for row in tx.execute(asked) if not _within(row[0].created_at, hidden)]
    tries: dict[int, list[Attempt]] = {message.id: [] for message, _, _ in rows}
    for attempt in tx.scalars(select(Attempt).where(Attempt.outbox_id.in_(tries)).order_by(Attempt.id)):
        tries[attempt.outbox_id].append(attempt)
    return [Told(message, person, name, tries[message.id]) for message, person, name in rows]


def events(tx: Session, alarm: AlarmId, hidden: Sequence[Span] = ()) -> list[tuple[AlarmEvent, str | None]]:
    """Return what happened to an alarm, in order, each with the name of who did it, or whom it was about.

    In `hidden` time only who took the alarm on is named: those to be told then are another unit's people.
    """
    asked = (
        select(AlarmEvent, Person.name)
        .outerjoin(Person, Person.id == AlarmEvent.person_id)
        .where(AlarmEvent.alarm_id == alarm)
        .order_by(AlarmEvent.id)
    )
    return [
        (event, name if event.kind in BY_PEOPLE or not _within(event.at, hidden) else None)
        for event, name in tx.execute(asked)
    ]


def hidden_time(tx: Session, alarm: Alarm, may_see: MaySee, now: Instant) -> list[Span]:
    """Return since an alarm opened the time in which its equipment was where the asker may not see it.

    What is told of an alarm goes to those with whom the equipment is then. The alarm itself stays with the unit in
    which it opened, which handles it.
    """
    return stays_seen(tx, alarm.equipment_id, alarm.opened_at, Instant(now + 1), lambda unit, of: not may_see(unit, of))


def _within(at: Instant, spans: Sequence[Span]) -> bool:
    return any(since <= at < until for since, until in spans)


def handling_of(tx: Session, alarm: AlarmId) -> Handled | None:
    """Return the handling record of an alarm, if there is one yet."""
    row = tx.scalar(select(HandlingRecord).where(HandlingRecord.alarm_id == alarm))
    if row is None:
        return None
    by = names_of(tx, [row.by])[row.by]
    return Handled(at=row.at, by=by, cause=row.cause, action=row.action, disposition=row.disposition)


def open_count(tx: Session, scope: ColumnElement[bool]) -> int:
    """Count the alarms that aren't closed."""
    asked = select(func.count()).select_from(Alarm).join(Unit, Unit.id == Alarm.unit_id)
    return tx.scalar(asked.where(scope, Alarm.state != "closed")) or 0


def timeliness(tx: Session, scope: ColumnElement[bool], since: Instant, until: Instant) -> Timeliness:
    """Count the alarms opened in [since, until) by how they were acknowledged."""
    asked = select(Alarm).join(Unit, Unit.id == Alarm.unit_id).where(Alarm.origin != "withdrawn")
    found = tx.scalars(asked.where(scope, Alarm.opened_at >= since, Alarm.opened_at < until).order_by(Alarm.id))
    counts = Counter(acknowledged_in_time(alarm) for alarm in found.yield_per(AT_ONCE))
    return Timeliness(counts[True], counts[False], counts[None])


def names_of(tx: Session, actors: Iterable[str]) -> dict[str, str]:
    """Return what people call those whom the audit calls `account:3` or `person:7`; others keep their name."""
    wanted = set(actors)
    people = {int(name[7:]) for name in wanted if name.startswith("person:")}
    accounts = {int(name[8:]) for name in wanted if name.startswith("account:")}
    named = {name: name for name in wanted}
    for person, name in tx.execute(select(Person.id, Person.name).where(Person.id.in_(people))):
        named[f"person:{person}"] = name
    owned = select(Account.id, func.coalesce(Person.name, Account.username)).outerjoin(
        Person, Person.id == Account.person_id
    )
    for account, name in tx.execute(owned.where(Account.id.in_(accounts))):
        named[f"account:{account}"] = name
    return named


def _seen(tx: Session, asked: Select[Alarm, Zone, Equipment, Unit]) -> list[AlarmSeen]:
    rows = tx.execute(asked).all()
    acknowledged = select(AlarmEvent.alarm_id, AlarmEvent.detail).where(
        AlarmEvent.alarm_id.in_([alarm.id for alarm, _, _, _ in rows if alarm.acknowledged_at is not None]),
        AlarmEvent.kind == "acknowledged",
    )
    by = {
        alarm: str(json.loads(detail).get("by", ""))
        for alarm, detail in tx.execute(acknowledged.order_by(AlarmEvent.id))
    }
    names = names_of(tx, by.values())
    return [
        AlarmSeen(alarm, zone, equipment, unit, names.get(by.get(alarm.id, "")), by.get(alarm.id))
        for alarm, zone, equipment, unit in rows
    ]


def _joined() -> Select[Alarm, Zone, Equipment, Unit]:
    return (
        select(Alarm, Zone, Equipment, Unit)
        .join(Zone, Zone.id == Alarm.zone_id)
        .join(Equipment, Equipment.id == Alarm.equipment_id)
        .join(Unit, Unit.id == Alarm.unit_id)
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
