"""What the page of an alarm shows: the same for who is signed in and for who came by the link in a message.

A person's full name is for those who may see the unit; who merely holds the link sees the family name.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from fastapi import Request
from sqlalchemy.orm import Session

from api.asking import Asker
from api.pages.curve import Picture, Trace, svg
from api.pages.rendering import RENEWED_S, SiteClock, words_for, zone_info
from api.pages.words import Words
from api.pages.zone import zone_now
from api.parts import Parts
from core.alarms import listing
from core.alarms.duration import time_out
from core.alarms.listing import AlarmSeen
from core.alarms.live import AHEAD, limits_of
from core.alarms.message import outbox_key, turn_of
from core.devices.history import Span, history
from core.errors import NotFound
from core.ids import AlarmId, EquipmentId, PersonId
from core.runtime.instant import DAY, HOUR, Instant
from core.units.contacts import ContactLevel, contacts_for
from core.units.reachability import levels_out_of_reach
from core.units.rights import Right
from core.units.tables import Unit

BEFORE = 2 * HOUR
LONGEST = 7 * DAY


class Happening(msgspec.Struct, frozen=True):
    """A line of an alarm's history."""

    at: Instant
    what: str
    person: str


class Told(msgspec.Struct, frozen=True):
    """One message about an alarm to one person, and what became of it."""

    person: str
    level: int
    """Their own: the lowest at which they were told."""
    what: str
    """alarm, repeat, recovery."""
    channel: str
    state: str
    at: Instant
    """When it was handed over; until then when it was written."""
    why: str
    """What the provider said last, of one that isn't handed over."""


def view(
    request: Request, tx: Session, parts: Parts, seen: AlarmSeen, asker: Asker | None, *, may: bool
) -> dict[str, Any]:
    """Return what alarm.html shows; `may` says whether the asker may acknowledge and handle."""
    said, now, alarm = words_for(request), parts.clock.now(), seen.alarm
    low, high = limits_of(seen.zone)
    name = said("zone_name", equipment=seen.equipment.name, zone=said(f"zone.{seen.zone.kind}"))

    sees = sees_alarm(asker, seen)

    def shown(person: str | None) -> str:
        return (person or "—") if sees else _family_name(person)

    def visible(unit: Unit, equipment: EquipmentId) -> bool:
        seen_there = asker is not None and asker.actor.may(Right.SEE, on=unit, equipment=equipment)
        return seen_there or unit.id == seen.unit.id

    hidden = listing.hidden_time(tx, alarm, visible, now)

    messages = listing.told(tx, alarm.id, hidden)
    handling = listing.handling_of(tx, alarm.id)
    return {
        "alarm": alarm,
        "name": name,
        "unit": seen.unit.name,
        "live": zone_now(tx, parts.telemetry.get(), seen.zone, now, Unit.id == seen.unit.id),
        "band": said.band(low, high),
        "curve": svg(_picture(tx, parts, seen, said, name, now)),
        "told": told(messages, shown),
        "happenings": _happenings(tx, seen, said, shown, hidden, messages),
        "nobody": levels_out_of_reach(contacts_for(tx, alarm.equipment_id, now), parts.settings.channels)
        if alarm.state == "open"
        else (),
        "acknowledged_by": shown(seen.acknowledged_by),
        "out": time_out(alarm, now),
        "on_time": seen.on_time,
        "handling": handling,
        "handled_by": shown(handling.by) if handling else "",
        "may_acknowledge": may,
        "now": now,
        "clock": SiteClock(request, seen.unit.timezone, now),
        "every": RENEWED_S,
    }


def told(messages: Sequence[listing.Told], shown: Callable[[str | None], str]) -> Sequence[Told]:
    """Return who was told, or is to be, when and on which channel: every message, the newest first."""
    levels: dict[PersonId, int] = {}
    for one in messages:
        levels[one.person] = min(max(1, one.message.tier), levels.get(one.person, len(ContactLevel)))
    return [_told(one, levels[one.person], shown) for one in reversed(messages)]


def _told(one: listing.Told, level: int, shown: Callable[[str | None], str]) -> Told:
    message = one.message
    what = "repeat" if message.kind == "alarm" and turn_of(message.key) else message.kind
    at = message.created_at if message.sent_at is None else message.sent_at
    why = one.attempts[-1].code if one.attempts and message.state in ("queued", "failed") else ""
    return Told(shown(one.name), level, what, message.channel, message.state, at, why)


