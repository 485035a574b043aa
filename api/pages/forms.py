"""Forms: returned with the typed text, and with every invalid field marked at once.

No form ends on a page that lost the typed text: whatever goes wrong with a change, an ended session, a missing store or
another person who was first, the answer holds the text again (tests/integration/test_forms.py).
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import Depends, Form, Request
from starlette.datastructures import FormData

from core.alarms.handling import LONGEST_TEXT, HandlingReport
from core.errors import Invalid

LABELS: Mapping[str, str] = {
    "cause": "alarm.cause",
    "action": "alarm.action",
    "disposition": "alarm.disposition",
    "username": "username",
    "password": "password",
    "present": "change.present",
    "new": "change.new",
    "again": "change.again",
}
"""Name of each field in the catalogue."""

WRITTEN = tuple(HandlingReport.__struct_fields__)
"""Fields with text that takes time to write."""


class FilledForm(msgspec.Struct, frozen=True):
    """Values typed into a form, and what is wrong by field, as a name in the catalogue."""

    values: Mapping[str, str] = {}
    errors: Mapping[str, str] = {}


def form_of(report: HandlingReport, faults: Sequence[Invalid]) -> FilledForm:
    """Return the handling form as it was sent, with its faults."""
    values = msgspec.structs.asdict(report)
    return FilledForm(values, {fault.field: error_in(values[fault.field], LONGEST_TEXT) for fault in faults})


def form_context(form: FilledForm | None, address: str) -> dict[str, Any]:
    """Return a page's form values; for a refused form also its status and the address that renews the page."""
    if form is None:
        return {"form": FilledForm()}
    return {"form": form, "address": address, "status": HTTPStatus.UNPROCESSABLE_ENTITY}


def error_in(value: str, longest: int) -> str:
    """Return what is wrong with a refused text."""
    if not value.strip():
        return "form.missing"
    return "form.too_long" if len(value) > longest else "form.characters"


def keep_written(request: Request, form: FormData) -> None:
    """Keep the written text, for the page that says why it wasn't accepted."""
    request.state.written = {name: str(form[name]) for name in WRITTEN if str(form.get(name, "")).strip()}


def written(request: Request) -> Mapping[str, str]:
    """Return the written text of a request's form."""
    texts: Mapping[str, str] = getattr(request.state, "written", {})
    return texts


def _report(
    cause: Annotated[str, Form()] = "", action: Annotated[str, Form()] = "", disposition: Annotated[str, Form()] = ""
) -> HandlingReport:
    return HandlingReport(cause=_lines(cause), action=_lines(action), disposition=_lines(disposition))


def _lines(text: str) -> str:
    """Return a text with the line ends that were typed; a browser counts one character each, and sends two."""
    return text.replace("\r\n", "\n")


HandlingForm = Annotated[HandlingReport, Depends(_report)]
"""Fields of the handling form, unchecked: `core.alarms.handling.faults` checks them."""
