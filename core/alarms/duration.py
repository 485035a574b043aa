"""Beginning, end and time beyond the limit of an alarm's excursion: the one definition that everything shown uses.

An alarm that opened again within the merge window has several cycles. Its excursion begins with the onset of the first
and ends with the end of the last; the time out is the sum of the cycles, without the time between them. Confirmation
isn't part of it: neither the minutes inside the limits after which an alarm recovers, nor those between two cycles.

All of it is event time, except that an alarm which goes on is counted until `now`.
"""

from core.alarms.tables import Alarm
from core.runtime.instant import Instant, Milliseconds


def cycle_opened_at(alarm: Alarm) -> Instant:
    """Return when the last cycle opened (server time): from then on somebody has to acknowledge it."""
    return alarm.opened_at if alarm.cycle_opened_at is None else alarm.cycle_opened_at


def cycle_onset_at(alarm: Alarm) -> Instant:
    """Return when the excursion of the last cycle began."""
    return alarm.onset_at if alarm.cycle_onset_at is None else alarm.cycle_onset_at


def time_out(alarm: Alarm, now: Instant) -> Milliseconds:
    """Return how long the excursion lasted in all; until `now` while it goes on."""
    end = now if alarm.ended_at is None else alarm.ended_at
    last_cycle = max(0, end - cycle_onset_at(alarm))
    # Late readings may show that two cycles were one.
    return Milliseconds(min(alarm.earlier_out + last_cycle, max(0, end - alarm.onset_at)))
