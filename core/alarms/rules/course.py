"""One probe's readings through its rules, in whatever order they come: pure functions that change what they are given.

A reading may come up to `WATERMARK` after a newer one; it is then put where it belongs, and the state is the same as
if all had come in order (a property test). So the state behind the watermark is kept as `settled`, and the live one is
that plus the few `recent` readings.

An older reading is *late*. Late ones are replayed in event order in a state of their own, begun from what was known
before the gap that they fill; the live state is never rewound. What the replay finds is told as episodes of the past,
unless it reaches the live readings while those are still beyond the limit: then it is one excursion, with the replay's
onset. Of several gaps each is remembered (`gaps`), and what fills them one after another is one excursion as well.

Live readings that are late because a device clock has jumped back are moved to their true time first (`skew`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from core.alarms.rules import excursion, gaps, sensor
from core.alarms.rules.excursion import CALM, Excursion, Limit
from core.alarms.rules.gaps import MOST, Gap, Shores
from core.alarms.rules.sample import GOING_ON, Condition, Episode, Rule, Sample
from core.alarms.rules.sensor import UNKNOWN, Sensor, Trust
from core.alarms.rules.skew import DeviceClock
from core.ids import Centi, ZoneId
from core.runtime.instant import MINUTE, Instant, Milliseconds

WATERMARK = Milliseconds(2 * MINUTE)
"""Readings of a probe that come later than this after a newer one are late."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe is held to in its zone. A zone may be without one of the limits."""

    above: Limit | None
    below: Limit | None
    trust: Trust
    gap: Milliseconds


class Track(msgspec.Struct, array_like=True):
    """One limit's memory of one probe."""

    settled: Excursion = CALM
    """From all readings behind the watermark."""
    live: Excursion = CALM
    """From those and the recent ones."""
    late: Excursion = CALM
    """The replay."""
    told: Instant = Instant(0)
    """The replay's newest reading when its unfinished episode was last told."""


class SensorTrack(msgspec.Struct, array_like=True):
    """The sensor rule's memory of one probe. Late readings don't matter to it."""

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
    gaps: list[Gap] = []
    """The last ones, in event order."""
    late_zone: ZoneId | None = None
    late_at: Instant = Instant(0)
    """The newest late reading."""
    late_pages: bool = True
    """False when the replay has readings that were released from quarantine: those never page."""
    clock: DeviceClock = DeviceClock()


class Past(msgspec.Struct, frozen=True):
    """An excursion that was found in readings of the past, in the zone where the probe was then."""

    zone: ZoneId
    rule: Rule
    limit: Centi
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


def take(course: Course, bounds: Bounds, sample: Sample) -> list[Past]:
    """Take a reading that isn't late into the live state; return what it ended."""
    recent = course.recent
    if recent.samples and sample.at <= recent.samples[-1].at:
        return _insert(course, bounds, sample)
    newest = course.newest
    broken = bool(recent.samples) and sample.at - newest > max(bounds.gap, WATERMARK)
    if broken:
        shores = Shores(course.above.live), Shores(course.below.live)
        recent.gaps = [*recent.gaps[1 - MOST :], Gap(newest, sample.at, *shores)]
    past = []
    for track, gone in ((course.above, bounds.above is None), (course.below, bounds.below is None)):
        if gone and track.live.condition is not Condition.OK:
            # Nothing could ever end what a limit found that the zone is no longer held to.
            track.settled = track.live = track.late = CALM
            recent.gaps = []
    tracks = course.tracks(bounds)
    for rule, track, limit in tracks:
        was = track.live
        track.live = excursion.step(limit, was, sample)
        if recent.gaps:
            gaps.note(_shores(recent.gaps[-1], rule), limit, sample)
        if was.condition in GOING_ON and track.live.condition is Condition.OK:
            past.append(_past(recent, rule, limit, excursion.ended(was, sample.at)))
    course.sensor.live = sensor.step(bounds.trust, course.sensor.live, sample)
    recent.samples.append(sample)
    _settle(course, tracks, bounds.trust, Instant(sample.at - WATERMARK))
    return past


def take_late(course: Course, bounds: Bounds, zone: ZoneId, sample: Sample, *, pages: bool) -> list[Past]:
    """Take a late reading, of a probe that was in `zone` then, into the replay; return what it ended."""
    recent = course.recent
    place = _gap_at(recent, sample.at)
    gap = recent.gaps[place] if place is not None else None
    filled = _gap_at(recent, recent.late_at)
    leaves = filled is not None and sample.at > recent.gaps[filled].until
    past = conclude(course, bounds) if leaves else []
    if (
        recent.late_zone != zone
        or sample.at < recent.late_at - WATERMARK
        or (gap is not None and recent.late_at <= gap.since)
    ):
        past += _begin_replay(course, bounds, zone, gap if recent.zone == zone else None)
    elif sample.at <= recent.late_at:
        return []
    recent.late_at = sample.at
    recent.late_pages = recent.late_pages and pages
    for rule, track, limit in course.tracks(bounds):
        was = track.late
        track.late = excursion.step(limit, was, sample)
        if was.condition in GOING_ON and track.late.condition is Condition.OK:
            past.append(Past(zone, rule, limit.value, excursion.ended(was, sample.at)))
    return past


