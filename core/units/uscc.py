"""Unified social credit code (统一社会信用代码) of GB 32100-2015: 18 characters, the last of them a check character."""

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Without I, O, S, V and Z, which are mistaken for others."""
_LENGTH = 18
_MODULUS = 31


def check_character(first: str) -> str:
    """Return the check character of the first 17 characters.

    Raises: ValueError for a character that no code has.
    """
    weighted = sum(ALPHABET.index(character) * pow(3, place, _MODULUS) for place, character in enumerate(first))
    return ALPHABET[-weighted % _MODULUS]


def is_uscc(code: str) -> bool:
    """Return whether a text is such a code: its length, its characters, and its check character are right."""
    return len(code) == _LENGTH and set(code) <= set(ALPHABET) and code[-1] == check_character(code[:-1])
