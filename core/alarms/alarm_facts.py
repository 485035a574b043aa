"""Facts of an alarm: the policy that it opened under, lines of its history, and the content of its messages."""

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from core.alarms.duration import cycle_onset_at, cycle_opened_at, time_out
from core.alarms.message_text import AlarmFacts
from core.alarms.states import AlarmEventKind
from core.alarms.tables import Alarm, AlarmEvent
from core.alarms.zone_cache import ZoneCache
from core.ids import AlarmId, Centi, PersonId
from core.limits.rule_profile import EscalationPolicy
from core.rules.rule_types import Rule
from core.runtime.instant import Instant, Milliseconds


class AlarmSnapshot(msgspec.Struct, frozen=True):
    """Rule and policy as they were at the opening."""

    profile: str
    limit: Centi | None
    policy: EscalationPolicy


def policy_of(alarm: Alarm) -> EscalationPolicy:
    """Return the policy that an alarm opened under."""
    return _policy(alarm.snapshot)


@lru_cache(1000)
def _policy(snapshot: str) -> EscalationPolicy:
    """Alarms of one profile have one snapshot, but for the limit."""
    return msgspec.json.decode(snapshot, type=AlarmSnapshot).policy


def facts_of_alarm(
    alarm: Alarm,
    zones: ZoneCache,
    *,
    tier: int,
    value: Centi | None,
    until: Instant,
    repeat: int = 0,
    offline: bool = False,
) -> AlarmFacts:
    """Return the content of a message about an alarm: its last cycle, and its total time out of range by `until`."""
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
        onset=cycle_onset_at(alarm),
        opened=cycle_opened_at(alarm),
        tier=tier,
        cycle=alarm.cycle,
        repeat=repeat,
        offline=offline,
        peak=alarm.peak,
        recovered=alarm.ended_at,
        out=time_out(alarm, until),
    )


def event(
    alarm: AlarmId, kind: AlarmEventKind, now: Instant, *, person: PersonId | None = None, **detail: object
) -> AlarmEvent:
    """Return a line of an alarm's history. Never put personal data in `detail`."""
    return AlarmEvent(**event_row(alarm, kind, now, person=person, **detail))


def event_row(
    alarm: AlarmId, kind: AlarmEventKind, now: Instant, *, person: PersonId | None = None, **detail: object
) -> dict[str, object]:
    """Return the same as a row, for bulk inserts: thousands of alarms open at once when a county loses its power."""
    encoded = msgspec.json.encode(detail, order="sorted").decode()
    return {"alarm_id": alarm, "at": now, "kind": kind, "person_id": person, "detail": encoded}


def widen(alarm: Alarm, onset: Instant, peak: Centi | None, *, until: Instant | None = None) -> None:
    """Move the onset of an alarm to an earlier `onset`, and its peak to a worse `peak`.

    `until` is the end of the added excursion. One that ended before the last cycle began belongs to an earlier cycle,
    of which only the total time is kept.
    """
    if alarm.cycle_onset_at is not None and (until is None or until >= alarm.cycle_onset_at):
        alarm.cycle_onset_at = min(alarm.cycle_onset_at, onset)
    elif alarm.cycle_onset_at is not None:
        alarm.earlier_out = Milliseconds(alarm.earlier_out + max(0, alarm.onset_at - onset))
    alarm.onset_at = min(alarm.onset_at, onset)
    alarm.peak = worst(alarm.rule, [alarm.peak, peak])


def worst(rule: Rule, values: Iterable[Centi | None]) -> Centi | None:
    """Return the value farthest beyond the limit of a rule; None for rules without a limit."""
    known = [value for value in values if value is not None]
    if not known or rule not in (Rule.ABOVE, Rule.BELOW):
        return None
    return max(known) if rule == Rule.ABOVE else min(known)
