"""How anything that goes wrong is answered: RFC 9457 problem details for machines, a short page for people.

The one place where the error tree of the core meets HTTP. `type` is an address on the documentation page, where each
problem has its paragraph.
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

from api.asking import FormExpired
from api.pages.forms import FilledForm, written
from api.parameters import UnknownParameters
from api.parts import Unavailable
from api.slots import Busy
from api.throttle import TooMany
from core import errors
from core.intake import port as intake
from core.runtime.logs import logger
from core.telemetry import port as telemetry

log = logger(__name__)

KINDS: Mapping[type[Exception], tuple[str, HTTPStatus]] = {
    errors.NotFound: ("not_found", HTTPStatus.NOT_FOUND),
    errors.NotGranted: ("not_granted", HTTPStatus.FORBIDDEN),
    errors.NotSignedIn: ("not_signed_in", HTTPStatus.UNAUTHORIZED),
    errors.Conflict: ("conflict", HTTPStatus.CONFLICT),
    errors.Invalid: ("invalid", HTTPStatus.UNPROCESSABLE_ENTITY),
    TooMany: ("too_many", HTTPStatus.TOO_MANY_REQUESTS),
    errors.Wrong: ("wrong", HTTPStatus.BAD_REQUEST),
    RequestValidationError: ("invalid", HTTPStatus.UNPROCESSABLE_ENTITY),
    Unavailable: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    intake.Unavailable: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    telemetry.Unavailable: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    sqlite3.OperationalError: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    OperationalError: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    InterfaceError: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    NoConnectionFree: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
    Busy: ("unavailable", HTTPStatus.SERVICE_UNAVAILABLE),
}
"""The nearest ancestor of an exception decides."""

STORES = (
    Unavailable,
    intake.Unavailable,
    telemetry.Unavailable,
    sqlite3.OperationalError,
    OperationalError,
    InterfaceError,
    NoConnectionFree,
)
"""What stores raise while they can't be reached. The text is for the log: it may name hosts and files."""

BY_STATUS = {
    HTTPStatus.BAD_REQUEST: "wrong",
    HTTPStatus.UNAUTHORIZED: "not_signed_in",
    HTTPStatus.FORBIDDEN: "not_granted",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "wrong_method",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many",
}
"""Codes of what the framework itself refuses."""


class Fault(msgspec.Struct, frozen=True):
    """One wrong value of a request."""

    field: str
    problem: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The members of RFC 9457, with `code` for programs and `errors` for forms."""

    type: str
    title: str
    status: int
    code: str
    detail: str = ""
    instance: str = ""
    errors: Sequence[Fault] = ()


def problem_of(error: Exception) -> Problem:
    """Say what an exception means to whoever asked. What isn't meant for them stays in the log."""
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return _problem(
            BY_STATUS.get(status, "internal"), status, "" if error.detail == status.phrase else error.detail
        )
    kind = next((KINDS[ancestor] for ancestor in type(error).__mro__ if ancestor in KINDS), None)
    if kind is None:
        return _problem("internal", HTTPStatus.INTERNAL_SERVER_ERROR)
    if isinstance(error, RequestValidationError):
        return _problem(*kind, errors=[_fault(one) for one in error.errors()])
    if isinstance(error, errors.Invalid):
        return _problem(*kind, str(error), [Fault(error.field, error.problem)])
    if isinstance(error, STORES):
        return _problem(*kind, "a store can't be reached at the moment; /readyz says which")
    return _problem(*kind, str(error))


def install(app: FastAPI) -> None:
    """Answer every error of the app's routes, unknown routes too; what is left over is `internal` (`api.edge`)."""
    kinds: tuple[type[Exception], ...] = (HTTPException, *KINDS)
    for kind in kinds:
        app.add_exception_handler(kind, _answer)


def answer(request: Request, error: Exception) -> Response:
    """Return the answer to an exception in the form that the asker reads."""
    problem = problem_of(error)
    if isinstance(error, STORES):
        log.warning("store was not reachable", problem=type(error).__name__, detail=str(error)[:300])
    if wants_page(request):
        return _page(request, problem, error)
    problem = msgspec.structs.replace(problem, instance=f"urn:request:{request.state.request_id}")
    headers = {"Retry-After": "5"} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(error.after_s)
    if isinstance(error, HTTPException) and error.headers:
        headers.update(error.headers)
    return JSONResponse(msgspec.to_builtins(problem), problem.status, headers, media_type="application/problem+json")


def wants_page(request: Request) -> bool:
    """Whether a person with a browser asked, rather than a program."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


async def _answer(request: Request, error: Exception) -> Response:
    return answer(request, error)


def _page(request: Request, problem: Problem, error: Exception) -> Response:
    from api.pages.rendering import page, sign_in_address  # noqa: PLC0415 (pages raise problems, problems show a page)

    if problem.code == "not_signed_in" and request.method == "GET":
        return RedirectResponse(sign_in_address(request), HTTPStatus.SEE_OTHER)
    kept = written(request)
    if problem.code == "not_signed_in" and not kept:  # the session ended: back to the page of the button
        return RedirectResponse(_form_page(request), HTTPStatus.SEE_OTHER)
    unknown = error if isinstance(error, UnknownParameters) else None
    answer = page(
        request,
        "problem.html",
        status=problem.status,
        problem=problem,
        expired=isinstance(error, FormExpired),
        unknown=unknown,
        form=FilledForm(kept),
        address=_form_page(request),
        back=_form_page(request),
    )
    if request.method == "GET" and problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        answer.headers["Refresh"] = "30"  # a screen on a wall must not end on this page
    return answer


def _form_page(request: Request) -> str:
    """Return the page whose form was sent; nothing for a page that was asked for."""
    return "" if request.method == "GET" else request.url.path.rpartition("/")[0] or request.url.path


def _problem(code: str, status: HTTPStatus, detail: str = "", errors: Sequence[Fault] = ()) -> Problem:
    return Problem(
        type=f"/api/v1/docs#{code}", title=status.phrase, status=status, code=code, detail=detail, errors=errors
    )


def _fault(error: Mapping[str, object]) -> Fault:
    place = error.get("loc")
    parts = [str(part) for part in place] if isinstance(place, tuple | list) else []
    return Fault(".".join(parts[1:]) or ".".join(parts), str(error.get("msg", "")))
