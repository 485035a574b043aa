"""The limit rule alone: delay, gaps, hysteresis, and an oracle that looks at all samples at once."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import Centi
from core.limits import rule_profile
from core.limits.rule_profile import ZoneOverrides
from core.rules.excursion import CALM, Excursion, Limit, ended, step
from core.rules.rule_types import Condition, Sample
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds, parse

NOON = parse("2026-03-28T12:00:00+08:00")
OK, PENDING, ACTIVE, CLEARING = Condition


def limit(
    kind: str = "refrigerated", side: str = "above", *, interval: int = MINUTE, name: str = "china-2017"
) -> Limit:
    found = getattr(rule_profile.bounds(rule_profile.load(name), kind, Milliseconds(interval), ZoneOverrides()), side)
    assert isinstance(found, Limit)
    return found


def after(minutes: float) -> Instant:
    return Instant(NOON + int(minutes * MINUTE))


def run(rule: Limit, *samples: tuple[float, float | None], start: Excursion = CALM) -> Excursion:
    state = start
    for minutes, t in samples:
        state = step(rule, state, Sample(after(minutes), None if t is None else Centi(round(t * 100)), 0 if t else 4))
    return state


def warm(until: int, t: float = 9.0) -> list[tuple[float, float | None]]:
    return [(minute, t) for minute in range(until + 1)]


@pytest.mark.req("AL-13", "CC-01")
@pytest.mark.parametrize(
    ("kind", "side", "inside", "outside", "minutes"),
    [
        ("refrigerated", "above", 8.0, 8.1, 10),
        ("refrigerated", "above", 8.0, 8.01, 10),
        ("refrigerated", "below", 2.0, 1.9, 10),
        ("frozen", "above", -15.0, -14.9, 30),
        ("ultra_low", "above", -60.0, -59.9, 30),
        ("room", "below", 10.0, 9.9, 30),
    ],
)
def test_limits_are_strict_and_take_their_delay(
    kind: str, side: str, inside: float, outside: float, minutes: int
) -> None:
    rule = limit(kind, side)
    assert run(rule, *warm(120, inside)) == CALM
    assert run(rule, *warm(minutes - 1, outside)).condition is PENDING
    state = run(rule, *warm(minutes, outside))
    assert (state.condition, state.onset) == (ACTIVE, NOON)


@pytest.mark.parametrize(("t", "minutes", "condition"), [(8.1, 599, PENDING), (8.1, 600, ACTIVE), (8.0, 700, OK)])
def test_who_waits_ten_hours_above_8(t: float, minutes: int, condition: Condition) -> None:
    assert run(limit(name="who-pqs"), *warm(minutes, t)).condition is condition


@pytest.mark.parametrize(("t", "condition"), [(-0.4, OK), (-0.49, OK), (-0.5, ACTIVE), (-0.51, ACTIVE)])
def test_who_takes_minus_half_a_degree_itself_as_too_cold(t: float, condition: Condition) -> None:
    assert run(limit(side="below", name="who-pqs"), *warm(60, t)).condition is condition


def test_two_readings_at_least_and_one_where_the_cadence_is_longer_than_the_delay() -> None:
    assert run(limit(interval=10 * MINUTE), (0, 9.0)).condition is PENDING
    assert run(limit(interval=10 * MINUTE), (0, 9.0), (10, 9.0)).condition is ACTIVE
    assert run(limit(interval=30 * MINUTE), (0, 9.0)).condition is ACTIVE


def test_a_gap_is_never_exposure() -> None:
    assert run(limit(), (0, 9.0), (3, 9.0), (6, 9.0), (9, 9.0), (12, 9.0)).condition is ACTIVE
    state = run(limit(), (0, 9.0), (3.1, 9.0), (12, 9.0))
    assert (state.condition, state.onset) == (PENDING, after(12))


def test_a_failed_reading_neither_starts_nor_ends_nor_bridges() -> None:
    assert run(limit(), (0, None)) == CALM
    assert run(limit(), *warm(5), (6, None), (7, 9.0), (8, None), (9, 9.0), (10, 9.0)).condition is ACTIVE
    assert run(limit(), (0, 9.0), (2, None), (4, None), (6, 9.0), (10, None)).onset == after(6)
    active = run(limit(), *warm(10))
    assert run(limit(), (11, None), (40, None), start=active) == active


def test_one_reading_inside_ends_what_was_pending() -> None:
    assert run(limit(), *warm(9), (10, 8.0)) == CALM
    oscillation = [(minute, 8.0 if minute % 2 else 8.1) for minute in range(240)]
    assert run(limit(), *oscillation).condition in (OK, PENDING)


def test_inside_by_the_hysteresis_clears_in_5_minutes() -> None:
    active = run(limit(), *warm(10))
    assert run(limit(), *((11 + n, 7.5) for n in range(5)), start=active).condition is CLEARING
    assert run(limit(), *((11 + n, 7.5) for n in range(6)), start=active) == CALM


def test_inside_at_all_clears_in_30_minutes() -> None:
    active = run(limit(), *warm(10))
    assert run(limit(), *((11 + n, 7.6) for n in range(30)), start=active).condition is CLEARING
    assert run(limit(), *((11 + n, 7.6) for n in range(31)), start=active) == CALM


def test_a_gap_proves_no_recovery() -> None:
    active = run(limit(), *warm(10))
    state = run(limit(), (11, 5.0), (60, 5.0), start=active)
    assert (state.condition, state.inside, state.well) == (CLEARING, after(60), after(60))


def test_clearing_turns_back_at_once_with_its_first_onset_and_its_peak() -> None:
    active = run(limit(), *warm(9), (10, 11.0))
    state = run(limit(), (11, 7.9), (12, 8.2), start=active)
    assert state == Excursion(ACTIVE, NOON, Centi(1100))


def test_it_was_over_when_it_came_inside() -> None:
    clearing = run(limit(), *warm(10), *((11 + n, 7.0) for n in range(5)))
    over = ended(clearing, after(16))
    assert (over.onset, over.ended, over.peak) == (NOON, after(11), 900)


def test_a_stale_reading_says_nothing() -> None:
    state = step(limit(interval=30 * MINUTE), CALM, Sample(NOON, Centi(2000), 16))
    assert state == CALM


@pytest.mark.parametrize(
    "moment", ["2028-02-29T00:00:00+08:00", "2026-03-28T23:55:00+08:00", "2026-10-25T02:55:00+02:00"]
)
def test_midnight_leap_day_and_change_of_clocks_are_minutes_like_others(moment: str) -> None:
    start = parse(moment)
    state = CALM
    for minute in range(11):
        state = step(limit(), state, Sample(Instant(start + minute * MINUTE), Centi(900), 0))
        assert (state.condition is ACTIVE) == (minute == 10)


@dataclass
class _Oracle:
    """Says the same from the whole list, in other words: what a person would read off the printed curve."""

    rule: Limit

    def condition(self, samples: list[tuple[Instant, int]]) -> Condition:
        state, since = OK, 0
        for index, (at, t) in enumerate(samples):
            beyond = self.rule.exceeded_by(Centi(t))
            if state in (OK, PENDING):
                stretch = self._beyond_up_to(samples, index, since)
                lasted = at - stretch[0][0] if stretch else 0
                state = ACTIVE if len(stretch) > 1 and lasted >= self.rule.delay else PENDING if beyond else OK
            elif beyond:
                state = ACTIVE
            else:
                state = CLEARING
                inside = self._run_up_to(samples, index, lambda t: not self.rule.exceeded_by(Centi(t)))
                well = self._run_up_to(samples, index, lambda t: self.rule.cleared_by(Centi(t)))
                if at - inside[0][0] >= self.rule.inside or (well and at - well[0][0] >= self.rule.well_inside):
                    state, since = OK, index + 1
        return state

    def _beyond_up_to(self, samples: list[tuple[Instant, int]], index: int, since: int) -> list[tuple[Instant, int]]:
        found = self._run_up_to(samples, index, lambda t: self.rule.exceeded_by(Centi(t)))
        return [sample for sample in found if sample in samples[since:]]

    def _run_up_to(self, samples, index, fits) -> list[tuple[Instant, int]]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        first = index + 1
        while first > 0 and fits(samples[first - 1][1]):
            if first <= index and samples[first][0] - samples[first - 1][0] > self.rule.gap:
                break
            first -= 1
        return samples[first : index + 1]


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([500, 740, 750, 760, 800, 801, 900])), max_size=60))
def test_it_agrees_with_an_oracle_that_sees_the_whole_curve(steps: list[tuple[int, int]]) -> None:
    rule, state, at = limit(), CALM, NOON
    samples: list[tuple[Instant, int]] = []
    for minutes, t in steps:
        at = Instant(at + minutes * MINUTE)
        samples.append((at, t))
        state = step(rule, state, Sample(at, Centi(t), 0))
        assert state.condition is _Oracle(rule).condition(samples)


def test_a_calm_probe_is_remembered_in_nothing() -> None:
    state = CALM
    for minute in range(3 * DAY // MINUTE):
        state = step(limit(), state, Sample(after(minute), Centi(500 + minute % 7), 0))
    assert state is CALM
