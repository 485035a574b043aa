"""Tolerant JSON scanner: splits an object or an array into raw bytes, as far as its parts can be told apart.

For messages that a strict decoder refuses. It knows only strings and brackets; the caller decodes each part. Linear in
the length of the text, whatever it holds.
"""

import re
from typing import NamedTuple

_MARK = re.compile(rb'["{}\[\],]')
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_KEY = re.compile(rb'\s*"([^"\\]*)"\s*:\s*')
_SPACE = b" \t\r\n"


class JsonParts(NamedTuple):
    """Text between the outermost brackets, split at its commas."""

    parts: list[bytes]
    is_closed: bool
    """Whether the closing bracket is there; without it the last part may be cut off."""
    rest: bytes
    """Text behind the closing bracket."""


def split(text: bytes, bracket: bytes) -> JsonParts | None:
    """Return the parts of the first object (`{`) or array (`[`) in a text; None if there is none."""
    begin = text.find(bracket)
    if begin < 0:
        return None
    parts: list[bytes] = []
    depth, position, part_start = 1, begin + 1, begin + 1
    while token := _MARK.search(text, position):
        position = token.end()
        mark = token[0]
        if mark == b'"':
            string = _STRING.match(text, token.start())
            if string is None:  # it never ends
                break
            position = string.end()
        elif mark in b"{[":
            depth += 1
        elif mark in b"}]":
            depth -= 1
            if not depth:
                last = text[part_start : token.start()].strip(_SPACE)
                return JsonParts([*parts, last] if last or parts else parts, is_closed=True, rest=text[position:])
        elif depth == 1:
            parts.append(text[part_start : token.start()].strip(_SPACE))
            part_start = position
    return JsonParts([*parts, text[part_start:].strip(_SPACE)], is_closed=False, rest=b"")


def members(text: bytes) -> tuple[dict[str, bytes], str]:
    """Return the members of the object that a text begins with, and what is wrong with it as a whole.

    In an object that is cut off, the last member counts only if its value is an array, whose elements may be whole: a
    number could have lost digits.
    """
    parts = split(text, b"{")
    if parts is None:
        return {}, "no JSON object"
    values: dict[str, bytes] = {}
    for index, part in enumerate(parts.parts):
        key = _KEY.match(part)
        value = part[key.end() :] if key else b""
        is_cut = not parts.is_closed and index == len(parts.parts) - 1
        if key and not (is_cut and not value.startswith(b"[")):
            values[key[1].decode("utf-8", "replace")] = value
    if not parts.is_closed:
        return values, f"cut off at byte {len(text)}"
    trailing = parts.rest.strip(_SPACE)
    return values, f"{len(trailing)} bytes stand behind the message" if trailing else ""
