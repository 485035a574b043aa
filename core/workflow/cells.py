"""Cells that any form may have: text, number, choice, yes or no, phone, and the unit's code and name."""

import re
from enum import StrEnum
from typing import TypeVar

from core.errors import Invalid
from core.units.people import checked_phone
from core.workflow.kinds import Cell, FormContext
from core.workflow.messages import message

_CODE = re.compile(r"\d{10}", re.ASCII)
_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_YES = frozenset({"是", "yes", "true", "1"})
_NO = frozenset({"否", "no", "false", "0"})
LONGEST_TEXT = 100

Choice = TypeVar("Choice", bound=StrEnum)


def text(name: str, title: str, *, required: bool = True) -> Cell:
    """Return a cell of free text on one line."""

    def read(_context: FormContext, written: str) -> str:
        if len(written) > LONGEST_TEXT:
            raise Invalid(name, written, message("too_long", most=LONGEST_TEXT))
        return written

    return Cell(name=name, title=title, read=read, required=required)


def note(title: str) -> Cell:
    """Return the cell of remarks, which may be empty."""
    return text("note", title, required=False)


def whole_number(name: str, title: str) -> Cell:
    """Return a cell with a whole number, zero or more."""

    def read(_context: FormContext, written: str) -> int:
        if not _NUMBER.fullmatch(written):
            raise Invalid(name, written, message("number"))
        return int(written)

    return Cell(name=name, title=title, read=read)


def choice(name: str, title: str, options: dict[Choice, str]) -> Cell:
    """Return a cell with one of several values, written as the value itself or as its Chinese word."""
    values = {**{word: option for option, word in options.items()}, **{option.value: option for option in options}}

    def read(_context: FormContext, written: str) -> str:
        if written not in values:
            raise Invalid(name, written, message("choice", options="、".join(options.values())))
        return values[written].value

    return Cell(name=name, title=title, read=read, options=tuple(options.values()))


def yes_no(name: str, title: str) -> Cell:
    """Return a cell that says yes or no (是, 否)."""

    def read(_context: FormContext, written: str) -> bool:
        word = written.casefold()
        if word not in _YES | _NO:
            raise Invalid(name, written, message("yes_no"))
        return word in _YES

    return Cell(name=name, title=title, read=read, options=("是", "否"))


def phone(name: str, title: str) -> Cell:
    """Return a cell with a phone number."""
    return Cell(name=name, title=title, read=lambda _context, written: checked_phone(written))


def unit_code(name: str, title: str) -> Cell:
    """Return a cell with the ten digits of the filing unit's own code (HW-19)."""

    def read(context: FormContext, written: str) -> str:
        if not _CODE.fullmatch(written):
            raise Invalid(name, written, message("unit_code"))
        if written != context.unit.code:
            raise Invalid(name, written, message("other_code", unit=context.unit.name))
        return written

    return Cell(name=name, title=title, read=read, suggested=lambda unit: unit.code or "")


def unit_name(name: str, title: str) -> Cell:
    """Return a cell with the filing unit's own name (HW-19)."""

    def read(context: FormContext, written: str) -> str:
        if written != context.unit.name:
            raise Invalid(name, written, message("other_name", unit=context.unit.name))
        return written

    return Cell(name=name, title=title, read=read, suggested=lambda unit: unit.name)
