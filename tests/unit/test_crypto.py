"""Personal fields: unreadable at rest, found by their keyed hash, masked in what people see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.secrets import fresh
from core.db.crypto import FieldCipher, UnreadableField, masked, plain_phone

SECRETS = fresh("coldchain")
CIPHER = FieldCipher(SECRETS)


@given(st.text(max_size=60))
def test_what_is_sealed_opens_again_and_nowhere_else(text: str) -> None:
    sealed = CIPHER.seal(text, field="person.phone")
    assert CIPHER.open(sealed, field="person.phone") == text
    assert CIPHER.seal(text, field="person.phone") != sealed
    with pytest.raises(UnreadableField, match="altered"):
        CIPHER.open(sealed, field="person.id_number")


def test_one_changed_bit_is_noticed() -> None:
    sealed = CIPHER.seal("13812345678", field="person.phone")
    assert b"13812345678" not in sealed
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        with pytest.raises(UnreadableField):
            CIPHER.open(bytes(damaged), field="person.phone")


def test_another_installations_key_says_so() -> None:
    with pytest.raises(UnreadableField, match="another key"):
        FieldCipher(fresh("coldchain")).open(CIPHER.seal("x", field="f"), field="f")


def test_the_index_finds_the_same_text_of_the_same_field_alone() -> None:
    index = CIPHER.index("13812345678", field="person.phone")
    assert index == FieldCipher(SECRETS).index("13812345678", field="person.phone")
    assert len({index, CIPHER.index("13812345679", field="person.phone"), CIPHER.index("13812345678", field="f")}) == 3
    assert FieldCipher(fresh("coldchain")).index("13812345678", field="person.phone") != index


@pytest.mark.parametrize("written", ["+86 138 1234 5678", "0086-138-1234-5678", "138 1234 5678", "13812345678"])
def test_a_phone_is_one_number_however_it_is_written(written: str) -> None:
    assert plain_phone(written) == "13812345678"


@pytest.mark.parametrize(("text", "shown"), [("13812345678", "138****5678"), ("123456", "******"), ("", "")])
def test_people_see_a_masked_number(text: str, shown: str) -> None:
    assert masked(text) == shown
