"""Rules of accounts without a database: identity numbers (GB 11643), real names, passwords."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.access.password_policy import PASSWORD_AGE, check_password, is_expired
from core.access.passwords import hash_password, initial_password
from core.errors import Invalid
from core.runtime.instant import DAY, Instant
from core.units.identities import IdentityType, check_character, checked_number
from core.units.real_names import checked_name

RIGHT = ("11010519491231002X", "440524188001010014")
"""The examples of GB 11643."""


@pytest.mark.parametrize("number", RIGHT)
def test_the_examples_of_the_norm_are_right(number: str) -> None:
    assert check_character(number[:17]) == number[17]
    assert checked_number(IdentityType.RESIDENT, number) == number


def test_a_number_may_be_typed_with_blanks_small_x_and_full_width_digits() -> None:
    assert checked_number(IdentityType.RESIDENT, "110105 19491231 002x") == RIGHT[0]
    assert checked_number(IdentityType.RESIDENT, "１１０１０５19491231002Ｘ") == RIGHT[0]
    assert checked_number(IdentityType.PASSPORT, " e12345678") == "E12345678"


@given(place=st.integers(0, 16), digit=st.sampled_from(string.digits), number=st.sampled_from(RIGHT))
def test_one_wrong_digit_is_always_found(place: int, digit: str, number: str) -> None:
    wrong = number[:place] + digit + number[place + 1 :]
    assert (check_character(wrong[:17]) == wrong[17]) is (wrong == number)


@given(place=st.integers(0, 15), number=st.sampled_from(RIGHT))
def test_two_exchanged_digits_are_always_found(place: int, number: str) -> None:
    wrong = number[:place] + number[place + 1] + number[place] + number[place + 2 :]
    assert (check_character(wrong[:17]) == wrong[17]) is (wrong == number)


@pytest.mark.parametrize(
    ("kind", "number", "problem"),
    [
        (IdentityType.RESIDENT, "110105194912310021", "the last character"),
        (IdentityType.RESIDENT, "110105194902300025", "date of birth"),
        (IdentityType.RESIDENT, "1101051949123100", "17 digits"),
        (IdentityType.RESIDENT, "", "17 digits"),
        (IdentityType.PASSPORT, "E-123", "letters and digits"),
    ],
)
def test_a_wrong_number_is_refused_without_being_repeated(kind: IdentityType, number: str, problem: str) -> None:
    with pytest.raises(Invalid, match=problem) as refused:
        checked_number(kind, number)
    assert not number or number not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["王芳", "欧阳娜娜", "李登科", "买买提·阿不都拉", "O'Neill", "Anna-Maria von Berg", "J. Smith"]
)
def test_names_of_people_are_accepted(name: str) -> None:
    assert checked_name(f" {name} ", unit_name="王芳诊所") == name


@pytest.mark.req("UP-06")
@pytest.mark.parametrize(
    "name",
    [
        *(
            "系统管理员",
            "业务管理员",
            "测试",
            "值班室",
            "公用账号",
            "接种门诊",
            "甲镇卫生院",
            "免疫规划科",
            "李某",
            "王主任",
        ),
        *("admin", "Test User", "cdc shared", "X", "王", "王芳1", "", "   ", "user01", "王芳、李强", "<b>王芳</b>"),
    ],
)
def test_roles_units_and_aliases_are_no_real_names(name: str) -> None:
    with pytest.raises(Invalid):
        checked_name(name, unit_name="甲镇卫生院")


@pytest.mark.req("SE-02")
@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("Abc123def", "at least 10"),
        ("abcdefghij", "three of these four"),
        ("abcdefghi1", "three of these four"),
        ("ABCDEFGH12", "three of these four"),
        ("xWANGFANG-1", "holds the user name"),
    ],
)
def test_a_password_of_too_few_characters_or_kinds_is_refused(password: str, problem: str) -> None:
    with pytest.raises(Invalid, match=problem) as refused:
        check_password("wangfang", password)
    assert password not in str(refused.value)


@pytest.mark.parametrize("password", ["Abcdefghi1", "abcdefgh-1", "ABCDEFGH-1", "Abcdefgh--", "三个字Abcdefg"])
def test_three_kinds_of_characters_are_enough(password: str) -> None:
    check_password("wangfang", password)
    check_password("", password)


@pytest.mark.req("SE-02")
def test_a_password_expires_after_ninety_days_to_the_millisecond_and_an_initial_one_at_once() -> None:
    set_at = Instant(1_700_000_000_000)
    assert PASSWORD_AGE == 90 * DAY
    assert not is_expired(set_at, Instant(set_at + 90 * DAY - 1))
    assert is_expired(set_at, Instant(set_at + 90 * DAY))
    assert is_expired(None, set_at)


def test_a_used_password_is_refused_and_initial_ones_differ() -> None:
    used = hash_password("li", "Long enough 1")
    with pytest.raises(Invalid, match="last 5 passwords"):
        hash_password("li", "Long enough 1", used=[used])
    assert hash_password("li", "Long enough 2", used=[used])
    first, second = initial_password()[0], initial_password()[0]
    assert first != second
    check_password("li", first)
