"""Live state of the rules for one probe: pure functions that change the state they are given.

A reading may come up to `WATERMARK` after a newer one; it is put where it belongs, and the state is the same as if all
had come in order (tests/unit/test_course.py). So the state behind the watermark is kept as `settled`, and the live one
is that plus the few `recent` readings.

An older reading is *late* and changes nothing here: it is evaluated with all others of its time, from the telemetry
store (`core.alarms.rules.evaluation`).
"""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from core.alarms.rules import excursion, sensor
from core.alarms.rules.excursion import CALM, Excursion, Limit
from core.alarms.rules.sample import GOING_ON, Condition, Episode, Rule, Sample
from core.alarms.rules.sensor import UNKNOWN, Sensor, Trust
from core.ids import ZoneId
from core.runtime.instant import MINUTE, Instant, Milliseconds

WATERMARK = Milliseconds(2 * MINUTE)
"""Readings of a probe that come later than this after a newer one are late."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe is held to in its zone. A zone may be without one of the limits."""

    above: Limit | None
    below: Limit | None
    trust: Trust
    gap: Milliseconds

    def limit(self, rule: Rule) -> Limit | None:
        """Return the limit of a rule, None of a rule that has none."""
        return self.above if rule is Rule.ABOVE else self.below if rule is Rule.BELOW else None


class Track(msgspec.Struct, array_like=True):
    """Memory of one limit."""

    settled: Excursion = CALM
    """From all readings behind the watermark."""
    live: Excursion = CALM
    """From those and the recent ones."""


class SensorTrack(msgspec.Struct, array_like=True):
    """Memory of the sensor rule."""

    settled: Sensor = UNKNOWN
    live: Sensor = UNKNOWN


Tracks = Sequence[tuple[Rule, Track, Limit]]
"""Limits, with what is remembered of each."""


class Recent(msgspec.Struct, array_like=True):
    """What all rules of one probe share."""

    zone: ZoneId | None = None
    """Whose the live state is."""
    samples: list[Sample] = []
    """In event order: the newest, and all that aren't older than the watermark."""


class Ended(msgspec.Struct, frozen=True):
    """An excursion that a live reading has ended."""

    rule: Rule
    episode: Episode


class Course(msgspec.Struct):
    """All that is remembered of one probe."""

    recent: Recent
    above: Track
    below: Track
    sensor: SensorTrack

    @property
    def newest(self) -> Instant:
        """Return the event time of the newest reading of the live state; 0 before the first."""
        return self.recent.samples[-1].at if self.recent.samples else Instant(0)

    def tracks(self, bounds: Bounds) -> Tracks:
        """Return the limits that there are, with their memory."""
        both = ((Rule.ABOVE, self.above, bounds.above), (Rule.BELOW, self.below, bounds.below))
        return [(rule, track, limit) for rule, track, limit in both if limit is not None]


def begin(zone: ZoneId | None) -> Course:
    """Return the course of a probe of which nothing is known, in a zone."""
    return Course(Recent(zone=zone), Track(), Track(), SensorTrack())


def is_late(course: Course, at: Instant) -> bool:
    """Whether a reading is older than what the live state can still take in."""
    return at <= course.newest - WATERMARK


def take(course: Course, bounds: Bounds, sample: Sample) -> list[Ended]:
    """Take a reading that isn't late into the live state; return what it ended."""
    recent = course.recent
    if recent.samples and sample.at <= recent.samples[-1].at:
        return _insert(course, bounds, sample)
    for track, gone in ((course.above, bounds.above is None), (course.below, bounds.below is None)):
        if gone and track.live.condition is not Condition.OK:
            # Nothing could ever end what a limit found that the zone is no longer held to.
            track.settled = track.live = CALM
    ended = []
    tracks = course.tracks(bounds)
    for rule, track, limit in tracks:
        was = track.live
        track.live = excursion.step(limit, was, sample)
        if was.condition in GOING_ON and track.live.condition is Condition.OK:
            ended.append(Ended(rule, excursion.ended(was, sample.at)))
    course.sensor.live = sensor.step(bounds.trust, course.sensor.live, sample)
    recent.samples.append(sample)
    _settle(course, tracks, bounds.trust, Instant(sample.at - WATERMARK))
    return ended


def join(track: Track, limit: Limit, samples: Sequence[Sample], before: Excursion) -> bool:
    """Let an excursion that late readings show up to the watermark go on in the live state; return whether it does.

    Only where that is itself beyond the limit, and only to begin earlier: late readings alone never page, and never end
    what is live.
    """
    if track.live.condition not in (Condition.PENDING, Condition.ACTIVE) or before.condition is Condition.OK:
        return False
    live = before
    for sample in samples:
        live = excursion.step(limit, live, sample)
    if live.condition not in (Condition.PENDING, Condition.ACTIVE) or live.onset >= track.live.onset:
        return False
    if track.live.condition is Condition.ACTIVE and live.condition is not Condition.ACTIVE:
        return False
    track.settled, track.live = before, live
    return True


def _insert(course: Course, bounds: Bounds, sample: Sample) -> list[Ended]:
    """Put a reading between the recent ones; of two of one instant the later to come stands."""
    samples = course.recent.samples
    index = bisect_left(samples, sample.at, key=lambda known: known.at)
    if samples[index].at != sample.at:
        samples.insert(index, sample)
    elif samples[index] == sample:
        return []
    else:
        samples[index] = sample
    all_ended = []
    for rule, track, limit in course.tracks(bounds):
        was, track.live, over = track.live, track.settled, None
        for known in samples:
            before, track.live = track.live, excursion.step(limit, track.live, known)
            if before.condition in GOING_ON and track.live.condition is Condition.OK:
                over = excursion.ended(before, known.at)
        if over and track.live.condition is Condition.OK and was.condition in GOING_ON:
            all_ended.append(Ended(rule, over))
    course.sensor.live = course.sensor.settled
    for known in samples:
        course.sensor.live = sensor.step(bounds.trust, course.sensor.live, known)
    return all_ended


def _settle(course: Course, tracks: Tracks, trust: Trust, horizon: Instant) -> None:
    samples = course.recent.samples
    while samples[0].at <= horizon:
        oldest = samples.pop(0)
        for _, track, limit in tracks:
            track.settled = excursion.step(limit, track.settled, oldest)
        course.sensor.settled = sensor.step(trust, course.sensor.settled, oldest)
