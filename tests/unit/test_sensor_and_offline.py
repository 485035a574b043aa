"""Rules for a probe that can't be believed, and for one that has gone offline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import Centi
from core.rules import offline
from core.rules.bad_sensor import UNKNOWN, Sensor, SensorTrust, step
from core.rules.offline import OfflineLimit
from core.rules.rule_types import Condition, Sample
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds, parse

NOON = parse("2026-03-28T12:00:00+08:00")
TRUST = SensorTrust(good=3, stuck=DAY, gap=Milliseconds(3 * MINUTE))
OFFLINE_LIMIT = OfflineLimit(intervals=3, at_least=Milliseconds(15 * MINUTE))


def run(*samples: tuple[int, int | None, int], start: Sensor = UNKNOWN) -> Sensor:
    state = start
    for minute, value, q in samples:
        known = None if value is None else Centi(value)
        state = step(TRUST, state, Sample(Instant(NOON + minute * MINUTE), known, q))
    return state


@pytest.mark.parametrize("q", [1, 2, 1 | 32, 2 | 64])
def test_open_short_and_impossible_values_fire_at_once(q: int) -> None:
    state = run((0, 500, 0), (1, None, q))
    assert (state.condition, state.onset) == (Condition.ACTIVE, NOON + MINUTE)


@pytest.mark.parametrize("q", [4, 8, 12])
def test_time_outs_say_nothing_of_the_sensor(q: int) -> None:
    assert run((0, None, q)) == UNKNOWN
    bad = run((0, None, 1))
    assert run((1, None, q), start=bad) == bad


def test_three_good_readings_in_a_row_end_it() -> None:
    bad = run((0, None, 1))
    assert run((1, 500, 0), (2, 501, 0), start=bad).condition is Condition.CLEARING
    assert run((1, 500, 0), (2, 501, 0), (3, 502, 0), start=bad).condition is Condition.OK
    again = run((1, 500, 0), (2, 501, 0), (3, None, 1), (4, 502, 0), (5, 503, 0), start=bad)
    assert (again.condition, again.onset) == (Condition.CLEARING, NOON)


def test_the_same_value_for_a_day_is_stuck_and_another_one_mends_it() -> None:
    day = DAY // MINUTE
    state = run(*((minute, 500, 0) for minute in range(day)))
    assert state.condition is Condition.OK
    state = run((day, 500, 0), start=state)
    assert (state.condition, state.onset) == (Condition.ACTIVE, NOON)
    state = run((day + 1, 510, 0), (day + 2, 511, 0), (day + 3, 512, 0), start=state)
    assert state.condition is Condition.OK


def test_a_gap_proves_nothing_stuck() -> None:
    assert run((0, 500, 0), (2000, 500, 0)).condition is Condition.OK


@given(heard=st.integers(0, 2**41), interval=st.integers(1000, 7_200_000), later=st.integers(0, 4 * 7_200_000))
def test_a_page_and_an_alarm_call_a_probe_offline_from_the_same_instant(heard: int, interval: int, later: int) -> None:
    now, every = Instant(heard + later), Milliseconds(interval)
    is_due = offline.due(Instant(heard), every, OFFLINE_LIMIT) <= now
    assert is_due == (heard <= offline.heard_after(now, every, OFFLINE_LIMIT))


@pytest.mark.parametrize(("interval", "minutes"), [(1, 15), (5, 15), (6, 18), (30, 90)])
def test_silence_is_three_intervals_or_a_quarter_of_an_hour(interval: int, minutes: int) -> None:
    assert offline.due(NOON, Milliseconds(interval * MINUTE), OFFLINE_LIMIT) == NOON + minutes * MINUTE


@pytest.mark.parametrize(
    ("value", "q", "heard", "spoke"),
    [
        (500, 0, True, True),
        (500, 32, True, True),
        (None, 4, False, False),
        (None, 8, False, False),
        (None, 1, True, False),
    ],
)
def test_what_breaks_a_silence(value: int | None, q: int, heard: bool, spoke: bool) -> None:  # noqa: FBT001
    known = None if value is None else Centi(value)
    assert offline.is_heard(known, q) is heard
    assert offline.has_value(known, q) is spoke
