"""Daily figures of a series: pure functions of its readings and of its placements, the same over every store.

A day is the local day of the site. It has one part for each stay: a probe that was moved at noon has two parts, because
its readings before noon don't count for the zone that it was moved to. `core.telemetry.window_figures` says how long a
reading holds. tests/integration/test_rollups.py tries to break it.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from datetime import date
from zoneinfo import ZoneInfo

import msgspec
import numpy as np

from core.ids import Centi, SeriesId, UnitId, ZoneId
from core.limits.placements import Placement
from core.runtime.instant import Instant, Milliseconds, day_bounds
from core.telemetry import window_figures
from core.telemetry.port import Curve

_NOTHING = -(2**63)
"""Value for None in the checksum."""


class DayPart(msgspec.Struct, frozen=True):
    """Row of `core.figures.tables.Daily` without its checksum, in the order of its columns."""

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
        """CRC-32 over all fields: each a little-endian int64, the day as its proleptic Gregorian ordinal."""
        values = msgspec.structs.astuple(self)
        numbers = [_NOTHING if each is None else each for each in (*values[:1], self.day.toordinal(), *values[2:])]
        return zlib.crc32(struct.pack(f"<{len(numbers)}q", *numbers))


def parts(placements: Iterable[Placement], day: date) -> list[Placement]:
    """Return the parts of the placements that lie in a day, by the local time of each one's site."""
    parts_of_day = []
    for placement in placements:
        first, end = day_bounds(day, ZoneInfo(placement.timezone))
        since, until = max(placement.since, first), min(placement.until, end)
        if since < until:
            parts_of_day.append(msgspec.structs.replace(placement, since=since, until=until))
    return parts_of_day


def reach(day_parts: Sequence[Placement]) -> tuple[Instant, Instant]:
    """Return the span of readings that the parts need: it begins early enough for a reading that holds into a part."""
    return Instant(min(_held_from(each) for each in day_parts)), max(each.until for each in day_parts)


def figures(series: SeriesId, day: date, day_parts: Sequence[Placement], curve: Curve) -> list[DayPart]:
    """Return the rows of a day from its parts and its readings.

    A part in which the probe is bound to no zone has a row only if there are readings.
    """
    rows = []
    for placement in day_parts:
        first, last = np.searchsorted(curve.at, (_held_from(placement), placement.until))
        piece = Curve(curve.at[first:last], curve.value[first:last], curve.q[first:last])
        edges = (placement.since, placement.until)
        (measured,) = window_figures.figures(piece, edges)
        (exposure,) = window_figures.exposures(
            piece, edges, placement.interval, above=placement.high, below=placement.low
        )
        if placement.zone is None and not measured.count and not measured.failed:
            continue
        rows.append(
            DayPart(
                series_id=series,
                day=day,
                since=placement.since,
                until=placement.until,
                zone_id=placement.zone,
                unit_id=placement.unit,
                limits=placement.limits,
                low=placement.low,
                high=placement.high,
                n=measured.count,
                failed=measured.failed,
                min=measured.min,
                max=measured.max,
                sum=round((measured.mean or 0.0) * measured.count),  # exact: a day's sum is far below 2^52
                above=exposure.above,
                below=exposure.below,
                gap=exposure.gap,
            )
        )
    return rows


def _held_from(placement: Placement) -> int:
    return max(placement.since - placement.interval, placement.began)
