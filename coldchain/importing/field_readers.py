"""Readers of the fields of an import file. Each raises WrongField with what would be right."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from coldchain.importing.mistakes import WrongField, message
from config.characters import forbidden_character
from core.contacts.contacts import ContactLevel
from core.devices.kinds_and_labels import CHINESE as DEVICE_WORDS
from core.devices.kinds_and_labels import ProbeName, kind_of, parse_probe
from core.errors import Invalid
from core.ids import Centi
from core.limits.rule_profile import names
from core.runtime.instant import DAY, Instant, Milliseconds, instant, parse
from core.units.people import check_openid, checked_phone
from core.units.unit_attributes import CHINESE_ATTRIBUTES as UNIT_ATTRIBUTES
from core.units.unit_levels import CHINESE as UNIT_WORDS
from core.units.uscc import is_uscc

T = TypeVar("T")
FieldReader = Callable[[object], Any]
"""From the text of a field to the value in a row."""
Pattern = tuple[str, str]
"""Pattern of a code, and the message that describes it."""

UNIT_CODE: Pattern = (r"[0-9A-Za-z]{1,12}", "unit_code")
DIVISION_CODE: Pattern = (r"[1-9][0-9]{5}", "division_code")
EQUIPMENT_CODE: Pattern = (r"[0-9A-Za-z\u4e00-\u9fff][0-9A-Za-z\u4e00-\u9fff._/#()-]{0,39}", "equipment_code")
GATEWAY_NUMBER: Pattern = (r"[A-Za-z0-9_-]{1,32}", "gateway_number")
_IN_A_SPREADSHEET = re.compile(r"[+-]?\d+([.,]\d+)?[eE]\+?\d+")
"""A number that a spreadsheet has shortened, such as 6.10103E+11."""
_EARLIEST, _LATEST = Instant(0), Instant(230 * 365 * DAY)
_FIRST_DAY, _LAST_DAY = date(1970, 1, 1), date(2199, 12, 31)


def text(longest: int) -> FieldReader:
    """Read a text, or a number that stands for one."""

    def read(value: object) -> str:
        found = _plain(value)
        if len(found) > longest:
            raise WrongField(message("too_long", longest=longest, characters=len(found)))
        return found

    return read


def code(pattern: Pattern) -> FieldReader:
    """Read a code."""
    regex, hint = re.compile(pattern[0], re.ASCII), pattern[1]

    def read(value: object) -> str:
        found = _code(value)
        if not regex.fullmatch(found):
            raise WrongField(message(hint))
        return found

    return read


def probe(value: object) -> ProbeName:
    """Read a probe's label."""
    found = _code(value)
    try:
        return parse_probe(found)
    except Invalid as error:
        raise WrongField(error.message) from None


def phone(value: object) -> str:
    """Read a phone number."""
    found = _code(value)
    try:
        checked_phone(found)
    except Invalid as error:
        raise WrongField(error.message) from None
    return found


def openid(value: object) -> str:
    """Read an openid of WeChat."""
    found = _plain(value)
    try:
        check_openid(found)
    except Invalid as error:
        raise WrongField(error.message) from None
    return found


def timezone(value: object) -> str:
    """Read the name of a time zone."""
    found = _plain(value)
    try:
        ZoneInfo(found)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise WrongField(message("timezone")) from None
    return found


def moment(value: object) -> Instant:
    """Read a time with its offset."""
    try:
        found = instant(value) if isinstance(value, datetime) else parse(str(value))
    except (ValueError, OverflowError):
        raise WrongField(message("moment")) from None
    if not _EARLIEST <= found <= _LATEST:
        raise WrongField(message("far_moment"))
    return found


def day(value: object) -> date:
    """Read a date."""
    if isinstance(value, date) and not isinstance(value, datetime):
        found = value
    else:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(value), re.ASCII):
            raise WrongField(message("day"))
        try:
            found = date.fromisoformat(str(value))
        except ValueError:
            raise WrongField(message("day")) from None
    if not _FIRST_DAY <= found <= _LAST_DAY:
        raise WrongField(message("far_moment"))
    return found


def span(value: object) -> Milliseconds:
    """Read a span of time with its unit."""
    found = re.fullmatch(r"(\d{1,6})\s*(s|m|h)", str(value), re.ASCII)
    if found is None:
        raise WrongField(message("span"))
    return Milliseconds(int(found[1]) * {"s": 1_000, "m": 60_000, "h": 3_600_000}[found[2]])


def hundredths(value: object) -> Centi:
    """Read degrees Celsius."""
    found = re.fullmatch(r"-?\d{1,3}(\.\d{1,2})?", str(value), re.ASCII)
    if found is None or isinstance(value, bool):
        raise WrongField(message("hundredths"))
    return Centi(round(float(str(value)) * 100))


def device_word(kinds: type[StrEnum]) -> FieldReader:
    """Read a kind of device, in either language."""
    return _word(kinds, DEVICE_WORDS)


def unit_word(kinds: type[StrEnum]) -> FieldReader:
    """Read a level or kind of unit, in either language."""
    return _word(kinds, UNIT_WORDS)


def unit_attribute(kinds: type[StrEnum]) -> FieldReader:
    """Read an attribute of a unit, in either language."""
    return _word(kinds, UNIT_ATTRIBUTES)


def uscc(value: object) -> str:
    """Read a unified social credit code."""
    found = _code(value).upper()
    if not is_uscc(found):
        raise WrongField(message("uscc"))
    return found


def level(value: object) -> ContactLevel:
    """Read the level of a contact."""
    if str(value) not in {"1", "2", "3"}:
        raise WrongField(message("level"))
    return ContactLevel(int(str(value)))


def several(one: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """Read a list, or in CSV words with spaces or semicolons between them."""

    def each(value: object) -> tuple[T, ...]:
        parts = value if isinstance(value, list) else re.split(r"[;；、\s]+", str(value).strip())
        return tuple(dict.fromkeys(one(part) for part in parts if part != ""))

    return each


def profile(value: object) -> str:
    """Read the name of a rule profile."""
    if value not in names():
        raise WrongField(message("one_of", known=", ".join(names())))
    return str(value)


def check_characters(value: object) -> None:
    """Return a value unless it has invisible characters; a TOML file can have them as escapes."""
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str) and (found := forbidden_character(part)):
            raise WrongField(message("character", character=found.name, place=found.position + 1))


def _plain(value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise WrongField(message("in_quotes", right=f'"{value:.0f}"'))
    if isinstance(value, str):
        raise WrongField(message("empty"))
    raise WrongField(message("in_quotes", right='"…"'))


def _code(value: object) -> str:
    found = _plain(value)
    if _IN_A_SPREADSHEET.fullmatch(found):
        raise WrongField(message("spreadsheet"))
    return found


def _word(kinds: type[StrEnum], words: Mapping[StrEnum, str]) -> FieldReader:
    known = ", ".join(f"{kind.value} ({words[kind]})" for kind in kinds)

    def read(value: object) -> StrEnum:
        try:
            return kind_of(kinds, str(value), "", words)
        except Invalid:
            raise WrongField(message("one_of", known=known)) from None

    return read
