"""Identity documents: their types, and which numbers can be right (GB 11643-1999 for resident identity cards)."""

import re
from datetime import date
from enum import StrEnum

import msgspec

from core.errors import Invalid
from core.units.messages import message

_RESIDENT = re.compile(r"[1-9]\d{16}[\dX]", re.ASCII)
_OTHER = re.compile(r"[0-9A-Z]{5,20}", re.ASCII)
_CHECK_CHARACTERS = "10X98765432"
_FULL_WIDTH = {ord("０") + digit: str(digit) for digit in range(10)} | {ord("Ｘ"): "X", ord("ｘ"): "X"}


class IdentityType(StrEnum):
    """Type of an identity document."""

    RESIDENT = "resident"
    """居民身份证."""
    FOREIGN_RESIDENT = "foreign_resident"
    """外国人永久居留身份证."""
    HONG_KONG_MACAO = "hong_kong_macao"
    """港澳居民来往内地通行证."""
    TAIWAN = "taiwan"
    """台湾居民来往大陆通行证."""
    PASSPORT = "passport"
    OFFICER = "officer"
    """军官证."""


class Identity(msgspec.Struct, frozen=True):
    """Type and number of an identity document, as somebody wrote them."""

    type: IdentityType
    number: str

    @property
    def text(self) -> str:
        """Type and number in one text, the form that is encrypted and indexed.

        Raises: Invalid.
        """
        return f"{self.type.value}:{checked_number(self.type, self.number)}"


def identity_of(text: str) -> Identity:
    """Return the identity of a decrypted text."""
    kind, _, number = text.partition(":")
    return Identity(IdentityType(kind), number)


def checked_number(kind: IdentityType, number: str) -> str:
    """Return the number of a document without blanks, in capitals.

    Raises: Invalid; it doesn't repeat the number.
    """
    plain = re.sub(r"\s", "", number).translate(_FULL_WIDTH).upper()
    if kind is not IdentityType.RESIDENT:
        if not _OTHER.fullmatch(plain):
            raise _invalid(problem="identity_form")
        return plain
    if not _RESIDENT.fullmatch(plain):
        raise _invalid(problem="resident_form")
    try:
        date(int(plain[6:10]), int(plain[10:12]), int(plain[12:14]))
    except ValueError:
        raise _invalid(problem="resident_birth") from None
    if plain[17] != check_character(plain[:17]):
        raise _invalid(problem="resident_check")
    return plain


def check_character(digits: str) -> str:
    """Return the check character of the first 17 digits, by ISO 7064 MOD 11-2: weight of digit i is 2^(17−i) mod 11."""
    total = sum(int(digit) * pow(2, 17 - position, 11) for position, digit in enumerate(digits))
    return _CHECK_CHARACTERS[total % 11]


def _invalid(problem: str) -> Invalid:
    return Invalid(field="identity", value="***", problem=message(problem))
