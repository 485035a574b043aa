from datetime import date
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import Centi
from core.runtime.instant import HOUR, MINUTE, Instant, Milliseconds, parse
from core.telemetry.port import Curve
from core.telemetry.window_figures import day_edges, exposures, figures, fixed_edges

START = parse("2026-03-28T00:00:00+08:00")
WARM, COLD = Centi(800), Centi(200)
SHANGHAI = ZoneInfo("Asia/Shanghai")


def curve(*readings: tuple[float, float | None]) -> Curve:
    """Readings as (minute, °C)."""
    return Curve(
        np.array([START + round(minute * MINUTE) for minute, _ in readings], np.int64),
        np.array([np.nan if value is None else round(value * 100) for _, value in readings], np.float64),
        np.zeros(len(readings), np.uint16),
    )


def edges(*minutes: float) -> list[Instant]:
    return [Instant(START + round(minute * MINUTE)) for minute in minutes]


def exposed(readings: Curve, interval: float, *bounds: float) -> list[tuple[float, float, float]]:
    """Minutes above, below and untold, a window each."""
    found = exposures(readings, edges(*bounds), Milliseconds(round(interval * MINUTE)), above=WARM, below=COLD)
    return [(each.above / MINUTE, each.below / MINUTE, each.gap / MINUTE) for each in found]


def test_figures_of_each_window() -> None:
    found = figures(curve((0, 4.0), (4, 6.0), (5, 9.0), (6, None), (17, -1.0)), edges(0, 5, 10, 15, 20))
    assert [(each.count, each.failed, each.min, each.max, each.mean) for each in found] == [
        (2, 0, 400, 600, 500.0),
        (1, 1, 900, 900, 900.0),
        (0, 0, None, None, None),
        (1, 0, -100, -100, -100.0),
    ]
    assert [(each.since, each.until) for each in found] == [
        (START + n * 5 * MINUTE, START + (n + 1) * 5 * MINUTE) for n in range(4)
    ]


def test_a_reading_belongs_to_the_window_that_begins_with_it() -> None:
    before, after = figures(curve((5, 4.0)), edges(0, 5, 10))
    assert (before.count, after.count) == (0, 1)


def test_an_empty_curve_has_no_figures_and_is_all_gap() -> None:
    (only,) = figures(curve(), edges(0, 5))
    assert (only.count, only.failed, only.min, only.max, only.mean) == (0, 0, None, None, None)
    assert exposed(curve(), 1, 0, 5) == [(0, 0, 5)]


def test_a_limit_itself_is_within() -> None:
    assert exposed(curve((0, 8.0), (1, 8.01), (2, 2.0), (3, 1.99)), 1, 0, 4) == [(1, 1, 0)]


def test_one_hot_reading_and_silence_is_one_interval_of_exposure() -> None:
    assert exposed(curve((0, 5.0), (5, 9.0)), 5, 0, 60) == [(5, 0, 50)]


def test_a_gap_between_two_hot_readings_is_no_exposure() -> None:
    assert exposed(curve((0, 26.3), (352, 27.5), (357, 5.0)), 5, 0, 362) == [(10, 0, 347)]


def test_a_failed_reading_holds_nothing_and_ends_what_was_before() -> None:
    assert exposed(curve((0, 9.0), (2, None), (5, 9.0)), 5, 0, 10) == [(7, 0, 3)]


def test_a_reading_holds_across_an_edge() -> None:
    assert exposed(curve((-2, 9.0), (3, 1.0)), 5, 0, 5, 10) == [(3, 2, 0), (0, 3, 2)]


def test_readings_closer_than_the_interval_hold_until_the_next() -> None:
    assert exposed(curve((0, 9.0), (1, 5.0), (2, 9.0)), 5, 0, 10) == [(6, 0, 3)]


def test_coverage_is_the_share_that_is_told_of() -> None:
    (window,) = exposures(curve((0, 5.0), (5, 5.0)), edges(0, 20), Milliseconds(5 * MINUTE))
    assert window.coverage == 0.5
    assert (window.above, window.below) == (0, 0)


def test_fixed_windows_end_with_what_is_left() -> None:
    assert fixed_edges(START, Instant(START + 150 * MINUTE), HOUR) == edges(0, 60, 120, 150)
    assert fixed_edges(START, Instant(START + 120 * MINUTE), HOUR) == edges(0, 60, 120)
    assert fixed_edges(START, START, HOUR) == [START]
    with pytest.raises(ValueError, match="no length"):
        fixed_edges(START, START, Milliseconds(0))


def test_days_are_the_sites_own_also_where_clocks_change() -> None:
    shanghai = day_edges(date(2026, 3, 28), date(2026, 3, 29), SHANGHAI)
    assert shanghai == edges(0, 1440, 2880)
    berlin = day_edges(date(2026, 3, 28), date(2026, 3, 30), ZoneInfo("Europe/Berlin"))
    assert [(after - before) // HOUR for before, after in pairwise(berlin)] == [24, 23, 24]


minutes = st.integers(-30, 150)
readings = st.dictionaries(minutes, st.none() | st.sampled_from([1.0, 2.0, 5.0, 8.0, 9.0]), max_size=60)


@given(readings, st.integers(1, 12), st.lists(minutes, min_size=2, max_size=8, unique=True).map(sorted))
def test_exposure_is_what_counting_each_minute_gives(
    readings: dict[int, float | None], interval: int, bounds: list[int]
) -> None:
    """The oracle walks through every minute and asks which reading tells of it."""
    told: dict[int, float | None] = {}
    for minute in range(-30, 200):
        behind = [at for at in readings if at <= minute]
        if behind and minute - max(behind) < interval:
            told[minute] = readings[max(behind)]
    expected = []
    for since, until in pairwise(bounds):
        values = [told.get(minute) for minute in range(since, until)]
        known = [value for value in values if value is not None]
        expected.append((sum(v > 8 for v in known), sum(v < 2 for v in known), len(values) - len(known)))
    assert exposed(curve(*sorted(readings.items())), interval, *bounds) == expected


@given(readings, st.lists(minutes, min_size=2, max_size=8, unique=True).map(sorted))
def test_figures_are_what_plain_counting_gives(readings: dict[int, float | None], bounds: list[int]) -> None:
    found = figures(curve(*sorted(readings.items())), edges(*bounds))
    for each, since, until in zip(found, bounds, bounds[1:], strict=False):
        inside = [value for at, value in readings.items() if since <= at < until]
        known = [round(value * 100) for value in inside if value is not None]
        assert (each.count, each.failed) == (len(known), len(inside) - len(known))
        assert (each.min, each.max) == ((min(known), max(known)) if known else (None, None))
        assert each.mean == (pytest.approx(sum(known) / len(known)) if known else None)
    assert len(found) == len(bounds) - 1
