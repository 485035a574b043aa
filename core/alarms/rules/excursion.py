"""When a zone is too warm or too cold: pure functions of samples and a limit.

Limits are strict: with an upper limit of 8.0 °C a reading of 8.0 is in range and 8.1 is not
(疫苗储存和运输管理规范 2017: 2–8 °C). A failed reading neither starts nor ends an excursion, and a gap is never
exposure: what was beyond before and after it counts from after it.
"""

from enum import StrEnum

import msgspec

from core.alarms.rules.sample import UNUSABLE, Condition, Episode, Sample
from core.ids import Centi
from core.runtime.instant import Instant, Milliseconds


class Side(StrEnum):
    """Which end of the band."""

    ABOVE = "above"
    BELOW = "below"


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a zone's band, and how long it may be left before anyone is told."""

    side: Side
    value: Centi
    delay: Milliseconds
    hysteresis: Centi
    interval: Milliseconds
    """Expected time between two readings of the probe."""
    gap: Milliseconds
    """Two readings farther apart than this say nothing of the time between them."""
    well_inside: Milliseconds
    """Inside by the hysteresis for so long: over."""
    inside: Milliseconds
    """Inside at all for so long: over."""

    def exceeded_by(self, t: Centi) -> bool:
        """Whether `t` lies beyond the limit; a reading equal to it does not."""
        return t > self.value if self.side is Side.ABOVE else t < self.value

    def cleared_by(self, t: Centi) -> bool:
        """Whether `t` is inside by the hysteresis at least."""
        return t <= self.value - self.hysteresis if self.side is Side.ABOVE else t >= self.value + self.hysteresis

    def worse(self, one: Centi | None, other: Centi) -> Centi:
        """Return the value farther beyond."""
        if one is None:
            return other
        return max(one, other) if self.side is Side.ABOVE else min(one, other)


class Excursion(msgspec.Struct, frozen=True, array_like=True):
    """What the rule remembers of a probe. While ok that is nothing, so that a calm probe costs no write."""

    condition: Condition = Condition.OK
    onset: Instant = Instant(0)
    """When the newest unbroken excursion began."""
    peak: Centi | None = None
    count: int = 0
    """Pending: readings beyond the limit so far."""
    newest: Instant = Instant(0)
    """Pending and clearing: the last reading."""
    inside: Instant = Instant(0)
    """Clearing: since when inside, without a gap."""
    well: Instant | None = None
    """Clearing: since when inside by the hysteresis, without a gap."""


CALM = Excursion()


def step(limit: Limit, was: Excursion, sample: Sample) -> Excursion:
    """Return the state after one more sample. Samples come in event order, each instant once."""
    t = sample.value
    if t is None or sample.q & UNUSABLE:
        return was
    if limit.exceeded_by(t):
        return _beyond(limit, was, sample.at, t)
    if was.condition in (Condition.OK, Condition.PENDING):
        return CALM
    return _inside(limit, was, sample.at, t)


def episode(state: Excursion, newest: Instant) -> Episode | None:
    """Return the excursion that is still going on, or hasn't been over for long enough; None when there is none."""
    if state.condition is Condition.CLEARING:
        return Episode(state.onset, None, state.inside, state.peak)
    if state.condition is Condition.ACTIVE:
        return Episode(state.onset, None, newest, state.peak)
    return None


def ended(was: Excursion, at: Instant) -> Episode:
    """Return the excursion that the sample of `at` has ended. It was over when the temperature came inside."""
    over = was.inside if was.condition is Condition.CLEARING else at
    return Episode(was.onset, over, over, was.peak)


def _beyond(limit: Limit, was: Excursion, at: Instant, t: Centi) -> Excursion:
    peak = limit.worse(was.peak, t)
    if was.condition is Condition.ACTIVE:
        return was if peak == was.peak else Excursion(Condition.ACTIVE, was.onset, peak)
    if was.condition is Condition.CLEARING:
        return Excursion(Condition.ACTIVE, was.onset, peak)
    onset, count = at, 1
    if was.condition is Condition.PENDING and at - was.newest <= limit.gap:
        onset, count = was.onset, was.count + 1
    else:
        peak = t
    if limit.interval > limit.delay or (count > 1 and at - onset >= limit.delay):
        return Excursion(Condition.ACTIVE, onset, peak)
    return Excursion(Condition.PENDING, onset, peak, count, at)


def _inside(limit: Limit, was: Excursion, at: Instant, t: Centi) -> Excursion:
    unbroken = was.condition is Condition.CLEARING and at - was.newest <= limit.gap
    inside = was.inside if unbroken else at
    well = None
    if limit.cleared_by(t):
        well = was.well if unbroken and was.well is not None else at
    if at - inside >= limit.inside or (well is not None and at - well >= limit.well_inside):
        return CALM
    return Excursion(Condition.CLEARING, was.onset, was.peak, newest=at, inside=inside, well=well)
