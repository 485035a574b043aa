"""Rules of unit codes (接种单位编码) and of the time in which they are reviewed. Pure functions.

Ten digits, the first six of them an administrative division. A code counts here from its approval, and nationally from
the next midnight of the site. City and province each review within two hours.
"""

import re
from zoneinfo import ZoneInfo

import msgspec

from core.runtime.instant import HOUR, Instant, Milliseconds, day_bounds, local_day

UNIT_CODE = re.compile(r"[0-9]{10}", re.ASCII)
REVIEW_TIME = Milliseconds(2 * HOUR)
"""2小时/2小时: time of each reviewing level, from the opening of its step."""


class ReviewTime(msgspec.Struct, frozen=True):
    """Time that one level took to decide a request, and whether that was too long."""

    delay: Milliseconds
    late: bool


def division_of(code: str) -> str:
    """Return the division in a unit code."""
    return code[:6]


def national_from(approved_at: Instant, timezone: str) -> Instant:
    """Return the instant from which a code may be used for reports to the national system: the next local midnight."""
    zone = ZoneInfo(timezone)
    return day_bounds(local_day(approved_at, zone), zone)[1]


def review_due(opened_at: Instant) -> Instant:
    """Return the last instant at which a decision of a step is in time."""
    return Instant(opened_at + REVIEW_TIME)


def review_time(opened_at: Instant, decided_at: Instant) -> ReviewTime:
    """Return the time of a step: 2:00:00 is in time, 2:00:01 is late (UC-07)."""
    return ReviewTime(delay=Milliseconds(decided_at - opened_at), late=decided_at > review_due(opened_at))
