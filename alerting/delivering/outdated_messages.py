"""Relevance of a queued message: whether it is still true when it is about to be sent. Pure functions of outbox rows.

* An alarm message of a tier above 1 is true while its alarm is open in the same cycle: a person who wasn't told before
  the temperature came back need not be.
* An alarm message of tier 1 is dropped for the same person's recovery message once there is one, since that tells onset
  and end; so nobody reads "too warm" last. Without one it is sent until the alarm is closed: somebody has to look at
  the vaccine.
* A repeat is dropped for a later one, so that the end of an outage doesn't send them all at once.
* A recovery message is true until the alarm opens again. It goes to everybody whom the alarm has reached, or may have,
  and to tier 1; it waits while that person's alarm message is being sent.
* A message that another channel has delivered meanwhile isn't sent again.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from core.alarms.message_text import on_channel, repeat_of
from core.alarms.states import AlarmState, MessageState, NotificationKind
from core.runtime.instant import Instant


class Relevance(StrEnum):
    """Decision about a row that is about to be sent."""

    SEND = "send"
    WAIT = "wait"
    SUPERSEDE = "supersede"


class SiblingMessage(msgspec.Struct, frozen=True):
    """Outbox row as far as it matters to another of the same person, alarm and cycle."""

    key: str
    kind: NotificationKind
    tier: int
    state: MessageState
    attempts: int
    """Tries begun, so that a try whose result was lost in a crash counts."""
    lease_until: Instant | None


class AlarmStanding(msgspec.Struct, frozen=True):
    """Current state of a message's alarm."""

    state: AlarmState
    cycle: int


def relevance(
    row: SiblingMessage, cycle: int, alarm: AlarmStanding, others: Sequence[SiblingMessage], now: Instant
) -> Relevance:
    """Decide about `row`; `others` are the same person's rows of the alarm's cycle; `now` is real time, like leases."""
    key = on_channel(row.key, "")
    if any(other.state == MessageState.SENT and on_channel(other.key, "") == key for other in others):
        return Relevance.SUPERSEDE
    if row.kind == NotificationKind.ALARM:
        return _of_alarm(row, cycle, alarm, others)
    if row.kind == NotificationKind.RECOVERY:
        return _of_recovery(cycle, alarm, others, now)
    return Relevance.SEND


def _of_alarm(row: SiblingMessage, cycle: int, alarm: AlarmStanding, others: Sequence[SiblingMessage]) -> Relevance:
    if alarm.state == AlarmState.OPEN and alarm.cycle == cycle:
        repeat = repeat_of(row.key)
        later = any(other.tier == row.tier and repeat_of(other.key) > repeat > 0 for other in others)
        return Relevance.SUPERSEDE if later else Relevance.SEND
    is_over = (
        alarm.state == AlarmState.CLOSED
        or row.tier > 1
        or any(other.kind == NotificationKind.RECOVERY for other in others)
    )
    return Relevance.SUPERSEDE if is_over else Relevance.SEND


def _of_recovery(cycle: int, alarm: AlarmStanding, others: Sequence[SiblingMessage], now: Instant) -> Relevance:
    if alarm.state == AlarmState.OPEN or alarm.cycle != cycle:
        return Relevance.SUPERSEDE
    alarm_rows = [other for other in others if other.kind == NotificationKind.ALARM]
    if any(
        other.state == MessageState.QUEUED and other.lease_until and other.lease_until > now for other in alarm_rows
    ):
        return Relevance.WAIT
    reached = any(
        other.state == MessageState.SENT or (other.state != MessageState.FAILED and other.attempts > 0)
        for other in alarm_rows
    )
    is_first_tier = not alarm_rows or min(other.tier for other in alarm_rows) == 1
    return Relevance.SEND if reached or is_first_tier else Relevance.SUPERSEDE
