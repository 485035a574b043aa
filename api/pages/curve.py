"""Temperature curve of a zone: an SVG that needs no script and no other file, and the table of numbers behind it.

Times are instants, values hundredths of a degree; colours and sizes come from the page's style sheet by class, so the
curve is readable in the dark, and its labels grow with the reader's font. Nothing is drawn across a hole: missing data
shows as missing, also in the table.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from markupsafe import Markup, escape

from core.ids import Centi
from core.runtime.instant import HOUR, MINUTE, Instant, Milliseconds, at_zone
from core.telemetry.port import Curve

WIDTH, HEIGHT = 330, 215
LEFT, RIGHT, TOP, BOTTOM = 36, 8, 12, 26
GAP_INTERVALS = 3
MOST_ROWS = 24
"""Lines of the table for each probe."""
_LABEL_HEIGHT = 13
_STEPS_X = [MINUTE * n for n in (5, 10, 15, 30)] + [HOUR * n for n in (1, 2, 3, 6, 12, 24, 48, 96, 168)]
_STEPS_Y = (50, 100, 200, 500, 1000, 2000)


class Trace(msgspec.Struct, frozen=True):
    """The readings of one probe; beyond three of its intervals without a value is a hole."""

    name: str
    curve: Curve
    interval: Milliseconds


class Picture(msgspec.Struct, frozen=True):
    """What to draw over [since, until): traces, the band that should have been kept, and when it was left."""

    since: Instant
    until: Instant
    traces: Sequence[Trace]
    low: Centi | None
    high: Centi | None
    onset: Instant | None
    timezone: ZoneInfo
    title: str
    onset_label: str = ""
    empty_label: str = ""


class Line(msgspec.Struct, frozen=True):
    """One line of the table: the readings of a probe from `at` on; without any, `low` and `high` are None."""

    at: Instant
    probe: str
    count: int
    low: Centi | None
    high: Centi | None
    beyond: bool
    """Whether one of them was beyond the limits."""


class Table(msgspec.Struct, frozen=True):
    """The numbers behind a curve, for screen readers, narrow screens and paper."""

    step: Milliseconds
    probes: int
    lines: Sequence[Line]


def table(picture: Picture) -> Table:
    """Return the numbers behind the curve, at most `MOST_ROWS` lines for each probe."""
    step = _step(picture, MOST_ROWS - 1)
    edges = [picture.since, *(at for at in _ticks(picture, step) if at > picture.since), picture.until]
    lines = [_line(picture, trace, since, until) for since, until in pairwise(edges) for trace in picture.traces]
    return Table(step, len(picture.traces), lines if any(line.count for line in lines) else [])


def _line(picture: Picture, trace: Trace, since: Instant, until: Instant) -> Line:
    inside = (trace.curve.at >= since) & (trace.curve.at < until) & np.isfinite(trace.curve.value)
    values = trace.curve.value[inside]
    if not len(values):
        return Line(since, trace.name, 0, None, None, beyond=False)
    low, high = Centi(int(values.min())), Centi(int(values.max()))
    too_cold = picture.low is not None and low < picture.low
    too_warm = picture.high is not None and high > picture.high
    return Line(since, trace.name, len(values), low, high, beyond=too_cold or too_warm)


def svg(picture: Picture) -> Markup:
    """Draw the curve; without any reading the drawing says so in words."""
    frame = _Frame(picture)
    parts = [
        f'<svg class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="curve-title">',
        f'<title id="curve-title">{escape(picture.title)}</title>',
        *_clips(frame),
        *_band(frame),
        *_axes(frame),
        *(line for trace in picture.traces for line in _trace(frame, trace)),
        *_onset(frame),
    ]
    if not any(np.isfinite(trace.curve.value).any() for trace in picture.traces):
        parts.append(f'<text class="empty" x="{WIDTH // 2}" y="{HEIGHT // 2}">{escape(picture.empty_label)}</text>')
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 (every text in it is escaped above)


class _Frame:
    """Scale of the drawing, from instants and values to places."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        measured = [trace.curve.value[np.isfinite(trace.curve.value)] for trace in picture.traces]
        known = [float(v) for values in measured if len(values) for v in (values.min(), values.max())]
        known += [float(v) for v in (picture.low, picture.high) if v is not None]
        bottom, top = (min(known), max(known)) if known else (0.0, 1000.0)
        room = max(100.0, (top - bottom) * 0.12)
        self.bottom, self.top = bottom - room, top + room

    def x(self, at: float) -> float:
        span = max(1, self.picture.until - self.picture.since)
        return LEFT + (at - self.picture.since) / span * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (self.top - value) / (self.top - self.bottom) * (HEIGHT - TOP - BOTTOM)


def _clips(frame: _Frame) -> Iterator[str]:
    """Split the drawing in two: where the temperature should be, and where it should not."""
    top = TOP if frame.picture.high is None else frame.y(frame.picture.high)
    bottom = HEIGHT - BOTTOM if frame.picture.low is None else frame.y(frame.picture.low)
    yield f'<clipPath id="inside"><rect x="0" y="{top:.1f}" width="{WIDTH}" height="{bottom - top:.1f}"/></clipPath>'
    yield (
        f'<clipPath id="outside"><rect x="0" y="0" width="{WIDTH}" height="{top:.1f}"/>'
        f'<rect x="0" y="{bottom:.1f}" width="{WIDTH}" height="{HEIGHT - bottom:.1f}"/></clipPath>'
    )


