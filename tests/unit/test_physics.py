from itertools import pairwise
from typing import get_args

import pytest

from coldchain.simulate.physics import BUILDS, Chamber, ChamberFault, ChamberKind
from core.runtime.instant import DAY, HOUR, MINUTE, SECOND, Instant, parse

START = parse("2026-03-28T00:00:00+08:00")
KINDS: tuple[ChamberKind, ...] = get_args(ChamberKind)


def every(chamber: Chamber, step: int, length: int, since: int = START) -> list[float]:
    return [chamber.temperature(Instant(at)) for at in range(since, since + length, step)]


def test_every_kind_has_its_build() -> None:
    assert set(BUILDS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_healthy_chamber_stays_within_its_limits_for_thirty_days(kind: ChamberKind) -> None:
    """Never beyond a limit at all, so no alarm that asks for minutes beyond one can open."""
    shown = every(Chamber(kind, 7), MINUTE, 30 * DAY)
    assert max(shown) < (-15 if kind == "freezer" else 8)
    assert min(shown) > (-40 if kind == "freezer" else 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_seed_a_working_day_stays_within_limits(kind: ChamberKind, seed: int) -> None:
    shown = every(Chamber(kind, seed), MINUTE, DAY)
    assert max(shown) < (-15 if kind == "freezer" else 8)
    assert min(shown) > (-40 if kind == "freezer" else 2)


@pytest.mark.parametrize("kind", KINDS)
def test_it_cycles_and_is_not_a_line(kind: ChamberKind) -> None:
    build = BUILDS[kind]
    night = every(Chamber(kind, 1), MINUTE, 8 * HOUR)
    middle = (build.on + build.off) / 2
    crossings = sum((before < middle) != (after < middle) for before, after in pairwise(night))
    assert 6 <= crossings <= 200
    assert 0.3 < max(night) - min(night) < 6


def test_doors_are_felt_in_the_clinics_hours_and_not_on_a_quiet_night() -> None:
    chamber = Chamber("refrigerated", 3)
    night = every(chamber, MINUTE, 2 * HOUR, START + 4 * HOUR)
    morning = every(chamber, MINUTE, 4 * HOUR, START + 8 * HOUR)
    assert max(morning) > max(night) + 0.4


def test_a_defrost_is_felt() -> None:
    chamber = Chamber("freezer", 3)
    before, defrost = every(chamber, MINUTE, 90 * MINUTE), every(chamber, MINUTE, HOUR, START + 2 * HOUR)
    assert max(defrost) > max(before) + 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_compressor_creeps_up_to_the_surroundings(kind: ChamberKind) -> None:
    fails = Instant(START + 20 * HOUR)
    chamber = Chamber(kind, 5, [ChamberFault("compressor", fails)])
    healthy = Chamber(kind, 5)
    assert every(chamber, MINUTE, 20 * HOUR) == every(healthy, MINUTE, 20 * HOUR)
    after = every(chamber, MINUTE, 60 * HOUR, fails)
    limit = -15 if kind == "freezer" else 8
    beyond = next(minute for minute, shown in enumerate(after) if shown > limit)
    assert 10 < beyond < 150
    assert all(shown > limit for shown in after[beyond + 30 :])
    assert max(after) < BUILDS[kind].ambient + BUILDS[kind].swing + 3
    assert after[-1] > 15


def test_it_is_repaired_at_the_end_of_a_fault() -> None:
    chamber = Chamber("refrigerated", 5, [ChamberFault("compressor", START, Instant(START + 3 * HOUR))])
    assert chamber.temperature(Instant(START + 3 * HOUR)) > 10
    assert chamber.temperature(Instant(START + 5 * HOUR)) < 8


def test_a_thermostat_that_sticks_freezes_vaccine() -> None:
    shown = every(Chamber("refrigerated", 5, [ChamberFault("thermostat", START)]), MINUTE, 12 * HOUR)
    assert min(shown) < -0.5
    assert min(shown) > BUILDS["refrigerated"].coldest


@pytest.mark.parametrize("kind", KINDS)
def test_a_door_left_open_is_too_warm(kind: ChamberKind) -> None:
    chamber = Chamber(kind, 5)
    chamber.temperature(Instant(START + 9 * HOUR))
    chamber.add(ChamberFault("door", Instant(START + 9 * HOUR)))
    assert max(every(chamber, MINUTE, HOUR, START + 9 * HOUR)) > (-15 if kind == "freezer" else 8)


def test_the_same_seed_and_time_show_the_same_however_often_it_is_asked() -> None:
    faults = [ChamberFault("compressor", Instant(START + 30 * HOUR), Instant(START + 33 * HOUR))]
    often, seldom, other = (Chamber("refrigerated", seed, faults) for seed in (9, 9, 10))
    fine = {at: often.temperature(Instant(at)) for at in range(START, START + 2 * DAY, 7 * SECOND)}
    whole_hours = range(START, START + 2 * DAY, 7 * HOUR)
    assert [seldom.temperature(Instant(at)) for at in whole_hours] == [fine[at] for at in whole_hours]
    assert [other.temperature(Instant(at)) for at in whole_hours] != [fine[at] for at in whole_hours]


def test_between_two_seconds_there_is_no_jump() -> None:
    shown = every(Chamber("vehicle", 2), SECOND, 12 * HOUR)
    assert max(abs(after - before) for before, after in pairwise(shown)) < 0.12


def test_a_process_that_starts_again_goes_on_where_it_was() -> None:
    """The same day exactly; days later the defrost has brought both into step."""
    first = Chamber("cold_room", 4)
    every(first, 10 * MINUTE, 10 * HOUR)
    again = Instant(START + 10 * HOUR)
    assert Chamber("cold_room", 4).temperature(again) == first.temperature(again)
    days_later = Instant(START + 5 * DAY + 10 * HOUR)
    every(first, DAY, 5 * DAY)
    assert Chamber("cold_room", 4).temperature(days_later) == pytest.approx(first.temperature(days_later), abs=1.3)


def test_an_earlier_time_and_a_very_long_jump_are_survived() -> None:
    chamber = Chamber("refrigerated", 4)
    now = chamber.temperature(Instant(START + DAY))
    assert chamber.temperature(Instant(START + DAY - HOUR)) == pytest.approx(now, abs=0.2)
    assert 2 < chamber.temperature(Instant(START + 4000 * DAY)) < 8
