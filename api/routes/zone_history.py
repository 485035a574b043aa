"""Temperature history of a zone."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal, visibility_of
from api.db_session import ReadSession
from api.schemas import Celsius, Moment, Schema, ZoneNumber
from core.alarms.zone_status import limits_of
from core.devices.zone_history import History, ProbeCurve, history
from core.errors import Invalid
from core.ids import EquipmentId, ZoneId
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds
from core.telemetry import window_figures

router = APIRouter(prefix="/zones", tags=["zones"])

LONGEST_PERIOD = Milliseconds(400 * DAY)
MOST_READINGS = 5_000
WINDOWS = 500
"""Approximate number of windows for each probe, if there are more readings than fit an answer."""


class ReadingOut(Schema):
    """A reading; `t` is null when it failed, and `q` says why (bit mask)."""

    at: Moment
    t: Celsius | None
    q: int


class WindowOut(Schema):
    """The readings of [since, until): how many have a value, how many failed, and their extremes."""

    since: Moment
    until: Moment
    count: int
    failed: int
    min: Celsius | None
    max: Celsius | None
    mean: float | None


class SeriesOut(Schema):
    """One probe: its readings, or its windows when there are too many."""

    probe: str
    readings: Sequence[ReadingOut] | None
    windows: Sequence[WindowOut] | None


class SpanOut(Schema):
    """A period of time."""

    since: Moment
    until: Moment


class HistoryOut(Schema):
    """The readings of a zone. `seen` is the part of the requested time in which the principal may see it."""

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
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    since: Annotated[Moment, Query(alias="from", description="first moment")],
    until: Annotated[Moment, Query(alias="to", description="first moment no longer asked for")],
    window: Annotated[int | None, Query(ge=1, description="seconds; without, only for many readings")] = None,
) -> HistoryOut:
    """Return readings in order of time, with count, lowest, highest and average.

    The principal sees the time in which the equipment was in a unit of theirs; without any the answer is 404.
    """
    _check(since, until, window)
    zone_readings = history(tx, context.telemetry.get(), zone, since, until, visibility_of(principal.actor))
    return _answer(zone_readings, _window(zone_readings, since, until, window))


def _check(since: Instant, until: Instant, window: int | None) -> None:
    if not since < until:
        raise Invalid(field="to", value=until, problem="it must be later than `from`")
    if until - since > LONGEST_PERIOD:
        raise Invalid(field="to", value=until, problem=f"ask for {LONGEST_PERIOD // DAY} days at most")
    if window is not None and (until - since) / 1000 / window > MOST_READINGS:
        raise Invalid(field="window", value=window, problem=f"that makes more than {MOST_READINGS} windows")


def _window(zone_readings: History, since: Instant, until: Instant, seconds: int | None) -> Milliseconds | None:
    """Return the length of a window: as requested; whole minutes if there are too many readings; else none."""
    if seconds is not None:
        return Milliseconds(seconds * 1000)
    if sum(len(probe.curve) for probe in zone_readings.curves) <= MOST_READINGS:
        return None
    return Milliseconds(max(1, round((until - since) / WINDOWS / MINUTE)) * MINUTE)


def _answer(zone_readings: History, window: Milliseconds | None) -> HistoryOut:
    total = zone_readings.figures()
    low, high = limits_of(zone_readings.zone)
    return HistoryOut(
        zone=zone_readings.zone.id,
        kind=zone_readings.zone.kind,
        equipment=zone_readings.equipment.id,
        equipment_name=zone_readings.equipment.name,
        low=low,
        high=high,
        seen=[SpanOut(since=since, until=until) for since, until in zone_readings.visible],
        window_seconds=None if window is None else window / 1000,
        count=total.count,
        failed=total.failed,
        min=total.min,
        max=total.max,
        avg=_celsius(total.mean),
        series=[_series(probe, zone_readings, window) for probe in zone_readings.curves],
    )


def _series(probe: ProbeCurve, zone_readings: History, window: Milliseconds | None) -> SeriesOut:
    if window is None:
        reading_answers = [
            ReadingOut(at=sample.at, t=sample.value, q=sample.q) for sample in probe.curve.samples(probe.series)
        ]
        return SeriesOut(probe=probe.code, readings=reading_answers, windows=None)
    edges = window_figures.fixed_edges(zone_readings.visible[0][0], zone_readings.visible[-1][1], window)
    window_answers = [
        WindowOut(
            since=window_figures.since,
            until=window_figures.until,
            count=window_figures.count,
            failed=window_figures.failed,
            min=window_figures.min,
            max=window_figures.max,
            mean=_celsius(window_figures.mean),
        )
        for window_figures in window_figures.figures(probe.curve, edges)
    ]
    return SeriesOut(probe=probe.code, readings=None, windows=window_answers)


def _celsius(mean: float | None) -> float | None:
    return None if mean is None else round(mean / 100, 4)
