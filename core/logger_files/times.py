"""Parser of times, from `2026-03-28T03:02:40+08:00` to `3/28/2026 3:02 AM` and `2026年3月28日 3时2分`.

A date in figures that doesn't begin with its year may have its day or its month first. The file says which, as in
`Date Time (MM/DD/YY)`, or all of its dates do: which order gives dates that exist and follow each other. Where both
do, the file is refused rather than guessed at. A year of two digits is read only where the file says its place.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from config.localized_message import LocalizedMessage
from core.logger_files.problems import message
from core.logger_files.temperatures import plain
from core.runtime.instant import Instant, instant

DateOrder = Literal["ymd", "dmy", "mdy"]
_ORDERS: tuple[DateOrder, ...] = ("ymd", "dmy", "mdy")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATES = (
    re.compile(r"(?P<y>\d{4})[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})"),
    re.compile(r"(?P<y>\d{4}) ?年 ?(?P<m>\d{1,2}) ?月 ?(?P<d>\d{1,2}) ?日"),
    re.compile(r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})"),
    re.compile(r"(?P<a>\d{1,2})[-/](?P<b>\d{1,2})[-/](?P<y>\d{4})"),
    re.compile(r"(?P<a>\d{1,2})(?P<sign>[-/.])(?P<b>\d{1,2})(?P=sign)(?P<short>\d{2})(?!\d)"),
    re.compile(r"(?P<d>\d{1,2})[- ](?P<month>[A-Za-z]{3,9})\.?[-, ]+(?P<y>\d{4})"),
    re.compile(r"(?P<month>[A-Za-z]{3,9})\.? (?P<d>\d{1,2}),? (?P<y>\d{4})"),
    re.compile(r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)(?!\d*[.:])"),
)
_BETWEEN = re.compile(r"(?:,? |T|t|, ?|(?=[上下]午))")
_TIME = re.compile(
    r"(?P<before>上午|下午|[AaPp]\.?[Mm]\.? )? ?(?P<h>\d{1,2})(?::| ?[时点] ?)(?P<min>\d{1,2})(?: ?分 ?)?"
    r"(?::?(?P<s>\d{1,2})(?: ?秒)?(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?: ?(?P<after>[AaPp]\.?[Mm]\.?))?(?: ?(?P<offset>[Zz]|(?:UTC|GMT)?[+-]\d\d:?\d\d))?"
)
_STATED = re.compile(r"(?<![a-z])(d{1,2}|m{1,2}|y{2,4})([-/.])(d{1,2}|m{1,2})\2(d{1,2}|y{2,4})(?![a-z])", re.IGNORECASE)
"""A date format in words, such as `MM/DD/YY`."""
_CENTURY = 2000
_HEADER_OFFSET = re.compile(r"(?:UTC|GMT) ?(?P<sign>[+-]) ?(?P<h>\d{1,2})(?::?(?P<min>\d\d))?", re.IGNORECASE)
_NOON = 12
_DAY = timedelta(days=1)


class ParsedTime(NamedTuple):
    """Date and time of a cell: the date's figures in the order `order`, or in one that the whole file decides."""

    figures: tuple[int, int, int]
    order: DateOrder | None
    time: timedelta
    offset: timedelta | None

    def local(self, order: DateOrder) -> datetime | None:
        """Return the time that the logger's clock showed; None for a date that there isn't."""
        first, second, third = self.figures
        order = self.order or order
        year, month, day = {
            "ymd": (first, second, third),
            "dmy": (third, second, first),
            "mdy": (third, first, second),
        }[order]
        try:
            return datetime(year, month, day) + self.time  # noqa: DTZ001 (no zone yet)
        except (ValueError, OverflowError):
            return None


def parse_time(cell: str, stated: DateOrder | None = None) -> ParsedTime | LocalizedMessage:
    """Return the time of a cell, or the problem with it; `stated` is the order that the file says its dates have."""
    text = plain(cell)
    for pattern in _DATES:
        date = pattern.match(text)
        if date is None:
            continue
        rest = text[date.end() :]
        between = _BETWEEN.match(rest)
        time = _TIME.fullmatch(rest[between.end() :]) if between else None
        if time is None:
            continue
        return _stamp(date.groupdict(), time.groupdict(), stated)
    if re.fullmatch(r"\d{5}([.,]\d+)?", text):
        return message("serial_number")
    return message("no_time")


def stated_order(lines: Iterable[str]) -> DateOrder | None:
    """Return the one order of dates that header and lines before it name, as `MM/DD/YY` does."""
    formats = {
        "".join(part[0] for part in found.group(1, 3, 4)).lower()
        for line in lines
        for found in _STATED.finditer(plain(line))
    }
    named: set[DateOrder] = {order for order in _ORDERS if order in formats}
    return named.pop() if len(named) == 1 else None


