"""Instants: milliseconds since 1970 in UTC, the same integer from the probe to the report."""

from datetime import UTC, date, datetime, timedelta
from typing import NewType
from zoneinfo import ZoneInfo

Instant = NewType("Instant", int)
"""Milliseconds since 1970-01-01T00:00Z."""

Milliseconds = NewType("Milliseconds", int)
"""Duration in milliseconds."""

SECOND = Milliseconds(1_000)
MINUTE = Milliseconds(60_000)
HOUR = Milliseconds(3_600_000)
DAY = Milliseconds(86_400_000)


def instant(moment: datetime) -> Instant:
    """Return the instant of an aware datetime.

    Raises: ValueError for a naive one, which is ambiguous.
    """
    if moment.tzinfo is None:
        msg = f"{moment.isoformat()} has no time zone; give it one, such as +08:00"
        raise ValueError(msg)
    return Instant((moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1))


def parse(text: str) -> Instant:
    """Parse an RFC 3339 time with an offset, such as 2026-03-28T03:02:40+08:00.

    Raises: ValueError if it isn't one, or has no offset.
    """
    return instant(datetime.fromisoformat(text))


def at_zone(when: Instant, zone: ZoneInfo) -> datetime:
    """Return the instant as a datetime in `zone`."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=when)).astimezone(zone)


def rfc3339(when: Instant, zone: ZoneInfo | None = None) -> str:
    """Format an instant as RFC 3339 with offset and milliseconds, in UTC unless a zone is given."""
    return at_zone(when, zone or ZoneInfo("UTC")).isoformat(timespec="milliseconds")


def local_day(when: Instant, zone: ZoneInfo) -> date:
    """Return the local calendar day of an instant, as duties, rollups and reports count days."""
    return at_zone(when, zone).date()


def day_bounds(day: date, zone: ZoneInfo) -> tuple[Instant, Instant]:
    """Return [midnight, next midnight) of a local day; it has 23 or 25 hours when clocks change."""
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    next_day = day + timedelta(days=1)
    return instant(start), instant(datetime(next_day.year, next_day.month, next_day.day, tzinfo=zone))


class LocalDays:
    """Cache for `local_day`, for many instants that are close to each other. Not thread-safe.

    It keeps the bounds of the last day, unless clocks change in it; an instant within them costs two comparisons.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._since = self._until = Instant(0)
        self._day = date.min

    def of(self, when: Instant) -> date:
        """Return the local calendar day of an instant."""
        if self._since <= when < self._until:
            return self._day
        day = local_day(when, self._zone)
        since, until = day_bounds(day, self._zone)
        if at_zone(since, self._zone).utcoffset() == at_zone(Instant(until - 1), self._zone).utcoffset():
            self._since, self._until, self._day = since, until, day
        return day
