"""Duration of an alarm's excursion: start, end and time beyond the limit, defined once for messages, API and pages.

An alarm that re-opened within the merge window has several cycles. Its excursion begins with the onset of the first
cycle and ends with the end of the last one. The time out is the sum over the cycles, without the time between them and
without the minutes inside the limits after which an alarm recovers.

All times are event time, but an excursion that still lasts is counted until `now`. Tested by
tests/unit/test_alarm_duration.py.
"""

from core.alarms.tables import Alarm
from core.runtime.instant import Instant, Milliseconds


def cycle_opened_at(alarm: Alarm) -> Instant:
    """Return the server time at which the last cycle opened; the time to acknowledge counts from it."""
    return alarm.opened_at if alarm.cycle_opened_at is None else alarm.cycle_opened_at


def cycle_onset_at(alarm: Alarm) -> Instant:
    """Return the event time at which the excursion of the last cycle began."""
    return alarm.onset_at if alarm.cycle_onset_at is None else alarm.cycle_onset_at


def time_out(alarm: Alarm, now: Instant) -> Milliseconds:
    """Return the total time beyond the limit; until `now` while the excursion lasts."""
    end = now if alarm.ended_at is None else alarm.ended_at
    last_cycle = max(0, end - cycle_onset_at(alarm))
    # Late readings may show that two cycles were one, so the sum is capped by the whole span.
    return Milliseconds(min(alarm.earlier_out + last_cycle, max(0, end - alarm.onset_at)))