def offset_of_header(name: str) -> timedelta | None:
    """Return the offset that the name of a column of times has, as in `Date Time, GMT+08:00`."""
    found = _HEADER_OFFSET.search(plain(name))
    if found is None:
        return None
    offset = timedelta(hours=int(found["h"]), minutes=int(found["min"] or 0))
    return -offset if found["sign"] == "-" else offset


def order_of_dates(stamps: Sequence[ParsedTime]) -> DateOrder | LocalizedMessage:
    """Return the order of dates that don't begin with the year, or a problem where the file leaves it open."""
    unknown = [stamp for stamp in stamps if stamp.order is None]
    if not unknown or all(stamp.figures[0] == stamp.figures[1] for stamp in unknown):
        return "dmy"
    orders: tuple[DateOrder, ...] = ("dmy", "mdy")
    possible = {order: _gap(stamps, order) for order in orders}
    fitting = [order for order in orders if possible[order] is not None]
    if not fitting:
        return message("mixed_dates")
    close = [order for order in fitting if (possible[order] or _DAY) <= _DAY]
    for candidates in (fitting, close):
        if len(candidates) == 1:
            return candidates[0]
    return message("day_or_month")


def to_instant(
    local: datetime, offset: timedelta | None, zone: ZoneInfo, after: Instant | None
) -> Instant | LocalizedMessage:
    """Return the instant of a local time in `zone`, or at an offset; `after` decides an hour that clocks show twice."""
    if offset is not None:
        return instant(local.replace(tzinfo=timezone(offset)))
    moment = local.replace(tzinfo=zone)
    if moment.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
        return message("skipped", zone=zone)
    if after is not None and instant(moment) <= after:
        moment = moment.replace(fold=1)  # the hour that clocks show twice
    return instant(moment)


def _stamp(
    date: dict[str, str], time: dict[str, str | None], stated: DateOrder | None
) -> ParsedTime | LocalizedMessage:
    clock = _clock(time)
    if isinstance(clock, LocalizedMessage):
        return clock
    offset = _offset(time["offset"])
    if isinstance(offset, LocalizedMessage):
        return offset
    if "short" in date:
        return _stamp_of_short_year([int(date[part]) for part in ("a", "b", "short")], stated, clock, offset)
    year = int(date["y"])
    if "a" in date:
        order = stated if stated != "ymd" else None
        return ParsedTime((int(date["a"]), int(date["b"]), year), order, clock, offset)
    if "month" in date:
        short = date["month"][:3].lower()
        if short not in _MONTHS:
            return message("no_time")
        stamp = ParsedTime((year, _MONTHS.index(short) + 1, int(date["d"])), "ymd", clock, offset)
    else:
        stamp = ParsedTime((year, int(date["m"]), int(date["d"])), "ymd", clock, offset)
    return stamp if stamp.local("ymd") is not None else message("no_date")


def _stamp_of_short_year(
    figures: list[int], stated: DateOrder | None, clock: timedelta, offset: timedelta | None
) -> ParsedTime | LocalizedMessage:
    if stated is None:
        return message("short_year")
    figures[stated.index("y")] += _CENTURY
    stamp = ParsedTime((figures[0], figures[1], figures[2]), stated, clock, offset)
    return stamp if stamp.local(stated) is not None else message("no_date")


def _clock(time: dict[str, str | None]) -> timedelta | LocalizedMessage:
    hour, minute, second = (int(time[part] or 0) for part in ("h", "min", "s"))
    half = (time["before"] or time["after"] or "").lower()
    if half and not 1 <= hour <= _NOON:
        return message("no_time")
    if half.startswith(("p", "下")) and hour < _NOON:
        hour += _NOON
    elif half.startswith(("a", "上")) and hour == _NOON:
        hour = 0
    if hour > 23 or minute > 59 or second > 59:  # noqa: PLR2004 (of a clock)
        return message("no_time")
    fraction = (time["fraction"] or "0").ljust(6, "0")[:6]
    return timedelta(hours=hour, minutes=minute, seconds=second, microseconds=int(fraction))


def _offset(text: str | None) -> timedelta | LocalizedMessage | None:
    if text is None:
        return None
    figures = re.sub(r"[^0-9]", "", text)
    if not figures:
        return timedelta(0)
    offset = timedelta(hours=int(figures[:2]), minutes=int(figures[2:]))
    if offset >= _DAY:
        return message("no_time")
    return -offset if "-" in text else offset


def _gap(stamps: Sequence[ParsedTime], order: DateOrder) -> timedelta | None:
    """Return the longest step between two rows; None when the order gives no date, or dates that go back and forth."""
    times = [stamp.local(order) for stamp in stamps]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return None
    steps = [after - before for before, after in pairwise(known)]
    if any(step > timedelta(0) for step in steps) and any(step < -timedelta(hours=2) for step in steps):
        return None  # two hours: where clocks are put back, a file goes back by itself
    return max((abs(step) for step in steps), default=timedelta(0))
