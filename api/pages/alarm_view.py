"""View of an alarm's page: the same for signed-in people and for holders of the link in a message.

A person's full name is shown to those who may see the unit; a holder of the link sees the family name.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from fastapi import Request
from sqlalchemy.orm import Session

from api.app_context import AppContext
from api.auth import Principal
from api.pages.curve import Picture, Trace, svg, table
from api.pages.rendering import RENEWED_S, SiteClock, words_for, zone_info
from api.pages.texts import Texts
from core.alarms import queries
from core.alarms.duration import time_out
from core.alarms.message_text import outbox_key, repeat_of
from core.alarms.queries import AlarmDetail
from core.alarms.states import AlarmEventKind, AlarmState, MessageState, NotificationKind
from core.alarms.zone_status import limits_of, zone_status
from core.contacts.contacts import ContactLevel, contacts_for
from core.contacts.reachability import levels_out_of_reach
from core.devices.zone_history import TimeSpan, history
from core.errors import NotFound
from core.ids import AlarmId, EquipmentId, PersonId
from core.runtime.instant import DAY, HOUR, Instant
from core.units.queries import in_unit
from core.units.rights import Right
from core.units.tables import Unit
from core.wire.messages import CLOCK_TOLERANCE

BEFORE = 2 * HOUR
LONGEST_CURVE = 7 * DAY


class HistoryLine(msgspec.Struct, frozen=True):
    """Line of an alarm's history."""

    at: Instant
    what: str
    person: str


class NotifiedPerson(msgspec.Struct, frozen=True):
    """Message about an alarm to one person, and its result."""

    person: str
    level: int
    """The person's own level: the lowest at which they were told."""
    what: str
    """alarm, repeat, recovery."""
    channel: str
    state: str
    at: Instant
    """When it was sent; until then when it was written."""
    why: str
    """The provider's last error, of a message that isn't sent."""


def view(
    request: Request, tx: Session, context: AppContext, details: AlarmDetail, principal: Principal | None, *, may: bool
) -> dict[str, Any]:
    """Return the values of alarm.html; `may` tells whether the principal may acknowledge and handle."""
    words, now, alarm = words_for(request), context.clock.now(), details.alarm
    low, high = limits_of(details.zone)
    name = words("zone_name", equipment=details.equipment.name, zone=words(f"zone.{details.zone.kind}"))

    sees_names = sees_alarm(principal, details)

    def shown_name(person: str | None) -> str:
        return (person or "—") if sees_names else _family_name(person)

    def visible(unit: Unit, equipment: EquipmentId) -> bool:
        sees_there = principal is not None and principal.actor.may(Right.SEE, on=unit, equipment=equipment)
        return sees_there or unit.id == details.unit.id

    hidden = queries.hidden_time(tx, alarm, visible, now)

    picture = _picture(tx, context, details, words, name, now)
    messages = queries.notifications(tx, alarm.id, hidden)
    handling = queries.handling_of(tx, alarm.id)
    return {
        "alarm": alarm,
        "name": name,
        "unit": details.unit.name,
        "live": zone_status(tx, context.telemetry.get(), details.zone, in_unit(details.unit), now=now),
        "band": words.band(low, high),
        "curve": svg(picture),
        "numbers": table(picture),
        "told": notified_people(messages, shown_name),
        "happenings": _happenings(tx, details, words, shown_name, hidden, messages),
        "nobody": levels_out_of_reach(contacts_for(tx, alarm.equipment_id, now), context.settings.channels)
        if alarm.state == AlarmState.OPEN
        else (),
        "acknowledged_by": shown_name(details.acknowledged_by),
        "out": time_out(alarm, now),
        "on_time": details.on_time,
        "handling": handling,
        "handled_by": shown_name(handling.by) if handling else "",
        "may_acknowledge": may,
        "now": now,
        "clock": SiteClock(request, details.unit.timezone, now),
        "every": RENEWED_S,
    }


def notified_people(
    messages: Sequence[queries.Notification], shown_name: Callable[[str | None], str]
) -> Sequence[NotifiedPerson]:
    """Return the messages about an alarm with their channels and results, the newest first."""
    levels: dict[PersonId, int] = {}
    for notification in messages:
        levels[notification.person] = min(
            max(1, notification.message.tier), levels.get(notification.person, len(ContactLevel))
        )
    return [
        _notified_person(notification, levels[notification.person], shown_name) for notification in reversed(messages)
    ]


def _notified_person(
    notification: queries.Notification, level: int, shown_name: Callable[[str | None], str]
) -> NotifiedPerson:
    message = notification.message
    kind = "repeat" if message.kind == NotificationKind.ALARM and repeat_of(message.key) else message.kind
    at = message.created_at if message.sent_at is None else message.sent_at
    why = (
        notification.attempts[-1].code
        if notification.attempts and message.state in (MessageState.QUEUED, MessageState.FAILED)
        else ""
    )
    return NotifiedPerson(shown_name(notification.name), level, kind, message.channel, message.state, at, why)


