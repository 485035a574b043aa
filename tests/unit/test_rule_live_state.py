"""Live state of one probe: readings within the watermark in any order, and what late ones have shown joined to it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import Centi, ZoneId
from core.limits import rule_profile
from core.limits.rule_profile import ZoneOverrides
from core.rules import live_state
from core.rules.excursion import CALM, Excursion
from core.rules.live_state import WATERMARK, Bounds, EndedExcursion, LimitState, LiveState, RecentReadings, SensorState
from core.rules.rule_types import Condition, Rule, Sample
from core.runtime.instant import MINUTE, SECOND, Instant, Milliseconds, parse

NOON = parse("2026-03-28T12:00:00+08:00")
ZONE = ZoneId(7)
BOUNDS = rule_profile.bounds(rule_profile.load("china-2017"), "refrigerated", MINUTE, ZoneOverrides())


def sample(minute: float, t: float | None, q: int = 0) -> Sample:
    return Sample(Instant(NOON + int(minute * MINUTE)), None if t is None else Centi(round(t * 100)), q)


def feed(state: LiveState, *samples: Sample, bounds: Bounds = BOUNDS) -> list[EndedExcursion]:
    """Take readings that aren't late."""
    return [ended for one in samples for ended in live_state.take(state, bounds, one)]


def curve(since: int, until: int, t: float) -> list[Sample]:
    return [sample(minute, t) for minute in range(since, until)]


def states(state: LiveState) -> tuple[object, ...]:
    return (state.above.live, state.below.live, state.sensor.live)


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
    in_order, shuffled = live_state.begin(ZONE), live_state.begin(ZONE)
    for one in ordered:
        live_state.take(in_order, quick, one)
    # Each is kept back by less than the watermark, so none comes too late.
    delays = {one.at: random.randrange(WATERMARK - 1) for one in ordered}  # type: ignore[attr-defined]
    for one in sorted(ordered, key=lambda one: one.at + delays[one.at]):
        assert not live_state.is_late(shuffled, one.at)
        live_state.take(shuffled, quick, one)
        if restart:
            shuffled = reborn(shuffled)
    assert states(shuffled) == states(in_order)
    assert shuffled.recent.samples == in_order.recent.samples


def reborn(state: LiveState) -> LiveState:
    """Return the state as another worker would read it."""
    pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
    return LiveState(
        unpack(pack(state.recent), type=RecentReadings),
        unpack(pack(state.above), type=LimitState),
        unpack(pack(state.below), type=LimitState),
        unpack(pack(state.sensor), type=SensorState),
    )


def test_a_b_a_of_one_instant_the_later_to_come_stands_and_duplicates_change_nothing() -> None:
    state = live_state.begin(ZONE)
    feed(state, *curve(0, 10, 9.0), sample(10, 9.0))
    assert state.above.live.condition is Condition.ACTIVE
    before = states(state)
    feed(state, sample(10, 9.0), sample(9, 9.0), sample(10, 9.0))
    assert states(state) == before
    feed(state, sample(10, 5.0))
    assert state.above.live.condition is Condition.OK
    feed(state, sample(10, 9.0))
    assert state.above.live.condition is Condition.ACTIVE


def test_a_reading_that_comes_between_takes_an_opening_back() -> None:
    state = live_state.begin(ZONE)
    feed(state, *curve(0, 9, 9.0), sample(10, 9.0))
    assert state.above.live.condition is Condition.ACTIVE
    assert feed(state, sample(9, 5.0)) == []
    assert state.above.live.condition is Condition.PENDING


def test_what_a_reading_ends_is_told_with_its_times() -> None:
    state = live_state.begin(ZONE)
    assert feed(state, *curve(0, 5, 5.0), *curve(5, 25, 9.5), *curve(25, 30, 5.0)) == []
    (ended,) = feed(state, sample(30, 5.0))
    assert (ended.rule, ended.episode.onset, ended.episode.ended) == (
        Rule.ABOVE,
        NOON + 5 * MINUTE,
        NOON + 25 * MINUTE,
    )


@pytest.mark.req("AL-14")
def test_an_excursion_before_the_watermark_goes_on_only_where_the_live_state_is_beyond_the_limit() -> None:
    before = Excursion(Condition.ACTIVE, Instant(NOON - 60 * MINUTE), Centi(950))
    calm, warm = live_state.begin(ZONE), live_state.begin(ZONE)
    feed(calm, sample(0, 5.0))
    feed(warm, sample(0, 9.0), sample(1, 9.0))
    limit = BOUNDS.above
    assert limit
    assert not live_state.join(calm.above, limit, calm.recent.samples, before)
    assert calm.above.live == CALM
    assert warm.above.live.condition is Condition.PENDING
    assert live_state.join(warm.above, limit, warm.recent.samples, before)
    assert (warm.above.live.condition, warm.above.live.onset) == (Condition.ACTIVE, before.onset)
    feed(warm, sample(2, 9.0), sample(3, 9.0))
    assert warm.above.live.onset == before.onset


def test_what_late_readings_show_never_ends_nor_shortens_what_is_live() -> None:
    state = live_state.begin(ZONE)
    feed(state, *curve(0, 20, 9.0))
    before = states(state)
    limit = BOUNDS.above
    assert limit
    for late in (CALM, Excursion(Condition.PENDING, Instant(NOON + 15 * MINUTE), Centi(900), 2, NOON)):
        assert not live_state.join(state.above, limit, state.recent.samples, late)
    assert states(state) == before
