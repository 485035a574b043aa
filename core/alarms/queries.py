"""Alarm queries: lists, a single alarm with its messages and events, and acknowledgement times.

Lists and counts of alarms are limited to what their actor may see; other queries to the units of the condition `scope`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from core.alarms.duration import cycle_opened_at
from core.alarms.handling import acknowledged_in_time
from core.alarms.states import AlarmEventKind, AlarmHandling, AlarmOrigin, AlarmState
from core.alarms.tables import Alarm, AlarmEvent, DeliveryAttempt, HandlingRecord, OutboxMessage
from core.db.in_force import is_in_force
from core.devices.tables import Equipment, Zone
from core.devices.zone_history import TimeSpan, VisibilityCheck, visible_spans
from core.errors import NotFound
from core.ids import AlarmId, PersonId, UnitId, ZoneId
from core.runtime.instant import Instant, Milliseconds
from core.units.actor import Actor
from core.units.queries import in_subtree
from core.units.rights import Right
from core.units.tables import Account, Person, Unit

ROWS_PER_FETCH = 500
NOT_CLOSED = (AlarmState.OPEN, AlarmState.RECOVERED)
BY_PEOPLE = (AlarmEventKind.ACKNOWLEDGED, AlarmEventKind.HANDLED)
"""Kinds of events in which the person acted; in other events it is the contact concerned."""


class AlarmDetail(msgspec.Struct, frozen=True):
    """An alarm with its zone, equipment and unit."""

    alarm: Alarm
    zone: Zone
    equipment: Equipment
    unit: Unit
    acknowledged_by: str | None
    """Name of the person, or of an account that belongs to no person."""
    acknowledged_by_actor: str | None
    """Name in the audit log, such as `account:3`."""

    @property
    def handling_time(self) -> Milliseconds | None:
        """Return the time from opening to acknowledgement; None if not acknowledged."""
        at = self.alarm.acknowledged_at
        return None if at is None else Milliseconds(at - cycle_opened_at(self.alarm))

    @property
    def on_time(self) -> bool | None:
        """Return whether it was acknowledged within its policy's time (30 min); None if not acknowledged."""
        return acknowledged_in_time(self.alarm)


class AlarmFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of an alarm list or count; None doesn't filter."""

    states: Sequence[AlarmState] = ()
    handling: AlarmHandling | None = None
    rule: str | None = None
    unit: UnitId | None = None
    below: bool = False
    """With `unit`: also of all units below it."""
    zone: ZoneId | None = None
    since: Instant | None = None
    """Opened at or after."""
    until: Instant | None = None
    """Opened before."""


class Notification(msgspec.Struct, frozen=True):
    """A message about an alarm to one person, with all attempts to deliver it (AL-06)."""

    message: OutboxMessage
    person: PersonId
    name: str
    attempts: Sequence[DeliveryAttempt]


class HandlingDetail(msgspec.Struct, frozen=True, kw_only=True):
    """Handling record: cause, action and disposition of the vaccine; `by` is a readable name."""

    at: Instant
    by: str
    cause: str
    action: str
    disposition: str


class Timeliness(msgspec.Struct, frozen=True):
    """Number of alarms acknowledged within 30 minutes, later, and not at all (AL-07)."""

    on_time: int
    late: int
    unacknowledged: int


def alarms(
    tx: Session, actor: Actor, alarm_filter: AlarmFilter, *, after: tuple[int, int] | None, limit: int
) -> list[AlarmDetail]:
    """Return up to `limit` alarms that the actor may see, newest first.

    For the next page, `after` is the last one's (opened_at, id).
    """
    query = _base_query().where(*_conditions(tx, actor, alarm_filter))
    query = query.order_by(Alarm.opened_at.desc(), Alarm.id.desc()).limit(limit)
    if after is not None:
        last_opened_at, last_id = after
        query = query.where(
            or_(Alarm.opened_at < last_opened_at, and_(Alarm.opened_at == last_opened_at, Alarm.id < last_id))
        )
    return _load(tx, query)


