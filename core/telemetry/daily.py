"""The figures of a day of a series, computed from its readings and from where it was: pure, the same over every store.

A day is the site's own. A part of it is what lies in one stay: a probe that was moved at noon has two parts, and what
it measured before noon says nothing of where it came to. See `core.telemetry.windows` for what a reading tells of.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from datetime import date
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from core.devices.stays import Stay
from core.ids import Centi, SeriesId, UnitId, ZoneId
from core.runtime.instant import Instant, Milliseconds, day_bounds
from core.telemetry import windows
from core.telemetry.port import Curve

_NOTHING = -(2**63)
"""Stands for None under the checksum."""


class Part(msgspec.Struct, frozen=True):
    """A row of `core.telemetry.tables.Daily`, without its checksum, in the order of its columns."""

    series_id: SeriesId
    day: date
    since: Instant
    until: Instant
    zone_id: ZoneId | None
    unit_id: UnitId | None
    limits: int
    low: Centi | None
    high: Centi | None
    n: int
    failed: int
    min: Centi | None
    max: Centi | None
    sum: int
    above: Milliseconds
    below: Milliseconds
    gap: Milliseconds

    @property
    def crc(self) -> int:
        """The checksum over everything."""
        values = msgspec.structs.astuple(self)
        numbers = [_NOTHING if each is None else each for each in (*values[:1], self.day.toordinal(), *values[2:])]
        return zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers))


def parts(stays: Iterable[Stay], day: date) -> list[Stay]:
    """Return what of the stays lies in a day, each by the clocks of where it was."""
    found = []
    for stay in stays:
        first, end = day_bounds(day, ZoneInfo(stay.timezone))
        since, until = max(stay.since, first), min(stay.until, end)
        if since < until:
            found.append(msgspec.structs.replace(stay, since=since, until=until))
    return found


def reach(course: Sequence[Stay]) -> tuple[Instant, Instant]:
    """Return from when to when readings are needed: one before a part tells of its beginning."""
    return Instant(min(_held_from(each) for each in course)), max(each.until for each in course)


def figures(series: SeriesId, day: date, course: Sequence[Stay], curve: Curve) -> list[Part]:
    """Return the rows of a day from its parts and its readings; where the probe is nobody's, only if there are any."""
    rows = []
    for stay in course:
        first, last = np.searchsorted(curve.at, (_held_from(stay), stay.until))
        piece = Curve(curve.at[first:last], curve.value[first:last], curve.q[first:last])
        edges = (stay.since, stay.until)
        (said,) = windows.figures(piece, edges)
        (exposed,) = windows.exposures(piece, edges, stay.interval, above=stay.high, below=stay.low)
        if stay.zone is None and not said.count and not said.failed:
            continue
        rows.append(
            Part(
                series_id=series,
                day=day,
                since=stay.since,
                until=stay.until,
                zone_id=stay.zone,
                unit_id=stay.unit,
                limits=stay.limits,
                low=stay.low,
                high=stay.high,
                n=said.count,
                failed=said.failed,
                min=said.min,
                max=said.max,
                sum=round((said.mean or 0.0) * said.count),  # exact: a day's sum is far below 2^52
                above=exposed.above,
                below=exposed.below,
                gap=exposed.gap,
            )
        )
    return rows


def _held_from(stay: Stay) -> int:
    return max(stay.since - stay.interval, stay.began)
