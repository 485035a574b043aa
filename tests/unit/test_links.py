import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.alarms.links import AlarmLink, ExpiredLink, ForgedLink, sign, url, verify
from core.ids import AlarmId, PersonId
from core.runtime.instant import Instant

KEYS = {"1": "aa" * 32}
NOW = Instant(1_774_632_960_017)
LINK = AlarmLink(AlarmId(41), 2, PersonId(7), Instant(NOW + 1))


@given(st.integers(1, 2**63 - 1), st.integers(1, 99), st.integers(1, 2**63 - 1))
def test_what_was_signed_is_read_back(alarm: int, cycle: int, person: int) -> None:
    link = AlarmLink(AlarmId(alarm), cycle, PersonId(person), LINK.expires)
    token = sign(link, KEYS)
    assert verify(token, NOW, KEYS) == link
    assert set(token) <= set(string.ascii_letters + string.digits + "-_.")
    assert len(token) <= 110


def test_it_serves_until_its_expiry_and_no_longer() -> None:
    token = sign(LINK, KEYS)
    assert verify(token, Instant(NOW), KEYS)
    with pytest.raises(ExpiredLink) as raised:
        verify(token, LINK.expires, KEYS)
    assert raised.value.link == LINK


def test_no_sign_of_it_can_be_changed() -> None:
    token = sign(LINK, KEYS)
    for place in range(len(token)):
        for other in "0Ab_.":
            if token[place] != other:
                with pytest.raises(ForgedLink):
                    verify(token[:place] + other + token[place + 1 :], NOW, KEYS)


@given(st.text(max_size=120))
def test_anything_else_is_forged(token: str) -> None:
    with pytest.raises(ForgedLink):
        verify(token, NOW, KEYS)


@pytest.mark.parametrize("swap", [(41, 42), (2, 1), (7, 8)])
def test_a_signature_serves_for_nothing_else(swap: tuple[int, int]) -> None:
    key_id, *said, expires, mac = sign(LINK, KEYS).split(".")
    changed = [str(swap[1]) if part == str(swap[0]) else part for part in said]
    with pytest.raises(ForgedLink):
        verify(".".join([key_id, *changed, expires, mac]), NOW, KEYS)


def test_a_new_key_signs_while_the_old_one_still_opens() -> None:
    old = sign(LINK, KEYS)
    rotated = {"2": "bb" * 32, **KEYS}
    assert verify(old, NOW, rotated) == LINK
    assert sign(LINK, rotated).startswith("2.")
    with pytest.raises(ForgedLink):
        verify(old, NOW, {"2": "bb" * 32})
    with pytest.raises(ForgedLink):
        verify(old, NOW, {"1": "bb" * 32})


def test_an_expired_link_of_a_withdrawn_key_is_forged() -> None:
    with pytest.raises(ForgedLink):
        verify(sign(LINK, KEYS), Instant(NOW + 10**9), {})


def test_the_address_of_the_page() -> None:
    assert url("https://cold.example/", "t") == "https://cold.example/a/t"
