"""Forbidden characters of stored text: those that are invisible, or that change how other characters look.

These are control characters (such as NUL, which PostgreSQL refuses), format characters (zero-width and bidirectional
ones, byte order marks), line and paragraph separators, surrogates, noncharacters, blank letters, and U+FFFD, the
replacement for a character that a program lost. Import files, settings, the API and the wire all use this check.
tests/unit/test_characters.py tries to break it.
"""

import re
import unicodedata

import msgspec

_NAMES = {0x00: "NUL", 0x09: "TAB", 0x0A: "LINE FEED", 0x0D: "CARRIAGE RETURN", 0x1A: "SUBSTITUTE", 0x1B: "ESCAPE"}
"""Control characters have no names in Unicode."""


class ForbiddenCharacter(msgspec.Struct, frozen=True):
    """Forbidden character, and its position in the text, from 0."""

    position: int
    character: str

    @property
    def name(self) -> str:
        """Code point and Unicode name, such as `U+200B ZERO WIDTH SPACE`."""
        code = ord(self.character)
        return f"U+{code:04X} {unicodedata.name(self.character, _NAMES.get(code, 'CONTROL CHARACTER'))}"


def forbidden_character(text: str, *, several_lines: bool = False) -> ForbiddenCharacter | None:
    """Return the first forbidden character; with `several_lines`, tabs and line breaks are allowed."""
    pattern = _IN_LINES if several_lines else _IN_LINE
    match = pattern.search(text)
    return None if match is None else ForbiddenCharacter(match.start(), match[0])


_PLANES_ENDS = "".join(f"\\U{plane:04x}fffe\\U{plane:04x}ffff" for plane in range(1, 17))
_BREAKS = r"\x00-\x08\x0b\x0c\x0e-\x1f"
_FORBIDDEN = (
    r"\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    r"\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffd-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
_IN_LINES = re.compile(f"[{_BREAKS}{_FORBIDDEN}{_PLANES_ENDS}]")
_IN_LINE = re.compile(f"[\\x00-\\x1f{_FORBIDDEN}{_PLANES_ENDS}]")


def shown(text: str) -> str:
    """Return a text for printing; if it has invisible characters it is quoted and they are escaped."""
    return text if text.isprintable() else repr(text)
