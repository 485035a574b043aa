"""Figures of a curve over windows of time: what it measured, and how long it was where it shouldn't be.

Pure functions, the same over every store. A window is [edge, next edge); edges are given, so that hours, local days and
a vaccine's stay are one thing. Limits are strict: at a limit of 8.00 a reading of 8.00 is within it.

**A reading holds until the next one, and for one interval at most.** What nothing holds is a gap: never exposure, never
cold. A failed reading ends what was before it and holds nothing.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import numpy.typing as npt

from core.ids import Centi
from core.runtime.instant import Instant, Milliseconds, day_bounds
from core.telemetry.port import Curve

Mask = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]


class Figures(msgspec.Struct, frozen=True):
    """What was measured in [since, until)."""

    since: Instant
    until: Instant
    count: int
    """Readings that have a value."""
    failed: int
    min: Centi | None
    max: Centi | None
    mean: float | None
    """Of the readings, in hundredths, not rounded."""


class Exposure(msgspec.Struct, frozen=True):
    """Where the curve was in [since, until), in milliseconds."""

    since: Instant
    until: Instant
    above: Milliseconds
    below: Milliseconds
    gap: Milliseconds
    """No reading tells."""

    @property
    def coverage(self) -> float:
        """The share of the window that readings tell of, from 0 to 1; 1 for a window of no length."""
        return 1 - self.gap / (self.until - self.since) if self.until > self.since else 1.0


def fixed_edges(since: Instant, until: Instant, step: Milliseconds) -> list[Instant]:
    """Return the edges of windows of equal length from `since`; the last one may be shorter.

    Raises: ValueError for a step that isn't positive.
    """
    if step <= 0:
        msg = f"a window of {step} ms has no length"
        raise ValueError(msg)
    return [Instant(edge) for edge in (*range(since, until, step), max(since, until))]


def day_edges(first: date, last: date, zone: ZoneInfo) -> list[Instant]:
    """Return the local midnights that bound the days from `first` to `last`, both within."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [day_bounds(day, zone)[0] for day in (*days, last + timedelta(days=1))]


def figures(curve: Curve, edges: Sequence[Instant]) -> list[Figures]:
    """Return what was measured between each edge and the next; edges rise."""
    measured = ~np.isnan(curve.value)
    bounds = np.array(edges, np.int64)
    value, cuts = curve.value[measured], np.searchsorted(curve.at[measured], bounds)
    failed = np.diff(np.searchsorted(curve.at[~measured], bounds))
    columns = zip(
        edges,
        edges[1:],
        np.diff(cuts).tolist(),
        failed.tolist(),
        _by_window(np.minimum, value, cuts),
        _by_window(np.maximum, value, cuts),
        _by_window(np.add, value, cuts),
        strict=False,
    )
    return [
        Figures(since, until, count, failures, Centi(int(low)), Centi(int(high)), total / count)
        if count
        else Figures(since, until, 0, failures, None, None, None)
        for since, until, count, failures, low, high, total in columns
    ]


def exposures(
    curve: Curve,
    edges: Sequence[Instant],
    interval: Milliseconds,
    *,
    above: Centi | None = None,
    below: Centi | None = None,
) -> list[Exposure]:
    """Return how long the curve was above and below limits, and untold, between each edge and the next; edges rise.

    Let the curve begin one interval before the first edge: the reading before an edge holds across it.
    """
    at, value = curve.at, curve.value
    ends = at + interval
    np.minimum(ends[:-1], at[1:], out=ends[:-1])
    lengths = ends - at
    bounds = np.array(edges, np.int64)

    def within(which: Mask) -> list[int]:
        spans: list[int] = np.diff(_time_until(at[which], lengths[which], bounds)).tolist()
        return spans

    held = within(~np.isnan(value))
    hot = within(value > above) if above is not None else [0] * len(held)
    cold = within(value < below) if below is not None else [0] * len(held)
    return [
        Exposure(since, until, Milliseconds(up), Milliseconds(down), Milliseconds(until - since - told))
        for since, until, up, down, told in zip(edges, edges[1:], hot, cold, held, strict=False)
    ]


def _time_until(starts: Whole, lengths: Whole, bounds: Whole) -> Whole:
    """Return how much of spans that rise and don't overlap lies before each bound."""
    if not len(starts):
        return np.zeros(len(bounds), np.int64)
    before = np.searchsorted(starts, bounds)
    whole = np.concatenate(([0], np.cumsum(lengths)))
    last = np.maximum(before - 1, 0)
    cut_off = np.maximum(starts[last] + lengths[last] - bounds, 0)
    return np.where(before > 0, whole[before] - cut_off, 0)


def _by_window(how: np.ufunc, value: npt.NDArray[np.float64], cuts: npt.NDArray[np.intp]) -> list[float]:
    """Return one number for each window between cuts, 0 where there is nothing in it."""
    found = np.zeros(len(cuts) - 1)
    filled = np.flatnonzero(np.diff(cuts))
    if len(filled):
        found[filled] = how.reduceat(value[: cuts[-1]], cuts[filled])
    numbers: list[float] = found.tolist()
    return numbers
