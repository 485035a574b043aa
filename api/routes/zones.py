"""The temperature history of a zone."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from api.asking import Reading, SignedIn, Using, may_see
from api.shapes import Celsius, Moment, Shape, ZoneNumber
from core.alarms.live import limits_of
from core.devices.history import History, ProbeCurve, history
from core.errors import Invalid
from core.ids import EquipmentId, ZoneId
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds
from core.telemetry import windows

router = APIRouter(prefix="/zones", tags=["zones"])

LONGEST = Milliseconds(400 * DAY)
MOST_READINGS = 5_000
WINDOWS = 500
"""About so many a probe, when there are more readings than fit an answer."""


class ReadingOut(Shape):
    """A reading; `t` is null when it failed, and `q` says why (bit mask)."""

    at: Moment
    t: Celsius | None
    q: int


class WindowOut(Shape):
    """The readings of [since, until): how many have a value, how many failed, and their extremes."""

    since: Moment
    until: Moment
    count: int
    failed: int
    min: Celsius | None
    max: Celsius | None
    mean: float | None


class SeriesOut(Shape):
    """One probe: its readings, or its windows when there are too many."""

    probe: str
    readings: Sequence[ReadingOut] | None
    windows: Sequence[WindowOut] | None


class SpanOut(Shape):
    """A stretch of time."""

    since: Moment
    until: Moment


class HistoryOut(Shape):
    """What was measured in a zone. `seen` is the part of the time asked for in which the asker may see it."""

    zone: ZoneId
    kind: str
    equipment: EquipmentId
    equipment_name: str
    low: Celsius | None
    high: Celsius | None
    seen: Sequence[SpanOut]
    window_seconds: float | None
    count: int
    failed: int
    min: Celsius | None
    max: Celsius | None
    avg: float | None
    series: Sequence[SeriesOut]


@router.get("/{zone}/history")
def zone_history(
    zone: ZoneNumber,
    tx: Reading,
    asker: SignedIn,
    parts: Using,
    since: Annotated[Moment, Query(alias="from", description="first moment")],
    until: Annotated[Moment, Query(alias="to", description="first moment no longer asked for")],
    window: Annotated[int | None, Query(ge=1, description="seconds; without, only for many readings")] = None,
) -> HistoryOut:
    """Return readings in order of time, with count, lowest, highest and average.

    The asker sees the time in which the equipment was in a unit of theirs; without any the answer is 404.
    """
    _check(since, until, window)
    found = history(tx, parts.telemetry.get(), zone, since, until, may_see(asker.actor))
    return _out(found, _window(found, since, until, window))


def _check(since: Instant, until: Instant, window: int | None) -> None:
    if not since < until:
        raise Invalid(field="to", value=until, problem="it must be later than `from`")
    if until - since > LONGEST:
        raise Invalid(field="to", value=until, problem=f"ask for {LONGEST // DAY} days at most")
    if window is not None and (until - since) / 1000 / window > MOST_READINGS:
        raise Invalid(field="window", value=window, problem=f"that makes more than {MOST_READINGS} windows")


def _window(found: History, since: Instant, until: Instant, asked: int | None) -> Milliseconds | None:
    """Decide the length of a window: as asked; whole minutes when there are too many readings; else none."""
    if asked is not None:
        return Milliseconds(asked * 1000)
    if sum(len(one.curve) for one in found.curves) <= MOST_READINGS:
        return None
    return Milliseconds(max(1, round((until - since) / WINDOWS / MINUTE)) * MINUTE)


def _out(found: History, window: Milliseconds | None) -> HistoryOut:
    total = found.figures()
    low, high = limits_of(found.zone)
    return HistoryOut(
        zone=found.zone.id,
        kind=found.zone.kind,
        equipment=found.equipment.id,
        equipment_name=found.equipment.name,
        low=low,
        high=high,
        seen=[SpanOut(since=since, until=until) for since, until in found.seen],
        window_seconds=None if window is None else window / 1000,
        count=total.count,
        failed=total.failed,
        min=total.min,
        max=total.max,
        avg=_celsius(total.mean),
        series=[_series(one, found, window) for one in found.curves],
    )


def _series(one: ProbeCurve, found: History, window: Milliseconds | None) -> SeriesOut:
    if window is None:
        readings = [ReadingOut(at=s.at, t=s.value, q=s.q) for s in one.curve.samples(one.series)]
        return SeriesOut(probe=one.code, readings=readings, windows=None)
    edges = windows.fixed_edges(found.seen[0][0], found.seen[-1][1], window)
    each = [
        WindowOut(
            since=f.since, until=f.until, count=f.count, failed=f.failed, min=f.min, max=f.max, mean=_celsius(f.mean)
        )
        for f in windows.figures(one.curve, edges)
    ]
    return SeriesOut(probe=one.code, readings=None, windows=each)


def _celsius(mean: float | None) -> float | None:
    return None if mean is None else round(mean / 100, 4)
