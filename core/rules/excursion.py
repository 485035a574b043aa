"""Excursion rule: temperatures above or below a limit. Pure functions of samples and a limit.

Limits are strict: with an upper limit of 8.0 °C a reading of 8.0 is in range and 8.1 is not
(疫苗储存和运输管理规范 2017: 2–8 °C). A failed reading neither starts nor ends an excursion. A gap is never counted as
exposure: after a gap, the delay before an alarm starts again.
"""

from enum import StrEnum

import msgspec

from core.ids import Centi
from core.rules.rule_types import Condition, Episode, Sample
from core.runtime.instant import Instant, Milliseconds
from core.wire.quality import UNUSABLE


class Side(StrEnum):
    """Side of a temperature range."""

    ABOVE = "above"
    BELOW = "below"


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a zone's temperature range, with the delay before an alarm opens."""

    side: Side
    value: Centi
    delay: Milliseconds
    hysteresis: Centi
    interval: Milliseconds
    """Expected time between two readings of the probe."""
    gap: Milliseconds
    """Longest time between two readings that still counts as unbroken."""
    well_inside: Milliseconds
    """An excursion is over after this time inside the limit by the hysteresis."""
    inside: Milliseconds
    """An excursion is over after this time inside the limit."""

    def exceeded_by(self, t: Centi) -> bool:
        """Return whether `t` is beyond the limit; equal is not."""
        return t > self.value if self.side is Side.ABOVE else t < self.value

    def cleared_by(self, t: Centi) -> bool:
        """Return whether `t` is inside the limit by at least the hysteresis."""
        return t <= self.value - self.hysteresis if self.side is Side.ABOVE else t >= self.value + self.hysteresis

    def worse(self, current: Centi | None, other: Centi) -> Centi:
        """Return the value that is farther beyond the limit."""
        if current is None:
            return other
        return max(current, other) if self.side is Side.ABOVE else min(current, other)


class Excursion(msgspec.Struct, frozen=True, array_like=True):
    """State of the rule for a probe. While ok it is always `CALM`, so that a calm probe costs no write."""

    condition: Condition = Condition.OK
    onset: Instant = Instant(0)
    """Start of the newest unbroken excursion."""
    peak: Centi | None = None
    count: int = 0
    """Pending: number of readings beyond the limit so far."""
    newest: Instant = Instant(0)
    """Pending and clearing: time of the last reading."""
    inside: Instant = Instant(0)
    """Clearing: start of the unbroken time inside the limit."""
    well: Instant | None = None
    """Clearing: start of the unbroken time inside by the hysteresis."""


CALM = Excursion()


def step(limit: Limit, previous: Excursion, sample: Sample) -> Excursion:
    """Return the state after one more sample. Samples are in event order, with distinct times."""
    t = sample.value
    if t is None or sample.q & UNUSABLE:
        return previous
    if limit.exceeded_by(t):
        return _beyond(limit, previous, sample.at, t)
    if previous.condition in (Condition.OK, Condition.PENDING):
        return CALM
    return _inside(limit, previous, sample.at, t)


def episode(state: Excursion, newest: Instant) -> Episode | None:
    """Return the current excursion (active or clearing), or None."""
    if state.condition is Condition.CLEARING:
        return Episode(state.onset, None, state.inside, state.peak)
    if state.condition is Condition.ACTIVE:
        return Episode(state.onset, None, newest, state.peak)
    return None


def ended(previous: Excursion, at: Instant) -> Episode:
    """Return the excursion that the sample at `at` ended. Its end is the time when the temperature came inside."""
    end = previous.inside if previous.condition is Condition.CLEARING else at
    return Episode(previous.onset, end, end, previous.peak)


def _beyond(limit: Limit, previous: Excursion, at: Instant, t: Centi) -> Excursion:
    peak = limit.worse(previous.peak, t)
    if previous.condition is Condition.ACTIVE:
        return previous if peak == previous.peak else Excursion(Condition.ACTIVE, previous.onset, peak)
    if previous.condition is Condition.CLEARING:
        return Excursion(Condition.ACTIVE, previous.onset, peak)
    onset, count = at, 1
    if previous.condition is Condition.PENDING and at - previous.newest <= limit.gap:
        onset, count = previous.onset, previous.count + 1
    else:
        peak = t
    if limit.interval > limit.delay or (count > 1 and at - onset >= limit.delay):
        return Excursion(Condition.ACTIVE, onset, peak)
    return Excursion(Condition.PENDING, onset, peak, count, at)


def _inside(limit: Limit, previous: Excursion, at: Instant, t: Centi) -> Excursion:
    unbroken = previous.condition is Condition.CLEARING and at - previous.newest <= limit.gap
    inside = previous.inside if unbroken else at
    well = None
    if limit.cleared_by(t):
        well = previous.well if unbroken and previous.well is not None else at
    if at - inside >= limit.inside or (well is not None and at - well >= limit.well_inside):
        return CALM
    return Excursion(Condition.CLEARING, previous.onset, previous.peak, newest=at, inside=inside, well=well)