def alarm_for(tx: Session, actor: Actor, alarm: AlarmId, *, right: Right = Right.SEE) -> AlarmDetail:
    """Return one alarm if the actor has `right` on it: on the unit where the equipment stood when it opened.

    Raises: NotFound, also when the actor may not see it; PermissionDenied when they may see it but lack `right`.
    """
    item = alarm_with(tx, alarm)
    actor.require(right, on=item.unit, equipment=item.equipment.id, subject=("alarm", alarm))
    return item


def alarm_with(tx: Session, alarm: AlarmId) -> AlarmDetail:
    """Return one alarm without a check of rights: the caller has checked them, for example by a signed link.

    Raises: NotFound.
    """
    items = _load(tx, _base_query().where(Alarm.id == alarm))
    if not items:
        raise NotFound(what="alarm", name=alarm)
    return items[0]


def notifications(tx: Session, alarm: AlarmId, hidden: Sequence[TimeSpan] = ()) -> list[Notification]:
    """Return the messages about an alarm in the order of writing, without those written in `hidden` time."""
    query = (
        select(OutboxMessage, Person.id, Person.name)
        .join(Person, Person.id == OutboxMessage.person_id)
        .where(OutboxMessage.alarm_id == alarm)
        .order_by(OutboxMessage.id)
    )
    rows = [row for row in tx.execute(query) if not _within(row[0].created_at, hidden)]
    attempts: dict[int, list[DeliveryAttempt]] = {message.id: [] for message, _, _ in rows}
    for attempt in tx.scalars(
        select(DeliveryAttempt).where(DeliveryAttempt.outbox_id.in_(attempts)).order_by(DeliveryAttempt.id)
    ):
        attempts[attempt.outbox_id].append(attempt)
    return [Notification(message, person, name, attempts[message.id]) for message, person, name in rows]


def events(tx: Session, alarm: AlarmId, hidden: Sequence[TimeSpan] = ()) -> list[tuple[AlarmEvent, str | None]]:
    """Return the events of an alarm in order, each with the name of its person, if any.

    In `hidden` time only people who acknowledged or handled are named: the people told then belong to another unit.
    """
    query = (
        select(AlarmEvent, Person.name)
        .outerjoin(Person, Person.id == AlarmEvent.person_id)
        .where(AlarmEvent.alarm_id == alarm)
        .order_by(AlarmEvent.id)
    )
    return [
        (event, name if event.kind in BY_PEOPLE or not _within(event.at, hidden) else None)
        for event, name in tx.execute(query)
    ]


def hidden_time(tx: Session, alarm: Alarm, may_see: VisibilityCheck, now: Instant) -> list[TimeSpan]:
    """Return the spans since the opening in which the equipment stood where the requester may not see it.

    Messages about an alarm go to the contacts of the unit where the equipment stands at that time. The alarm itself
    stays with the unit in which it opened, which handles it.
    """
    return visible_spans(
        tx, alarm.equipment_id, alarm.opened_at, Instant(now + 1), lambda unit, of: not may_see(unit, of)
    )


def _within(at: Instant, spans: Sequence[TimeSpan]) -> bool:
    return any(is_in_force(since, until, at) for since, until in spans)


def handling_of(tx: Session, alarm: AlarmId) -> HandlingDetail | None:
    """Return the handling record of an alarm, or None."""
    return handlings_of(tx, [alarm]).get(alarm)


def handlings_of(tx: Session, alarms: Sequence[AlarmId]) -> Mapping[AlarmId, HandlingDetail]:
    """Return the handling records of those alarms that have one."""
    rows = tx.scalars(select(HandlingRecord).where(HandlingRecord.alarm_id.in_(alarms))).all()
    names = names_of(tx, [row.by for row in rows])
    return {
        row.alarm_id: HandlingDetail(
            at=row.at, by=names[row.by], cause=row.cause, action=row.action, disposition=row.disposition
        )
        for row in rows
    }


def count(tx: Session, actor: Actor, alarm_filter: AlarmFilter) -> int:
    """Return the length of the list that `alarms` returns for the same filter, over all its pages."""
    query = select(func.count()).select_from(Alarm).join(Unit, Unit.id == Alarm.unit_id)
    return tx.scalar(query.where(*_conditions(tx, actor, alarm_filter))) or 0


