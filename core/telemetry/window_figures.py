"""Windowed figures of a curve: minimum, maximum and mean, and the time above and below limits.

Pure functions, the same over every store. A window is [edge, next edge). The caller gives the edges, so hours, local
days and the stay of a vaccine are computed alike. Limits are strict: at a limit of 8.00 a reading of 8.00 is in range.

**A reading holds until the next one, and for one interval at most.** Time in which no reading holds is a gap; it counts
neither as above nor as below. A failed reading ends the one before it and doesn't hold itself.
tests/unit/test_window_figures.py tries to break it.
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


class WindowFigures(msgspec.Struct, frozen=True):
    """Figures of the readings in [since, until)."""

    since: Instant
    until: Instant
    count: int
    """Readings that have a value."""
    failed: int
    min: Centi | None
    max: Centi | None
    mean: float | None
    """In hundredths, not rounded."""


class Exposure(msgspec.Struct, frozen=True):
    """Time above and below limits, and without a reading, in [since, until)."""

    since: Instant
    until: Instant
    above: Milliseconds
    below: Milliseconds
    gap: Milliseconds

    @property
    def coverage(self) -> float:
        """Share of the window in which a reading holds, from 0 to 1; 1 for an empty window."""
        return 1 - self.gap / (self.until - self.since) if self.until > self.since else 1.0


def fixed_edges(since: Instant, until: Instant, step: Milliseconds) -> list[Instant]:
    """Return the edges of windows of length `step` from `since`; the last window may be shorter.

    Raises: ValueError if the step isn't positive.
    """
    if step <= 0:
        msg = f"a window of {step} ms has no length"
        raise ValueError(msg)
    return [Instant(edge) for edge in (*range(since, until, step), max(since, until))]


def day_edges(first: date, last: date, zone: ZoneInfo) -> list[Instant]:
    """Return the local midnights that bound the days [first, last]."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [day_bounds(day, zone)[0] for day in (*days, last + timedelta(days=1))]


def figures(curve: Curve, edges: Sequence[Instant]) -> list[WindowFigures]:
    """Return the figures between each edge and the next. The edges must be ascending."""
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
        WindowFigures(since, until, count, failures, Centi(int(low)), Centi(int(high)), total / count)
        if count
        else WindowFigures(since, until, 0, failures, None, None, None)
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
    """Return the time above and below limits, and the gaps, between each edge and the next. Edges must be ascending.

    The curve must begin one interval before the first edge, since a reading before an edge holds across it.
    """
    at, value = curve.at, curve.value
    ends = at + interval
    np.minimum(ends[:-1], at[1:], out=ends[:-1])
    lengths = ends - at
    bounds = np.array(edges, np.int64)

    def time_in_windows(mask: Mask) -> list[int]:
        times: list[int] = np.diff(_time_until(at[mask], lengths[mask], bounds)).tolist()
        return times

    held = time_in_windows(~np.isnan(value))
    warm = time_in_windows(value > above) if above is not None else [0] * len(held)
    cold = time_in_windows(value < below) if below is not None else [0] * len(held)
    return [
        Exposure(since, until, Milliseconds(up), Milliseconds(down), Milliseconds(until - since - covered))
        for since, until, up, down, covered in zip(edges, edges[1:], warm, cold, held, strict=False)
    ]


def _time_until(starts: Whole, lengths: Whole, bounds: Whole) -> Whole:
    """Return the total time of spans before each bound. The spans are ascending and don't overlap."""
    if not len(starts):
        return np.zeros(len(bounds), np.int64)
    begun = np.searchsorted(starts, bounds)
    total = np.concatenate(([0], np.cumsum(lengths)))
    last = np.maximum(begun - 1, 0)
    cut_off = np.maximum(starts[last] + lengths[last] - bounds, 0)
    return np.where(begun > 0, total[begun] - cut_off, 0)


def _by_window(function: np.ufunc, value: npt.NDArray[np.float64], cuts: npt.NDArray[np.intp]) -> list[float]:
    """Reduce the values of each window between cuts to one number, 0 if the window is empty."""
    reduced = np.zeros(len(cuts) - 1)
    filled = np.flatnonzero(np.diff(cuts))
    if len(filled):
        reduced[filled] = function.reduceat(value[: cuts[-1]], cuts[filled])
    numbers: list[float] = reduced.tolist()
    return numbers
