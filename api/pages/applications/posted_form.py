"""Form of an application as a browser sends it: cells, the button that was pressed, and the single-use key.

A cell of the form itself is sent as `f.NAME`, one of row 3 as `r3.NAME`. Rows in which nothing is written are left out.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from secrets import token_hex
from typing import Annotated

import msgspec
from fastapi import Depends, Request

from core.ids import ApplicationId
from core.workflow.form import DraftContent

_FIELD = re.compile(r"f\.(?P<name>\w{1,40})", re.ASCII)
_CELL = re.compile(r"r(?P<row>[1-9]\d{0,3})\.(?P<name>\w{1,40})", re.ASCII)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_ONCE = re.compile(r"[0-9a-f]{32}")
_FULL_WIDTH = re.compile(r"\s*[０-９]+\s*")
_TO_ASCII = {ord("０") + digit: str(digit) for digit in range(10)}


class FormAction(StrEnum):
    """Button of the form."""

    SAVE = "save"
    SUBMIT = "submit"
    MORE_ROWS = "rows"


_ACTIONS = {action.value: action for action in FormAction}


class PostedForm(msgspec.Struct, frozen=True):
    """Form as it was sent, unchecked."""

    content: DraftContent
    action: FormAction
    revision: int
    once: str
    """Single-use key: the same form sent twice takes effect once."""
    linked: ApplicationId | None
    rows_shown: int

    @property
    def fingerprint(self) -> bytes:
        """Bytes that are the same for the same form, sent by the same button."""
        return msgspec.json.encode([self.content, self.action, self.revision, self.linked], order="deterministic")


def new_once() -> str:
    """Return a single-use key for a form that is about to be shown."""
    return token_hex(16)


def parse_form(form: Mapping[str, str]) -> PostedForm:
    """Return the form that was sent; what isn't one of its parts is ignored."""
    fields: dict[str, str] = {}
    rows: dict[int, dict[str, str]] = {}
    for key, value in form.items():
        if found := _FIELD.fullmatch(key):
            fields[found["name"]] = _written(value)
        elif found := _CELL.fullmatch(key):
            rows.setdefault(int(found["row"]), {})[found["name"]] = _written(value)
    filled = [rows[number] for number in sorted(rows) if any(text.strip() for text in rows[number].values())]
    once = form.get("once", "")
    return PostedForm(
        content=DraftContent(fields, filled),
        action=_ACTIONS.get(form.get("do", ""), FormAction.SAVE),
        revision=_number(form, "revision"),
        once=once if _ONCE.fullmatch(once) else new_once(),
        linked=ApplicationId(linked) if (linked := _number(form, "linked")) else None,
        rows_shown=len(rows),
    )


def _written(value: str) -> str:
    """Return a cell as it was typed; a number in full-width digits in plain ones."""
    return value.translate(_TO_ASCII) if _FULL_WIDTH.fullmatch(value) else value


def _number(form: Mapping[str, str], name: str) -> int:
    given = form.get(name, "")
    return int(given) if _NUMBER.fullmatch(given) else 0


async def _posted_form(request: Request) -> PostedForm:
    form = await request.form()
    return parse_form({name: value for name, value in form.items() if isinstance(value, str)})


ApplicationForm = Annotated[PostedForm, Depends(_posted_form)]
