"""One probe's readings in whatever order they come: the watermark, the replay of late ones, the joining of both."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.alarms import profile
from core.alarms.profile import Differences
from core.alarms.rules import course as courses
from core.alarms.rules.course import WATERMARK, Bounds, Course, Past, Recent, SensorTrack, Track
from core.alarms.rules.sample import Condition, Rule, Sample
from core.ids import Centi, ZoneId
from core.runtime.instant import MINUTE, SECOND, Instant, Milliseconds, parse

NOON = parse("2026-03-28T12:00:00+08:00")
ZONE = ZoneId(7)
BOUNDS = profile.bounds(profile.load("china-2017"), "refrigerated", MINUTE, Differences())


def sample(minute: float, t: float | None, q: int = 0) -> Sample:
    return Sample(Instant(NOON + int(minute * MINUTE)), None if t is None else Centi(round(t * 100)), q)


def feed(course: Course, *samples: Sample, bounds: Bounds = BOUNDS, pages: bool = True) -> list[Past]:
    """Take a chunk as the follower does."""
    past: list[Past] = []
    for one in samples:
        if courses.is_late(course, one.at) or not pages:
            past += courses.take_late(course, bounds, ZONE, one, pages=pages)
        else:
            past += courses.take(course, bounds, one)
    return past + courses.conclude(course, bounds)


def curve(since: int, until: int, t: float) -> list[Sample]:
    return [sample(minute, t) for minute in range(since, until)]


def states(course: Course) -> tuple[object, ...]:
    return (course.above.live, course.below.live, course.sensor.live)


_readings = st.lists(
    st.tuples(st.integers(5, 90), st.sampled_from([None, 150, 500, 750, 801, 900]), st.sampled_from([0, 0, 0, 1, 4])),
    min_size=1,
    max_size=50,
)


@given(_readings, st.randoms(use_true_random=False), st.booleans())
def test_out_of_order_within_the_watermark_is_as_if_sorted(
    steps: list[tuple[int, int | None, int]],
    random: object,
    restart: bool,  # noqa: FBT001
) -> None:
    quick = msgspec.structs.replace(
        BOUNDS,
        above=msgspec.structs.replace(BOUNDS.above, delay=Milliseconds(2 * MINUTE), well_inside=MINUTE),
        below=msgspec.structs.replace(BOUNDS.below, delay=MINUTE, inside=Milliseconds(2 * MINUTE)),
    )
    at, ordered = NOON, []
    for seconds, value, q in steps:
        at = Instant(at + seconds * SECOND)
        ordered.append(Sample(at, None if q or value is None else Centi(value), q or (4 if value is None else 0)))
    in_order, shuffled = courses.begin(ZONE), courses.begin(ZONE)
    for one in ordered:
        courses.take(in_order, quick, one)
    # Each is kept back by less than the watermark, so none comes too late.
    delays = {one.at: random.randrange(WATERMARK - 1) for one in ordered}  # type: ignore[attr-defined]
    for one in sorted(ordered, key=lambda one: one.at + delays[one.at]):
        assert not courses.is_late(shuffled, one.at)
        courses.take(shuffled, quick, one)
        if restart:
            shuffled = reborn(shuffled)
    assert states(shuffled) == states(in_order)
    assert shuffled.recent.samples == in_order.recent.samples


def reborn(course: Course) -> Course:
    """Return the course as another worker would read it."""
    pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
    return Course(
        unpack(pack(course.recent), type=Recent),
        unpack(pack(course.above), type=Track),
        unpack(pack(course.below), type=Track),
        unpack(pack(course.sensor), type=SensorTrack),
    )


def test_a_b_a_of_one_instant_the_later_to_come_stands_and_duplicates_change_nothing() -> None:
    course = courses.begin(ZONE)
    feed(course, *curve(0, 10, 9.0), sample(10, 9.0))
    assert course.above.live.condition is Condition.ACTIVE
    before = states(course)
    feed(course, sample(10, 9.0), sample(9, 9.0), sample(10, 9.0))
    assert states(course) == before
    feed(course, sample(10, 5.0))
    assert course.above.live.condition is Condition.OK
    feed(course, sample(10, 9.0))
    assert course.above.live.condition is Condition.ACTIVE


def test_a_reading_that_comes_between_takes_an_opening_back() -> None:
    course = courses.begin(ZONE)
    feed(course, *curve(0, 9, 9.0), sample(10, 9.0))
    assert course.above.live.condition is Condition.ACTIVE
    assert feed(course, sample(9, 5.0)) == []
    assert course.above.live.condition is Condition.PENDING


@pytest.mark.req("AL-14")
def test_three_hours_of_backlog_that_have_recovered_are_an_episode_of_the_past() -> None:
    course = courses.begin(ZONE)
    feed(course, *curve(0, 10, 5.0))
    feed(course, sample(190, 5.0))
    past = feed(course, *curve(10, 60, 5.0), *curve(60, 120, 9.5), *curve(120, 190, 5.0))
    assert [(p.rule, p.episode.onset, p.episode.ended, p.episode.peak) for p in past] == [
        (Rule.ABOVE, NOON + 60 * MINUTE, NOON + 120 * MINUTE, 950)
    ]
    assert course.above.live.condition is Condition.OK


@pytest.mark.req("AL-14")
def test_backlog_that_is_still_abnormal_is_one_excursion_with_its_true_onset() -> None:
    course = courses.begin(ZONE)
    feed(course, *curve(0, 10, 5.0))
    feed(course, sample(190, 9.0), sample(191, 9.0))
    assert course.above.live.condition is Condition.PENDING
    assert feed(course, *curve(10, 60, 5.0), *curve(60, 100, 9.5)) == []
    assert course.above.live.condition is Condition.PENDING
    course = reborn(course)
    assert feed(course, *curve(100, 190, 9.5)) == []
    live = course.above.live
    assert (live.condition, live.onset, live.peak) == (Condition.ACTIVE, NOON + 60 * MINUTE, 950)
    feed(course, sample(192, 9.0))
    assert course.above.live.onset == NOON + 60 * MINUTE


@pytest.mark.req("AL-14")
def test_one_old_bad_reading_and_then_good_ones_are_nothing() -> None:
    course = courses.begin(ZONE)
    feed(course, *curve(0, 10, 5.0), sample(30, 5.0))
    assert feed(course, sample(15, 9.9), sample(16, 5.0)) == []
    assert states(course)[0] == courses.begin(ZONE).above.live


def test_backlog_that_ends_abnormal_before_good_live_readings_is_of_the_past_and_grows() -> None:
    course = courses.begin(ZONE)
    feed(course, sample(0, 5.0))
    feed(course, *curve(200, 210, 5.0))
    (first,) = feed(course, *curve(60, 100, 9.5))
    assert (first.episode.ended, first.episode.last) == (None, NOON + 99 * MINUTE)
    assert feed(course, sample(210, 5.0)) == []
    (second,) = feed(course, *curve(100, 120, 9.6))
    assert (second.episode.onset, second.episode.last) == (first.episode.onset, NOON + 119 * MINUTE)
    (last,) = feed(course, *curve(120, 130, 5.0))
    assert (last.episode.onset, last.episode.ended) == (first.episode.onset, NOON + 120 * MINUTE)


def test_a_replay_goes_on_from_what_was_known_before_the_gap() -> None:
    course = courses.begin(ZONE)
    feed(course, *curve(0, 8, 9.0))
    feed(course, sample(60, 5.0))
    (past,) = feed(course, *curve(8, 20, 9.0), *curve(20, 30, 5.0))
    assert (past.episode.onset, past.episode.ended) == (NOON, NOON + 20 * MINUTE)


@pytest.mark.req("AL-14")
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("between", "again"), [(24, 29), (24, 40), (27, 44), (30, 36), (30, 58), (37, 43), (43, 49)])
def test_a_reading_that_gets_through_between_two_outages_hides_nothing(
    between: int,
    again: int,
    at_once: bool,  # noqa: FBT001
) -> None:
    course, past = courses.begin(ZONE), []
    warm = {minute: 9.0 if 20 <= minute < 45 else 5.0 for minute in range(90)}
    live = [*range(20), between, again]
    came = [*live, *(minute for minute in range(again) if minute not in live), *range(again + 1, 90)]
    for chunk in [came] if at_once else [[minute] for minute in came]:
        past += feed(course, *(sample(minute, warm[minute]) for minute in chunk))
    found = [one.episode for one in past if one.rule is Rule.ABOVE]
    # What is told in parts overlaps, and so becomes one alarm.
    found.sort(key=lambda one: one.onset)
    assert found[0].onset == NOON + 20 * MINUTE
    assert all(following.onset <= one.last for one, following in pairwise(found))
    assert max(one.last for one in found) >= NOON + 43 * MINUTE


def test_what_is_beyond_before_and_behind_a_gap_for_less_than_the_delay_each_is_one_excursion() -> None:
    course = courses.begin(ZONE)
    feed(course, *curve(0, 10, 5.0), *curve(18, 24, 9.0), *curve(24, 40, 5.0))
    (past,) = feed(course, *curve(10, 18, 9.0))
    assert (past.episode.onset, past.episode.last) == (NOON + 10 * MINUTE, NOON + 23 * MINUTE)
    assert feed(course, *curve(40, 50, 5.0)) == []


def test_what_came_out_of_quarantine_never_becomes_the_live_state() -> None:
    course = courses.begin(ZONE)
    past = feed(course, *curve(0, 30, 9.0), pages=False)
    assert [p.episode.ended for p in past] == [None]
    assert course.above.live.condition is Condition.OK


def test_late_readings_never_rewind_what_is_live() -> None:
    course = courses.begin(ZONE)
    feed(course, *curve(0, 100, 9.0))
    before = states(course)
    feed(course, *curve(20, 60, 5.0))
    assert states(course) == before
