"""Live state of the rules for one probe: pure functions that change the state they are given.

A reading may arrive up to `WATERMARK` after a newer one. It is inserted in event order, and the state is the same as if
all readings had arrived in order (tests/unit/test_rule_live_state.py). For this the state before the watermark is kept
as `settled`; the `live` state is `settled` plus the few `recent` readings.

An older reading is *late* and changes nothing here. It is evaluated together with the other readings of its time, from
the telemetry store (`core.rules.evaluation`).
"""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from core.ids import ZoneId
from core.rules import bad_sensor, excursion
from core.rules.bad_sensor import UNKNOWN, Sensor, SensorTrust
from core.rules.excursion import CALM, Excursion, Limit
from core.rules.rule_types import GOING_ON, Condition, Episode, Rule, Sample
from core.runtime.instant import MINUTE, Instant, Milliseconds

WATERMARK = Milliseconds(2 * MINUTE)
"""A reading that arrives when the probe has a newer reading by at least this much is late."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and settings of the rules for a probe in its zone. A zone may lack one of the limits."""

    above: Limit | None
    below: Limit | None
    trust: SensorTrust
    gap: Milliseconds

    def limit(self, rule: Rule) -> Limit | None:
        """Return the limit of a rule, or None."""
        return self.above if rule is Rule.ABOVE else self.below if rule is Rule.BELOW else None


class LimitState(msgspec.Struct, array_like=True):
    """State of the excursion rule for one limit."""

    settled: Excursion = CALM
    """State after all readings before the watermark."""
    live: Excursion = CALM
    """State after the recent readings as well."""


class SensorState(msgspec.Struct, array_like=True):
    """State of the sensor rule."""

    settled: Sensor = UNKNOWN
    live: Sensor = UNKNOWN


Tracks = Sequence[tuple[Rule, LimitState, Limit]]
"""Limits with their states."""


class RecentReadings(msgspec.Struct, array_like=True):
    """Recent readings, shared by all rules of one probe."""

    zone: ZoneId | None = None
    """Zone of the live state."""
    samples: list[Sample] = []
    """In event order: the newest reading, and all that are not older than the watermark."""
    inserted: int = 0
    """How many readings came behind a newer one, ever: whoever has read the others may not have read these."""


class EndedExcursion(msgspec.Struct, frozen=True):
    """An excursion that was ended by a live reading."""

    rule: Rule
    episode: Episode


class LiveState(msgspec.Struct):
    """Live state of all rules for one probe."""

    recent: RecentReadings
    above: LimitState
    below: LimitState
    sensor: SensorState

    @property
    def newest(self) -> Instant:
        """Return the event time of the newest reading; 0 before the first."""
        return self.recent.samples[-1].at if self.recent.samples else Instant(0)

    def tracks(self, bounds: Bounds) -> Tracks:
        """Return the existing limits with their states."""
        both = ((Rule.ABOVE, self.above, bounds.above), (Rule.BELOW, self.below, bounds.below))
        return [(rule, track, limit) for rule, track, limit in both if limit is not None]


def begin(zone: ZoneId | None) -> LiveState:
    """Return the initial state of a probe in a zone."""
    return LiveState(RecentReadings(zone=zone), LimitState(), LimitState(), SensorState())


def is_late(state: LiveState, at: Instant) -> bool:
    """Return whether a reading is too old for the live state."""
    return at <= state.newest - WATERMARK


def take(state: LiveState, bounds: Bounds, sample: Sample) -> list[EndedExcursion]:
    """Add a reading that isn't late to the live state; return the excursions that it ended."""
    recent = state.recent
    if recent.samples and sample.at <= recent.samples[-1].at:
        return _insert(state, bounds, sample)
    for track, removed in ((state.above, bounds.above is None), (state.below, bounds.below is None)):
        if removed and track.live.condition is not Condition.OK:
            # The limit was removed, so no reading could ever end its excursion.
            track.settled = track.live = CALM
    ended = []
    tracks = state.tracks(bounds)
    for rule, track, limit in tracks:
        previous = track.live
        track.live = excursion.step(limit, previous, sample)
        if previous.condition in GOING_ON and track.live.condition is Condition.OK:
            ended.append(EndedExcursion(rule, excursion.ended(previous, sample.at)))
    state.sensor.live = bad_sensor.step(bounds.trust, state.sensor.live, sample)
    recent.samples.append(sample)
    _settle(state, tracks, bounds.trust, Instant(sample.at - WATERMARK))
    return ended


def join(track: LimitState, limit: Limit, samples: Sequence[Sample], before: Excursion) -> bool:
    """Join an excursion in late readings to the live one, so that it begins earlier; return whether it was joined.

    `before` is the state at the watermark after the late readings. The live state must itself be beyond the limit: late
    readings alone never page.
    """
    if track.live.condition not in (Condition.PENDING, Condition.ACTIVE) or before.condition is Condition.OK:
        return False
    joined = replayed(limit, samples, before)
    if joined.condition not in (Condition.PENDING, Condition.ACTIVE) or joined.onset >= track.live.onset:
        return False
    if track.live.condition is Condition.ACTIVE and joined.condition is not Condition.ACTIVE:
        return False
    track.settled, track.live = before, joined
    return True


def begin_anew(track: LimitState, limit: Limit, samples: Sequence[Sample], before: Excursion) -> None:
    """Go on with the state of all readings, where late ones have shown that the live excursion was over in between.

    `before` is the state at the watermark after the late readings. An excursion since then from which the newest
    reading has come back is one of the past: late evaluation makes its alarm.
    """
    live = replayed(limit, samples, before)
    if live.condition is Condition.CLEARING:
        before = live = CALM
    track.settled, track.live = before, live


def replayed(limit: Limit, samples: Sequence[Sample], before: Excursion) -> Excursion:
    """Return the state after samples in event order."""
    state = before
    for sample in samples:
        state = excursion.step(limit, state, sample)
    return state


def _insert(state: LiveState, bounds: Bounds, sample: Sample) -> list[EndedExcursion]:
    """Insert a reading between the recent ones. Of two with the same time, the one that arrived last stays."""
    samples = state.recent.samples
    index = bisect_left(samples, sample.at, key=lambda recent: recent.at)
    if samples[index].at != sample.at:
        samples.insert(index, sample)
    elif samples[index] == sample:
        return []
    else:
        samples[index] = sample
    state.recent.inserted += 1
    all_ended = []
    for rule, track, limit in state.tracks(bounds):
        previous, track.live, episode = track.live, track.settled, None
        for recent in samples:
            before, track.live = track.live, excursion.step(limit, track.live, recent)
            if before.condition in GOING_ON and track.live.condition is Condition.OK:
                episode = excursion.ended(before, recent.at)
        if episode and track.live.condition is Condition.OK and previous.condition in GOING_ON:
            all_ended.append(EndedExcursion(rule, episode))
    state.sensor.live = state.sensor.settled
    for recent in samples:
        state.sensor.live = bad_sensor.step(bounds.trust, state.sensor.live, recent)
    return all_ended


def _settle(state: LiveState, tracks: Tracks, trust: SensorTrust, horizon: Instant) -> None:
    samples = state.recent.samples
    while samples[0].at <= horizon:
        oldest = samples.pop(0)
        for _, track, limit in tracks:
            track.settled = excursion.step(limit, track.settled, oldest)
        state.sensor.settled = bad_sensor.step(trust, state.sensor.settled, oldest)
