"""Forms as pages give them back: with what was typed, and with every field that can't be used marked at once.

No form ends on a page that lost what somebody wrote: whatever goes wrong with a change, a session that ended, a store
that is away or somebody who was first, the answer holds the text again (tests/integration/test_forms.py).
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Form, Request
from starlette.datastructures import FormData

from core.alarms.handling import LONGEST, Report
from core.errors import Invalid

LABELS: Mapping[str, str] = {
    "cause": "alarm.cause",
    "action": "alarm.action",
    "disposition": "alarm.disposition",
    "username": "username",
    "password": "password",
}
"""The name of each field in the catalogue."""

WRITTEN = tuple(Report.__struct_fields__)
"""Fields whose text takes somebody time to write."""


class FilledForm(msgspec.Struct, frozen=True):
    """What was typed into a form, and by field what is wrong with it, as a name in the catalogue."""

    values: Mapping[str, str] = {}
    errors: Mapping[str, str] = {}


def form_of(report: Report, faults: Sequence[Invalid]) -> FilledForm:
    """Return the handling form as it was sent, with its faults."""
    values = msgspec.structs.asdict(report)
    return FilledForm(values, {fault.field: error_in(values[fault.field], LONGEST) for fault in faults})


def given_back(form: FilledForm | None, address: str) -> dict[str, Any]:
    """Return what a page needs beside its own values: its form, and for a refused one from where it is renewed."""
    if form is None:
        return {"form": FilledForm()}
    return {"form": form, "address": address, "status": HTTPStatus.UNPROCESSABLE_ENTITY}


def error_in(value: str, longest: int) -> str:
    """Return what is wrong with a text that was refused."""
    if not value.strip():
        return "form.missing"
    return "form.too_long" if len(value) > longest else "form.characters"


def keep_written(request: Request, form: FormData) -> None:
    """Remember what somebody wrote, for the page that says why it wasn't taken."""
    request.state.written = {name: str(form[name]) for name in WRITTEN if str(form.get(name, "")).strip()}


def written(request: Request) -> Mapping[str, str]:
    """Return what somebody wrote into the form that a request carries."""
    found: Mapping[str, str] = getattr(request.state, "written", {})
    return found


def _report(
    cause: Annotated[str, Form()] = "", action: Annotated[str, Form()] = "", disposition: Annotated[str, Form()] = ""
) -> Report:
    return Report(cause=_lines(cause), action=_lines(action), disposition=_lines(disposition))


def _lines(text: str) -> str:
    """Return a text with the ends of lines that were typed; a browser counts one character each, and sends two."""
    return text.replace("\r\n", "\n")


HandlingForm = Annotated[Report, Depends(_report)]
"""The fields of the handling form, as they are: `core.alarms.handling.faults` says what is wrong with them."""