def _band(frame: _Frame) -> Iterator[str]:
    low, high = frame.picture.low, frame.picture.high
    if low is None and high is None:
        return
    top = TOP if high is None else frame.y(high)
    bottom = HEIGHT - BOTTOM if low is None else frame.y(low)
    yield (f'<rect class="band" x="{LEFT}" y="{top:.1f}" width="{WIDTH - LEFT - RIGHT}" height="{bottom - top:.1f}"/>')
    for limit in (low, high):
        if limit is not None:
            y = frame.y(limit)
            yield f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            yield f'<text class="limit-label" x="{LEFT - 4}" y="{y + 4:.1f}">{limit / 100:g}°</text>'


def _axes(frame: _Frame) -> Iterator[str]:
    step = next((s for s in _STEPS_Y if (frame.top - frame.bottom) / s <= 6), _STEPS_Y[-1])  # noqa: PLR2004 (lines)
    limits = [frame.y(v) for v in (frame.picture.low, frame.picture.high) if v is not None]
    for value in range(math.ceil(frame.bottom / step) * step, math.floor(frame.top) + 1, step):
        y = frame.y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        away = min((abs(y - limit) for limit in limits), default=math.inf)
        if away > _LABEL_HEIGHT:
            minor = "" if away > 2 * _LABEL_HEIGHT else " minor"
            yield f'<text class="tick{minor}" x="{LEFT - 4}" y="{y + 4:.1f}">{value / 100:g}</text>'
    yield from _hours(frame)


def _hours(frame: _Frame) -> Iterator[str]:
    """Yield the lines and labels of time; where the reader's font is large every second label gives way."""
    picture = frame.picture
    step = _step(picture, 6)  # as many as fit a phone
    pattern = "%m-%d" if step >= 24 * HOUR else "%H:%M"
    for place, at in enumerate(_ticks(picture, step)):
        x = frame.x(at)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        if LEFT + 10 < x < WIDTH - RIGHT - 14:
            label = at_zone(at, picture.timezone).strftime(pattern)
            minor = " minor" if place % 2 else ""
            yield f'<text class="hour{minor}" x="{x:.1f}" y="{HEIGHT - 8}">{label}</text>'


def _step(picture: Picture, most: int) -> Milliseconds:
    """Return the smallest round step of which at most so many fill the picture."""
    span = picture.until - picture.since
    return Milliseconds(next((step for step in _STEPS_X if span / step <= most), _STEPS_X[-1]))


def _ticks(picture: Picture, step: Milliseconds) -> Iterator[Instant]:
    """Yield the multiples of a step on the site's clock."""
    offset = at_zone(picture.since, picture.timezone).utcoffset()
    shift = int(offset.total_seconds() * 1000) if offset else 0
    first = math.ceil((picture.since + shift) / step) * step - shift
    yield from map(Instant, range(first, picture.until, step))


def _trace(frame: _Frame, trace: Trace) -> Iterator[str]:
    last: tuple[float, float] | None = None
    for run in runs(trace.curve, trace.interval):
        at, value = thinned(*run, WIDTH - LEFT - RIGHT)
        points = [(frame.x(t), frame.y(v)) for t, v in zip(at.tolist(), value.tolist(), strict=True)]
        last = points[-1]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (points if len(points) > 1 else points * 2))
        yield f'<polyline class="line" clip-path="url(#inside)" points="{path}"/>'
        yield f'<polyline class="line beyond" clip-path="url(#outside)" points="{path}"/>'
    if last:
        yield f'<circle class="last" cx="{last[0]:.1f}" cy="{last[1]:.1f}" r="3.5"/>'


def _onset(frame: _Frame) -> Iterator[str]:
    onset = frame.picture.onset
    if onset is None or not frame.picture.since <= onset < frame.picture.until:
        return
    x = frame.x(onset)
    side = "end" if x > WIDTH * 0.6 else "start"
    beside = x - 4 if side == "end" else x + 4
    yield f'<line class="onset" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    when = at_zone(onset, frame.picture.timezone).strftime("%H:%M")
    yield (
        f'<text class="onset-label {side}" x="{beside:.1f}" y="{HEIGHT - BOTTOM - 5}">'
        f"{escape(frame.picture.onset_label)} {when}</text>"
    )


def runs(curve: Curve, interval: Milliseconds) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the stretches without a hole: a failed reading alone is none, three intervals without a value are."""
    good = np.isfinite(curve.value)
    at, value = curve.at[good], curve.value[good]
    if not len(at):
        return
    holes = np.flatnonzero(np.diff(at) > GAP_INTERVALS * interval) + 1
    yield from zip(np.split(at, holes), np.split(value, holes), strict=True)


def thinned(at: np.ndarray, value: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep each column's lowest, highest and last reading, so that no peak is ever smoothed away."""
    if len(at) <= 3 * columns:
        return at, value
    column = ((at - at[0]) * columns // (at[-1] - at[0] + 1)).astype(np.int64)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    ends = np.append(starts[1:], len(at))
    keep = {
        int(i)
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
        for i in (a + int(value[a:b].argmin()), a + int(value[a:b].argmax()), b - 1)
    }
    order = np.array(sorted(keep))
    return at[order], value[order]
