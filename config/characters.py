"""Characters that no text that is kept may have: those that nobody sees, or that change what others look like.

Control characters (NUL is one, which PostgreSQL refuses too), format characters (zero-width and bidirectional ones,
byte order marks), line and paragraph separators, surrogates, noncharacters, blank letters, and U+FFFD, which stands
where a program lost a character. Import files, settings, the API and the wire use this one check.
"""

import re
import unicodedata

import msgspec

_NAMES = {0x00: "NUL", 0x09: "TAB", 0x0A: "LINE FEED", 0x0D: "CARRIAGE RETURN", 0x1A: "SUBSTITUTE", 0x1B: "ESCAPE"}
"""Control characters have no names in Unicode."""


class ForbiddenCharacter(msgspec.Struct, frozen=True):
    """A character that may not stand in a text, and where it stands (from 0)."""

    position: int
    character: str

    @property
    def name(self) -> str:
        """As people can look it up: `U+200B ZERO WIDTH SPACE`."""
        code = ord(self.character)
        return f"U+{code:04X} {unicodedata.name(self.character, _NAMES.get(code, 'CONTROL CHARACTER'))}"


def forbidden_character(text: str, *, several_lines: bool = False) -> ForbiddenCharacter | None:
    """Return the first character that may not be there; tabs and line breaks may where a text has `several_lines`."""
    pattern = _IN_LINES if several_lines else _IN_LINE
    found = pattern.search(text)
    return None if found is None else ForbiddenCharacter(found.start(), found[0])


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
    """Return a text as it may be printed: in quotes and escaped where it has characters that nobody sees."""
    return text if text.isprintable() else repr(text)