def conclude(course: Course, bounds: Bounds) -> list[Past]:
    """Say what the replay has come to, after a chunk of readings.

    Joins it to what lies behind the gap where both are one excursion. Tells of one that isn't known to be over, unless
    the readings are beyond the limit since the gap until now: then what is between is still to come.
    """
    recent = course.recent
    past = []
    place = _gap_at(recent, recent.late_at)
    ours = recent.late_zone == recent.zone and recent.late_pages
    for rule, track, limit in course.tracks(bounds):
        if recent.late_zone is None or track.late.condition is Condition.OK:
            continue
        late, last = track.late, recent.late_at
        goes_on = place is not None and ours and _goes_on(recent, rule, track, place)
        if place is not None and ours and recent.gaps[place].until - recent.late_at <= bounds.gap:
            shores = _shores(recent.gaps[place], rule)
            if goes_on and place == len(recent.gaps) - 1:
                _join(track, limit, recent.samples)
                continue
            track.late = late = gaps.across(shores, limit, late)
            last = max(last, shores.beyond)
            _carry(recent, rule, place, late)
        unfinished = excursion.episode(late, last)
        if unfinished and not goes_on and track.told != last:
            track.told = last
            past.append(Past(recent.late_zone, rule, limit.value, unfinished))
    return past


def _shores(gap: Gap, rule: Rule) -> Shores:
    return gap.above if rule is Rule.ABOVE else gap.below


def _gap_at(recent: Recent, at: Instant) -> int | None:
    """Return the place of the gap in which an instant lies."""
    return next((place for place, gap in enumerate(recent.gaps) if gap.since < at < gap.until), None)


def _goes_on(recent: Recent, rule: Rule, track: Track, place: int) -> bool:
    """Whether the readings behind a gap are beyond the limit until now, but for later gaps."""
    for gap, following in pairwise(recent.gaps[place:]):
        if _shores(gap, rule).beyond != following.since:
            return False
    return track.live.condition is not Condition.OK and track.live.onset <= recent.gaps[-1].until


def _carry(recent: Recent, rule: Rule, place: int, late: Excursion) -> None:
    """Let the replay of the next gap begin with what this one has found, where it reaches up to there."""
    if place + 1 == len(recent.gaps) or _shores(recent.gaps[place], rule).beyond != recent.gaps[place + 1].since:
        return
    ahead = _shores(recent.gaps[place + 1], rule)
    if ahead.before.condition is not Condition.OK and ahead.before.onset > late.onset:
        ahead.before = late


def _insert(course: Course, bounds: Bounds, sample: Sample) -> list[Past]:
    """Put a reading between the recent ones; of two of one instant the later to come stands."""
    samples = course.recent.samples
    index = bisect_left(samples, sample.at, key=lambda known: known.at)
    if samples[index].at != sample.at:
        samples.insert(index, sample)
    elif samples[index] == sample:
        return []
    else:
        samples[index] = sample
    past = []
    for rule, track, limit in course.tracks(bounds):
        was, track.live, over = track.live, track.settled, None
        for known in samples:
            before, track.live = track.live, excursion.step(limit, track.live, known)
            if before.condition in GOING_ON and track.live.condition is Condition.OK:
                over = excursion.ended(before, known.at)
        if over and track.live.condition is Condition.OK and was.condition in GOING_ON:
            past.append(_past(course.recent, rule, limit, over))
    course.sensor.live = course.sensor.settled
    for known in samples:
        course.sensor.live = sensor.step(bounds.trust, course.sensor.live, known)
    return past


def _settle(course: Course, tracks: Tracks, trust: Trust, horizon: Instant) -> None:
    samples = course.recent.samples
    while samples[0].at <= horizon:
        oldest = samples.pop(0)
        for _, track, limit in tracks:
            track.settled = excursion.step(limit, track.settled, oldest)
        course.sensor.settled = sensor.step(trust, course.sensor.settled, oldest)


def _begin_replay(course: Course, bounds: Bounds, zone: ZoneId, gap: Gap | None) -> list[Past]:
    """Begin another replay; what the last one left unfinished is told as it stands."""
    recent = course.recent
    past = []
    for rule, track, limit in course.tracks(bounds):
        begun = CALM if gap is None else _shores(gap, rule).before
        unfinished = excursion.episode(track.late, recent.late_at)
        if (
            unfinished
            and recent.late_zone is not None
            and begun.onset != track.late.onset
            and track.told != recent.late_at
        ):
            past.append(Past(recent.late_zone, rule, limit.value, unfinished))
        track.late = begun
    recent.late_zone, recent.late_pages = zone, True
    return past


def _join(track: Track, limit: Limit, samples: list[Sample]) -> None:
    track.live = track.settled = gaps.joined(track.late, track.settled, limit)
    for known in samples:
        track.live = excursion.step(limit, track.live, known)
    track.late = CALM


def _past(recent: Recent, rule: Rule, limit: Limit, over: Episode) -> Past:
    if recent.zone is None:
        msg = "a probe in no zone has no limits to leave"
        raise ValueError(msg)
    return Past(recent.zone, rule, limit.value, over)
