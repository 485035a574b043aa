"""Duration of an excursion: confirmation and the time between cycles don't count."""

import pytest

from core.alarms.alarm_facts import widen
from core.alarms.duration import cycle_onset_at, cycle_opened_at, time_out
from core.alarms.tables import Alarm
from core.ids import Centi
from core.runtime.instant import MINUTE, Instant

BEGAN = Instant(1_774_632_960_000)


def at(minutes: int) -> Instant:
    return Instant(BEGAN + minutes * MINUTE)


def alarm(**values: object) -> Alarm:
    known = {"rule": "above", "opened_at": at(10), "onset_at": BEGAN, "earlier_out": 0, "peak": None}
    return Alarm(**(known | values))


def test_it_ends_with_the_excursion_not_with_its_confirmation() -> None:
    over = alarm(ended_at=at(12), recovered_at=at(17))
    assert time_out(over, at(500)) == 12 * MINUTE
    assert time_out(alarm(), at(25)) == 25 * MINUTE


def test_cycles_are_summed_without_what_lies_between() -> None:
    third = alarm(earlier_out=24 * MINUTE, cycle_onset_at=at(40), cycle_opened_at=at(50))
    assert time_out(third, at(52)) == 36 * MINUTE
    assert (cycle_onset_at(third), cycle_opened_at(third)) == (at(40), at(50))
    assert (cycle_onset_at(alarm()), cycle_opened_at(alarm())) == (BEGAN, at(10))


def test_late_readings_that_join_two_cycles_count_nothing_twice() -> None:
    second = alarm(earlier_out=12 * MINUTE, cycle_onset_at=at(20), cycle_opened_at=at(30))
    widen(second, at(5), Centi(990))
    assert (second.onset_at, second.cycle_onset_at, second.peak) == (BEGAN, at(5), 990)
    assert time_out(second, at(32)) == 32 * MINUTE


def test_late_readings_of_an_earlier_cycle_leave_the_last_one_alone() -> None:
    second = alarm(earlier_out=12 * MINUTE, cycle_onset_at=at(20), cycle_opened_at=at(30))
    widen(second, at(0), Centi(990), until=at(12))
    assert (second.cycle_onset_at, time_out(second, at(32))) == (at(20), 24 * MINUTE)
    widen(second, at(-5), Centi(990), until=at(12))
    assert (second.onset_at, second.cycle_onset_at, time_out(second, at(32))) == (at(-5), at(20), 29 * MINUTE)


@pytest.mark.parametrize("ended", [at(-3), BEGAN])
def test_it_is_never_negative(ended: Instant) -> None:
    assert time_out(alarm(ended_at=ended), at(10)) == 0
