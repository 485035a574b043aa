"""The days of a site, remembered, against every instant turned into its day by itself."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.runtime.instant import DAY, HOUR, Instant, LocalDays, local_day, parse

ZONES = [
    "Asia/Shanghai",
    "UTC",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Pacific/Apia",
]
"""Among them: half hours, midnights that don't exist, days that begin twice, and a day that was left out."""


@given(
    st.sampled_from(ZONES),
    st.integers(0, 4_000_000_000_000),
    st.lists(st.integers(-3 * DAY, 3 * DAY), min_size=1, max_size=40),
)
def test_a_day_is_the_same_whatever_was_asked_before(zone: str, near: int, asked: list[int]) -> None:
    days = LocalDays(ZoneInfo(zone))
    for offset in asked:
        assert days.of(Instant(near + offset)) == local_day(Instant(near + offset), ZoneInfo(zone))


@pytest.mark.long
@pytest.mark.parametrize("zone", ZONES)
def test_where_clocks_change_each_quarter_of_an_hour_is_of_its_day(zone: str) -> None:
    """2010 and 2011: St. John's went back from 00:01 to 23:01, so a day began twice; Apia had no 30 December."""
    days = LocalDays(ZoneInfo(zone))
    first = parse("2010-01-01T00:00:00Z")
    for at in range(first, first + 740 * DAY, HOUR // 4):
        for near in (at - 1, at, at + 30_000):
            assert days.of(Instant(near)) == local_day(Instant(near), ZoneInfo(zone))