def said_of(said: Words, code: str, seen: AlarmSeen, asker: Asker | None, parts: Parts) -> tuple[str, str]:
    """Return what a change has come to, in words and tone, for the page shown after it.

    Of two phones that acknowledge, the second reads who was first.
    """
    if code == "handled":
        return said("alarm.handled_now"), "normal"
    if code != "acknowledged" or seen.alarm.acknowledged_at is None or asker is None:
        return "", ""
    if seen.acknowledged_by_actor == asker.actor.name or seen.alarm.acknowledged_by == (asker.actor.person or -1):
        return said("alarm.acknowledged_now"), "normal"
    when = said.clock(seen.alarm.acknowledged_at, zone_info(seen.unit.timezone), parts.clock.now())
    who = seen.acknowledged_by if sees_alarm(asker, seen) else _family_name(seen.acknowledged_by)
    return said("alarm.acknowledged_already", person=who or "—", time=when), "recovered"


def _happenings(
    tx: Session,
    seen: AlarmSeen,
    said: Words,
    shown: Callable[[str | None], str],
    hidden: Sequence[Span],
    messages: Sequence[listing.Told],
) -> Sequence[Happening]:
    """Return what happened; a kind of event that the catalogue doesn't know yet is told by its own name."""
    found = []
    for event, person in listing.events(tx, seen.alarm.id, hidden):
        detail, name = json.loads(event.detail), f"event.{event.kind}"
        if event.kind == "told":
            name = f"event.{_what_came_of_telling(seen.alarm.id, detail, messages)}"
        levels = detail.get("levels") or [detail.get("level") or detail.get("tier", "")]
        what = said(name, level=said("comma").join(map(str, levels))) if name in said else event.kind
        found.append(Happening(event.at, what, shown(person) if person else ""))
    return found


def _what_came_of_telling(alarm: AlarmId, detail: Mapping[str, Any], messages: Sequence[listing.Told]) -> str:
    """Return told, telling or told_failed: nobody was told by messages that are still waiting, or were refused."""
    begins = outbox_key(alarm, detail.get("cycle", 1), detail["tier"], detail.get("turn", 0), 0, "", "alarm")
    theirs = begins.rsplit(":", 3)[0] + ":"
    states = {one.message.state for one in messages if one.message.key.startswith(theirs)}
    if not states or "sent" in states:
        return "told"
    return "telling" if "queued" in states else "told_failed"


def _picture(tx: Session, parts: Parts, seen: AlarmSeen, said: Words, name: str, now: Instant) -> Picture:
    alarm, timezone = seen.alarm, zone_info(seen.unit.timezone)
    end = now if alarm.ended_at is None else min(now, alarm.ended_at + BEFORE)
    since = Instant(max(alarm.onset_at - BEFORE, end - LONGEST))
    low, high = limits_of(seen.zone)
    until = Instant(max(end, since + HOUR))
    try:
        found = history(
            tx,
            parts.telemetry.get(),
            seen.zone.id,
            since,
            Instant(until + AHEAD),
            lambda unit, _: unit.id == seen.unit.id,
        ).curves
    except NotFound:  # it stood elsewhere: nothing of that time is this unit's
        found = []
    return Picture(
        since=since,
        until=until,
        traces=[Trace(one.code, one.curve, one.interval) for one in found],
        low=low,
        high=high,
        onset=alarm.onset_at,
        timezone=timezone,
        title=said(
            "curve_title",
            zone=name,
            since=said.clock(since, timezone),
            until=said.clock(until, timezone),
            limits=said.band(low, high),
        ),
        onset_label=said("onset"),
        empty_label=said("no_readings"),
    )


def _family_name(person: str | None) -> str:
    return person[0] + "*" * (len(person) - 1) if person else "—"


def sees_alarm(asker: Asker | None, seen: AlarmSeen) -> bool:
    """Whether who asks is signed in and may see what the alarm is of."""
    return asker is not None and asker.actor.may(Right.SEE, on=seen.unit, equipment=seen.equipment.id)


def may_handle(asker: Asker | None, seen: AlarmSeen) -> bool:
    """Whether who is signed in may acknowledge and handle this alarm."""
    return asker is not None and asker.actor.may(Right.ACKNOWLEDGE, on=seen.unit, equipment=seen.equipment.id)
