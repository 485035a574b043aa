"""Tolerant JSON scanner: the parts of an object or an array as raw bytes, as far as they can be told apart.

For messages that a strict decoder refuses. It knows strings and brackets, nothing else: whether a part can be read is
for who decodes it. Linear in the length of the text, whatever stands in it.
"""

import re
from typing import NamedTuple

_MARK = re.compile(rb'["{}\[\],]')
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_KEY = re.compile(rb'\s*"([^"\\]*)"\s*:\s*')
_SPACE = b" \t\r\n"


class Parts(NamedTuple):
    """What stands between the outermost brackets of a text, at its commas."""

    parts: list[bytes]
    is_closed: bool
    """Whether the closing bracket is there; without it the last part may be cut off."""
    rest: bytes
    """What stands behind it."""


def split(text: bytes, bracket: bytes) -> Parts | None:
    """Return the parts of the first object (`{`) or array (`[`) in a text; None where there is none."""
    begin = text.find(bracket)
    if begin < 0:
        return None
    parts: list[bytes] = []
    depth, place, since = 1, begin + 1, begin + 1
    while found := _MARK.search(text, place):
        place = found.end()
        mark = found[0]
        if mark == b'"':
            string = _STRING.match(text, found.start())
            if string is None:  # it never ends
                break
            place = string.end()
        elif mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if not depth:
                last = text[since : found.start()].strip(_SPACE)
                return Parts([*parts, last] if last or parts else parts, is_closed=True, rest=text[place:])
        elif depth == 1:
            parts.append(text[since : found.start()].strip(_SPACE))
            since = place
    return Parts([*parts, text[since:].strip(_SPACE)], is_closed=False, rest=b"")


def members(text: bytes) -> tuple[dict[str, bytes], str]:
    """Return the members of the object that a text begins with, and what is wrong with it as a whole.

    Of an object that is cut off the last member counts only where its value is an array, whose elements may be whole: a
    number could have lost digits.
    """
    found = split(text, b"{")
    if found is None:
        return {}, "no JSON object"
    named: dict[str, bytes] = {}
    for place, part in enumerate(found.parts):
        key = _KEY.match(part)
        value = part[key.end() :] if key else b""
        is_cut = not found.is_closed and place == len(found.parts) - 1
        if key and not (is_cut and not value.startswith(b"[")):
            named[key[1].decode("utf-8", "replace")] = value
    if not found.is_closed:
        return named, f"cut off at byte {len(text)}"
    behind = found.rest.strip(_SPACE)
    return named, f"{len(behind)} bytes stand behind the message" if behind else ""
