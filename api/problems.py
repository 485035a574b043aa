"""Problem details (RFC 9457): the answer to every error, JSON for machines and a short page for people.

The only place where the core's errors are translated to HTTP. `type` is an address on the documentation page, which has
a paragraph for each problem.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.exceptions import HTTPException

from api.app_context import StoreUnavailable
from api.auth import FormExpired, PasswordExpired
from api.concurrency_limit import TooBusy
from api.pages.forms import FilledForm, written
from api.query_parameters import UnknownParameters
from api.sign_in_throttle import TooManyAttempts
from core import errors
from core.intake import port as intake
from core.runtime.logs import logger
from core.telemetry import port as telemetry
from core.workflow.form import CellFault, FormRejected

log = logger(__name__)

KINDS: Mapping[type[Exception], tuple[str, HTTPStatus]] = {
    PasswordExpired: ("password_expired", HTTPStatus.FORBIDDEN),
    errors.NotFound: ("not_found", HTTPStatus.NOT_FOUND),
    errors.PermissionDenied: ("not_granted", HTTPStatus.FORBIDDEN),
    errors.NotSignedIn: ("not_signed_in", HTTPStatus.UNAUTHORIZED),
    errors.Conflict: ("conflict", HTTPStatus.CONFLICT),
    errors.Invalid: ("invalid", HTTPStatus.UNPROCESSABLE_ENTITY),
    FormRejected: ("invalid", HTTPStatus.UNPROCESSABLE_ENTITY),
    TooManyAttempts: ("too_many", HTTPStatus.TOO_MANY_REQUESTS),
    errors.DomainError: ("wrong", HTTPStatus.BAD_REQUEST),
    RequestValidationError: ("invalid", HTTPStatus.UNPROCESSABLE_ENTITY),
    StoreUnavailable: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    intake.IntakeUnavailable: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    telemetry.TelemetryUnavailable: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    sqlite3.OperationalError: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    OperationalError: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    InterfaceError: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    NoConnectionFree: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    TooBusy: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
}
"""Code and status by exception; the nearest ancestor decides."""

STORES = (
    StoreUnavailable,
    intake.IntakeUnavailable,
    telemetry.TelemetryUnavailable,
    sqlite3.OperationalError,
    OperationalError,
    InterfaceError,
    NoConnectionFree,
)
"""Errors of stores that can't be reached. Their texts are only for the log: they may name hosts and files."""

BY_STATUS = {
    HTTPStatus.BAD_REQUEST: "wrong",
    HTTPStatus.UNAUTHORIZED: "not_signed_in",
    HTTPStatus.FORBIDDEN: "not_granted",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "wrong_method",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many",
}
"""Codes of the framework's own refusals."""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Invalid value of a request; in the form of an application with its row (0 is the form itself) and column."""

    field: str
    problem: str
    row: int | None = None
    column: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details of RFC 9457, with `code` for programs and `errors` for forms."""

    type: str
    title: str
    status: int
    code: str
    detail: str = ""
    instance: str = ""
    errors: Sequence[Fault] = ()


def problem_of(error: Exception) -> Problem:
    """Return an exception as the client may see it. Everything else about it stays in the log."""
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return _problem(
            BY_STATUS.get(status, "internal"), status, "" if error.detail == status.phrase else error.detail
        )
    kind = next((KINDS[ancestor] for ancestor in type(error).__mro__ if ancestor in KINDS), None)
    if kind is None:
        return _problem("internal", HTTPStatus.INTERNAL_SERVER_ERROR)
    if isinstance(error, RequestValidationError):
        return _problem(*kind, errors=[_fault(fault) for fault in error.errors()])
    if isinstance(error, errors.Invalid | FormRejected):
        return _problem(*kind, *_told(error))
    if isinstance(error, STORES):
        return _problem(*kind, "a store can't be reached at the moment; /readyz says which")
    return _problem(*kind, str(error))


def install(app: FastAPI) -> None:
    """Answer every error of the app's routes, unknown routes too.

    Other errors are `internal` (`api.request_middleware`).
    """
    kinds: tuple[type[Exception], ...] = (HTTPException, *KINDS)
    for kind in kinds:
        app.add_exception_handler(kind, _answer)


def answer(request: Request, error: Exception) -> Response:
    """Return the answer to an exception, as JSON or as a page."""
    problem = problem_of(error)
    if isinstance(error, STORES):
        log.warning("store was not reachable", problem=type(error).__name__, detail=str(error)[:300])
    if wants_page(request):
        return _page(request, problem, error)
    problem = msgspec.structs.replace(problem, instance=f"urn:request:{request.state.request_id}")
    headers = {"Retry-After": "5"} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManyAttempts):
        headers["Retry-After"] = str(error.after_s)
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    return JSONResponse(msgspec.to_builtins(problem), problem.status, headers, media_type="application/problem+json")


def wants_page(request: Request) -> bool:
    """Return whether a person with a browser sent the request, rather than a program."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


async def _answer(request: Request, error: Exception) -> Response:
    return answer(request, error)


def _page(request: Request, problem: Problem, error: Exception) -> Response:
    from api.pages.rendering import page, sign_in_address  # noqa: PLC0415 (pages raise problems, problems show a page)

    if problem.code == "not_signed_in" and request.method == "GET":
        return RedirectResponse(sign_in_address(request), HTTPStatus.SEE_OTHER)
    written_texts = written(request)
    if problem.code == "password_expired" and not written_texts:
        return RedirectResponse("/password", HTTPStatus.SEE_OTHER)
    if problem.code == "not_signed_in" and not written_texts:  # the session ended: back to the page with the button
        return RedirectResponse(_form_page(request), HTTPStatus.SEE_OTHER)
    unknown_parameters = error if isinstance(error, UnknownParameters) else None
    answer = page(
        request,
        "problem.html",
        status=problem.status,
        problem=problem,
        expired=isinstance(error, FormExpired),
        unknown=unknown_parameters,
        form=FilledForm(written_texts),
        address=_form_page(request),
        back=_form_page(request),
    )
    if request.method == "GET" and problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        answer.headers["Refresh"] = "30"  # a screen on a wall must not stay on this page
    return answer


def _form_page(request: Request) -> str:
    """Return the page whose form was sent; empty for a page that was requested by GET."""
    return "" if request.method == "GET" else request.url.path.rpartition("/")[0] or request.url.path


def _problem(code: str, status: HTTPStatus, detail: str = "", errors: Sequence[Fault] = ()) -> Problem:
    return Problem(
        type=f"/api/v1/docs#{code}", title=status.phrase, status=status, code=code, detail=detail, errors=errors
    )


def _fault(error: Mapping[str, object]) -> Fault:
    location = error.get("loc")
    parts = [str(part) for part in location] if isinstance(location, tuple | list) else []
    return Fault(".".join(parts[1:]) or ".".join(parts), str(error.get("msg", "")))


def _told(error: errors.Invalid | FormRejected) -> tuple[str, list[Fault]]:
    if isinstance(error, errors.Invalid):
        return str(error), [Fault(error.field, error.problem)]
    faults = [_cell_fault(fault) for fault in error.faults]
    return "the form has faults, and nothing was submitted", faults


def _cell_fault(fault: CellFault) -> Fault:
    field = f"rows.{fault.row}.{fault.column}" if fault.row else f"fields.{fault.column}"
    return Fault(field, str(fault.problem), row=fault.row, column=fault.column)