def timeliness(tx: Session, scope: ColumnElement[bool], since: Instant, until: Instant) -> Timeliness:
    """Count the alarms opened in [since, until) by how they were acknowledged."""
    query = select(Alarm).join(Unit, Unit.id == Alarm.unit_id).where(Alarm.origin != AlarmOrigin.WITHDRAWN)
    alarm_rows = tx.scalars(query.where(scope, Alarm.opened_at >= since, Alarm.opened_at < until).order_by(Alarm.id))
    counts = Counter(acknowledged_in_time(alarm) for alarm in alarm_rows.yield_per(ROWS_PER_FETCH))
    return Timeliness(counts[True], counts[False], counts[None])


def names_of(tx: Session, actors: Iterable[str]) -> dict[str, str]:
    """Return readable names for audit names such as `account:3` and `person:7`; others keep their name."""
    audit_names = set(actors)
    person_ids = {int(name[7:]) for name in audit_names if name.startswith("person:")}
    account_ids = {int(name[8:]) for name in audit_names if name.startswith("account:")}
    names = {name: name for name in audit_names}
    for person, name in tx.execute(select(Person.id, Person.name).where(Person.id.in_(person_ids))):
        names[f"person:{person}"] = name
    account_names = select(Account.id, func.coalesce(Person.name, Account.username)).outerjoin(
        Person, Person.id == Account.person_id
    )
    for account, name in tx.execute(account_names.where(Account.id.in_(account_ids))):
        names[f"account:{account}"] = name
    return names


def _load(tx: Session, query: Select[Alarm, Zone, Equipment, Unit]) -> list[AlarmDetail]:
    rows = tx.execute(query).all()
    acknowledged = select(AlarmEvent.alarm_id, AlarmEvent.detail).where(
        AlarmEvent.alarm_id.in_([alarm.id for alarm, _, _, _ in rows if alarm.acknowledged_at is not None]),
        AlarmEvent.kind == AlarmEventKind.ACKNOWLEDGED,
    )
    actor_of = {
        alarm: str(json.loads(detail).get("by", ""))
        for alarm, detail in tx.execute(acknowledged.order_by(AlarmEvent.id))
    }
    names = names_of(tx, actor_of.values())
    return [
        AlarmDetail(alarm, zone, equipment, unit, names.get(actor_of.get(alarm.id, "")), actor_of.get(alarm.id))
        for alarm, zone, equipment, unit in rows
    ]


def _base_query() -> Select[Alarm, Zone, Equipment, Unit]:
    return (
        select(Alarm, Zone, Equipment, Unit)
        .join(Zone, Zone.id == Alarm.zone_id)
        .join(Equipment, Equipment.id == Alarm.equipment_id)
        .join(Unit, Unit.id == Alarm.unit_id)
    )


def _conditions(tx: Session, actor: Actor, alarm_filter: AlarmFilter) -> list[ColumnElement[bool]]:
    conditions = [actor.scope(Right.SEE, Alarm.equipment_id)]
    if alarm_filter.states:
        conditions.append(Alarm.state.in_(alarm_filter.states))
    if alarm_filter.handling is not None:
        conditions.append(Alarm.handling == alarm_filter.handling)
    if alarm_filter.rule is not None:
        conditions.append(Alarm.rule == alarm_filter.rule)
    if alarm_filter.unit is not None:
        conditions.append(_of_unit(tx, actor, alarm_filter.unit, alarm_filter))
    if alarm_filter.zone is not None:
        conditions.append(Alarm.zone_id == alarm_filter.zone)
    if alarm_filter.since is not None:
        conditions.append(Alarm.opened_at >= alarm_filter.since)
    if alarm_filter.until is not None:
        conditions.append(Alarm.opened_at < alarm_filter.until)
    return conditions


def _of_unit(tx: Session, actor: Actor, unit_id: UnitId, alarm_filter: AlarmFilter) -> ColumnElement[bool]:
    """Return the condition for a unit. What is below one that the actor may not see is not told to them."""
    unit = tx.get(Unit, unit_id) if alarm_filter.below else None
    return in_subtree(unit) if unit is not None and actor.may(Right.SEE, on=unit) else Unit.id == unit_id
