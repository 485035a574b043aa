"""How what stands in a field of an import file is read. Each raises Invalid with what would be right."""

import re
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from core.alarms.profile import names
from core.devices.names import ProbeName, kind_of, parse_probe
from core.errors import Invalid
from core.ids import Centi
from core.runtime.instant import Instant, Milliseconds, instant, parse
from core.units.contacts import ContactLevel
from core.units.levels import CHINESE

T = TypeVar("T")
Reader = Callable[[str, object], Any]
"""Turns the name of a field and what stands in it into what a row holds."""


def text(field: str, value: object) -> str:
    """Read a text or a number that stands for one, such as a code."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise Invalid(field=field, value=value, problem="write a text that isn't empty")


def probe(field: str, value: object) -> ProbeName:
    """Read a probe's label."""
    try:
        return parse_probe(str(value))
    except Invalid as error:
        raise Invalid(field=field, value=value, problem=error.problem) from None


def moment(field: str, value: object) -> Instant:
    """Read a time with its offset."""
    try:
        return instant(value) if isinstance(value, datetime) else parse(str(value))
    except ValueError:
        problem = "write a time with its offset, such as 2026-01-01T00:00:00+08:00"
        raise Invalid(field=field, value=value, problem=problem) from None


def span(field: str, value: object) -> Milliseconds:
    """Read a span of time with its unit."""
    found = re.fullmatch(r"(\d{1,6})\s*(s|m|h)", str(value))
    if found is None:
        raise Invalid(field=field, value=value, problem="write a number with its unit, such as 90s, 10m or 2h")
    return Milliseconds(int(found[1]) * {"s": 1_000, "m": 60_000, "h": 3_600_000}[found[2]])


def hundredths(field: str, value: object) -> Centi:
    """Read degrees Celsius."""
    found = re.fullmatch(r"-?\d{1,3}(\.\d{1,2})?", str(value))
    if found is None or isinstance(value, bool):
        problem = "write degrees Celsius with two decimals at most, such as 2.0 or -15"
        raise Invalid(field=field, value=value, problem=problem)
    return Centi(round(float(str(value)) * 100))


def device_word(kinds: type[StrEnum]) -> Reader:
    """Read a kind of device, in either language."""
    return lambda field, value: kind_of(kinds, str(value), field)


def unit_word(kinds: type[StrEnum]) -> Reader:
    """Read a level or kind of unit, in either language."""
    return lambda field, value: kind_of(kinds, str(value), field, CHINESE)


def level(field: str, value: object) -> ContactLevel:
    """Read the level of a contact."""
    if str(value) not in {"1", "2", "3"}:
        problem = "write 1 (vaccine manager), 2 (department head) or 3 (unit head)"
        raise Invalid(field=field, value=value, problem=problem)
    return ContactLevel(int(str(value)))


def several(one: Callable[[str, object], T]) -> Callable[[str, object], tuple[T, ...]]:
    """Read a list, or in CSV words with spaces or semicolons between them."""

    def each(field: str, value: object) -> tuple[T, ...]:
        parts = value if isinstance(value, list) else re.split(r"[;；\s]+", str(value).strip())
        return tuple(dict.fromkeys(one(field, part) for part in parts if part != ""))

    return each


def profile(field: str, value: object) -> str:
    """Read the name of a rule profile."""
    if value not in names():
        raise Invalid(field=field, value=value, problem=f"write one of {', '.join(names())}")
    return str(value)