def outcome_text(
    words: Texts, code: str, details: AlarmDetail, principal: Principal | None, context: AppContext
) -> tuple[str, str]:
    """Return the outcome of a change, in words and tone, for the page shown after it.

    If two phones acknowledge, the second is told who was first.
    """
    if code == "handled":
        return words("alarm.handled_now"), "normal"
    if code != "acknowledged" or details.alarm.acknowledged_at is None or principal is None:
        return "", ""
    if details.acknowledged_by_actor == principal.actor.name or details.alarm.acknowledged_by == (
        principal.actor.person or -1
    ):
        return words("alarm.acknowledged_now"), "normal"
    when = words.clock(details.alarm.acknowledged_at, zone_info(details.unit.timezone), context.clock.now())
    who = details.acknowledged_by if sees_alarm(principal, details) else _family_name(details.acknowledged_by)
    return words("alarm.acknowledged_already", person=who or "—", time=when), "recovered"


def _happenings(
    tx: Session,
    details: AlarmDetail,
    words: Texts,
    shown_name: Callable[[str | None], str],
    hidden: Sequence[TimeSpan],
    messages: Sequence[queries.Notification],
) -> Sequence[HistoryLine]:
    """Return what happened; a kind of event that the catalogue doesn't know yet is shown by its own name."""
    happenings = []
    for event, person in queries.events(tx, details.alarm.id, hidden):
        detail, name = json.loads(event.detail), f"event.{event.kind}"
        if event.kind == AlarmEventKind.TOLD:
            name = f"event.{_telling_result(details.alarm.id, detail, messages)}"
        levels = detail.get("levels") or [detail.get("level") or detail.get("tier", "")]
        text = words(name, level=words("comma").join(map(str, levels))) if name in words else event.kind
        happenings.append(HistoryLine(event.at, text, shown_name(person) if person else ""))
    return happenings


def _telling_result(alarm: AlarmId, detail: Mapping[str, Any], messages: Sequence[queries.Notification]) -> str:
    """Return told, telling or told_failed: messages that wait, or were refused, have told nobody."""
    repeat = detail.get("repeat", detail.get("turn", 0))  # as it was called before migration 0009
    key = outbox_key(alarm, detail.get("cycle", 1), detail["tier"], repeat, 0, "", NotificationKind.ALARM)
    prefix = key.rsplit(":", 3)[0] + ":"
    states = {notification.message.state for notification in messages if notification.message.key.startswith(prefix)}
    if not states or MessageState.SENT in states:
        return "told"
    return "telling" if MessageState.QUEUED in states else "told_failed"


def _picture(tx: Session, context: AppContext, details: AlarmDetail, words: Texts, name: str, now: Instant) -> Picture:
    alarm, timezone = details.alarm, zone_info(details.unit.timezone)
    end = now if alarm.ended_at is None else min(now, alarm.ended_at + BEFORE)
    since = Instant(max(alarm.onset_at - BEFORE, end - LONGEST_CURVE))
    low, high = limits_of(details.zone)
    until = Instant(max(end, since + HOUR))
    try:
        curves = history(
            tx,
            context.telemetry.get(),
            details.zone.id,
            since,
            Instant(until + CLOCK_TOLERANCE),
            lambda unit, _: unit.id == details.unit.id,
        ).curves
    except NotFound:  # it was elsewhere: nothing of that time belongs to this unit
        curves = []
    return Picture(
        since=since,
        until=until,
        traces=[Trace(probe.code, probe.curve, probe.interval) for probe in curves],
        low=low,
        high=high,
        onset=alarm.onset_at,
        timezone=timezone,
        title=words(
            "curve_title",
            zone=name,
            since=words.clock(since, timezone),
            until=words.clock(until, timezone),
            limits=words.band(low, high),
        ),
        onset_label=words("onset"),
        empty_label=words("no_readings"),
    )


def _family_name(person: str | None) -> str:
    return person[0] + "*" * (len(person) - 1) if person else "—"


def sees_alarm(principal: Principal | None, details: AlarmDetail) -> bool:
    """Return whether the principal is signed in and may see the alarm's equipment."""
    return principal is not None and principal.actor.may(Right.SEE, on=details.unit, equipment=details.equipment.id)


def may_handle(principal: Principal | None, details: AlarmDetail) -> bool:
    """Return whether the principal may acknowledge and handle this alarm."""
    return principal is not None and principal.actor.may(
        Right.ACKNOWLEDGE, on=details.unit, equipment=details.equipment.id
    )
