"""Rules of unit codes: time of review, first national day, credit codes, full names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.runtime.instant import HOUR, MINUTE, SECOND, Instant, parse, rfc3339
from core.units.code_rules import national_from, review_due, review_time
from core.units.registered_names import abbreviation_in, is_full_name
from core.units.unit_levels import UnitKind
from core.units.uscc import ALPHABET, check_character, is_uscc

NINE = parse("2026-05-01T09:00:00+08:00")
VALID = "91110000600037341L"


@pytest.mark.req("UC-07")
@pytest.mark.parametrize(("delay", "late"), [(0, False), (2 * HOUR, False), (2 * HOUR + SECOND, True)])
def test_two_hours_are_in_time_and_a_second_more_is_late(delay: int, *, late: bool) -> None:
    time = review_time(NINE, Instant(NINE + delay))
    assert (time.delay, time.late) == (delay, late)


def test_a_request_of_nine_is_due_at_eleven_and_the_next_level_counts_from_its_own_opening() -> None:
    assert review_due(NINE) == parse("2026-05-01T11:00:00+08:00")
    city_approved = Instant(NINE + 90 * MINUTE)
    assert review_due(city_approved) == parse("2026-05-01T12:30:00+08:00")


@pytest.mark.parametrize(
    ("approved", "timezone", "first"),
    [
        ("2026-05-01T09:00:00+08:00", "Asia/Shanghai", "2026-05-02T00:00:00.000+08:00"),
        ("2026-05-01T23:59:59.999+08:00", "Asia/Shanghai", "2026-05-02T00:00:00.000+08:00"),
        ("2026-05-02T00:00:00+08:00", "Asia/Shanghai", "2026-05-03T00:00:00.000+08:00"),
        ("2026-05-01T23:00:00+08:00", "Asia/Urumqi", "2026-05-02T02:00:00.000+08:00"),
    ],
)
def test_a_code_counts_nationally_from_the_next_midnight_of_its_site(approved: str, timezone: str, first: str) -> None:
    assert national_from(parse(approved), timezone) == parse(first), rfc3339(national_from(parse(approved), timezone))


def test_a_valid_credit_code_is_known() -> None:
    assert is_uscc(VALID)
    assert check_character(VALID[:-1]) == "L"
    for wrong in ("", VALID[:-1], VALID + "L", VALID.lower(), "9111000060003734IL", VALID[:-1] + "M"):
        assert not is_uscc(wrong), wrong


@given(st.text(ALPHABET, min_size=17, max_size=17), st.integers(0, 17), st.sampled_from(ALPHABET))
def test_one_wrong_character_is_always_found(first: str, place: int, other: str) -> None:
    code = first + check_character(first)
    assert is_uscc(code)
    assert is_uscc(code[:place] + other + code[place + 1 :]) is (code[place] == other)


@given(st.text(ALPHABET, min_size=17, max_size=17), st.integers(0, 15))
def test_two_neighbours_that_changed_places_are_found(first: str, place: int) -> None:
    swapped = first[:place] + first[place + 1] + first[place] + first[place + 2 :]
    assert is_uscc(swapped + check_character(first)) is (swapped == first)


@pytest.mark.parametrize(
    ("kind", "name", "full"),
    [
        (UnitKind.CDC, "西安市碑林区疾病预防控制中心", True),
        (UnitKind.CDC, "西安市碑林区疾控中心", False),
        (UnitKind.CDC, "碑林cdc", False),
        (UnitKind.CDC, "碑林区卫生防疫站", False),
        (UnitKind.POV, "长乐坊社区卫生服务中心", True),
        (UnitKind.POV, "长乐坊社卫中心", False),
    ],
)
def test_an_abbreviated_name_is_no_registered_one(kind: UnitKind, name: str, *, full: bool) -> None:
    assert is_full_name(kind, name) is full
    if kind is UnitKind.POV:
        assert (abbreviation_in(name) is None) is full
