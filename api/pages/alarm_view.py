"""What the page of an alarm shows: the same for who is signed in and for who came by the link in a message.

A person's full name is for those who may see the unit; who merely holds the link sees the family name.
"""

import json
from collections.abc import Callable, Sequence
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
from core.devices.history import Span, history
from core.errors import NotFound
from core.ids import EquipmentId, PersonId
from core.runtime.instant import DAY, HOUR, Instant
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
    """One person who was, or is being, told. `level` is the lowest at which that happened: their own."""

    person: str
    level: int
    state: str
    at: Instant


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

    handling = listing.handling_of(tx, alarm.id)
    return {
        "alarm": alarm,
        "name": name,
        "unit": seen.unit.name,
        "live": zone_now(tx, parts.telemetry.get(), seen.zone, now, Unit.id == seen.unit.id),
        "band": said.band(low, high),
        "curve": svg(_picture(tx, parts, seen, said, name, now)),
        "told": told(tx, seen, shown, hidden),
        "happenings": _happenings(tx, seen, said, shown, hidden),
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


def told(tx: Session, seen: AlarmSeen, shown: Callable[[str | None], str], hidden: Sequence[Span]) -> Sequence[Told]:
    """Return everybody to whom an alarm message was written, each once, with what became of the last one."""
    people: dict[PersonId, Told] = {}
    for one in listing.told(tx, seen.alarm.id, hidden):
        message = one.message
        if message.kind != "alarm":
            continue
        before = people.get(one.person)
        level = min(max(1, message.tier), before.level if before else message.tier)
        at = message.created_at if message.sent_at is None else message.sent_at
        people[one.person] = Told(shown(one.name), max(1, level), message.state, at)
    return sorted(people.values(), key=lambda one: one.level)


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
    tx: Session, seen: AlarmSeen, said: Words, shown: Callable[[str | None], str], hidden: Sequence[Span]
) -> Sequence[Happening]:
    """Return what happened; a kind of event that the catalogue doesn't know yet is told by its own name."""
    found = []
    for event, person in listing.events(tx, seen.alarm.id, hidden):
        detail, name = json.loads(event.detail), f"event.{event.kind}"
        what = said(name, level=detail.get("tier", "")) if name in said else event.kind
        found.append(Happening(event.at, what, shown(person) if person else ""))
    return found


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
