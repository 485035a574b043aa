import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.characters import forbidden_character, shown

SHOWN = {"\u0600", "\u0601", "\u0602", "\u0603", "\u0604", "\u0605", "\u06dd", "\u070f", "\u0890", "\u0891", "\u08e2"}
SHOWN |= {"\U000110bd", "\U000110cd"} | {chr(code) for code in range(0x13430, 0x13440)}
"""Format characters that are signs which everybody sees."""


def test_nothing_that_nobody_sees_passes() -> None:
    invisible = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    for letter in map(chr, range(0x11_0000)):
        if unicodedata.category(letter) in invisible and letter not in SHOWN:
            assert forbidden_character(f"a{letter}b"), hex(ord(letter))


@pytest.mark.parametrize(
    ("text", "position", "name"),
    [
        ("CG-01\u200b", 5, "U+200B ZERO WIDTH SPACE"),
        ("a\x00", 1, "U+0000 NUL"),
        ("\u202eabc", 0, "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\u2067x", 0, "U+2067 RIGHT-TO-LEFT ISOLATE"),
        ("\ufeffx", 0, "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("张\ufffd", 1, "U+FFFD REPLACEMENT CHARACTER"),
        ("\ud800", 0, "U+D800 CONTROL CHARACTER"),
        ("a\nb", 1, "U+000A LINE FEED"),
        ("a\x85b", 1, "U+0085 CONTROL CHARACTER"),
        ("\uffff", 0, "U+FFFF CONTROL CHARACTER"),
    ],
)
def test_a_forbidden_character_is_named_with_its_place(text: str, position: int, name: str) -> None:
    found = forbidden_character(text)
    assert found is not None
    assert (found.position, found.name) == (position, name)


def test_what_people_write_passes() -> None:
    for text in (
        "王芳",
        "Zoë O'Brien",
        "4.5 °C",
        "冷藏（2℃～8℃）",
        "ᠮᠣᠩᠭᠣᠯ",
        "བོད",
        "ئۇيغۇر",
        "全角\u3000空格",
        "好🙂❤️",
    ):
        assert forbidden_character(text) is None, text
    assert forbidden_character("a\n\tb\r\n", several_lines=True) is None


@given(st.text())
def test_it_finds_the_first(text: str) -> None:
    found = forbidden_character(text)
    if found is not None:
        assert text[found.position] == found.character
        assert forbidden_character(text[: found.position]) is None


def test_what_is_printed_of_a_strange_name_is_escaped() -> None:
    assert [shown(text) for text in ("温度", "a\x1b[31m", "\u202ex")] == ["温度", "'a\\x1b[31m'", "'\\u202ex'"]
