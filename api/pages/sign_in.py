"""Sign-in and sign-out for browsers, also without JavaScript."""

from collections.abc import Mapping
from hmac import compare_digest
from http import HTTPStatus
from secrets import token_urlsafe
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse, Response

from api.app_context import AppContext, AppContextDep
from api.auth import SignInConcurrencyLimited, signed_in_principal
from api.pages.forms import FilledForm, error_in
from api.pages.rendering import local_path, page
from api.problems import problem_of
from api.routes.session import end_session, open_session
from api.session_cookie import forget_session, keep_session
from api.sign_in_throttle import TooManyAttempts
from core.errors import NotSignedIn
from core.plain_text import is_plain

router = APIRouter(tags=["pages"])
LONGEST_NAME = 50
LONGEST_PASSWORD = 200
FORM_COOKIE = "cc_form"
"""Nobody is signed in yet, so the form carries a token that only our own page could have put into both cookie and form.
"""


@router.get("/sign-in")
def form(request: Request, context: AppContextDep, next: str = "/") -> Response:  # noqa: A002 (the name in the address)
    """Show the form."""
    return _form(request, context, back=local_path(next))


@router.post("/sign-in", dependencies=[SignInConcurrencyLimited])
def sign_in(
    request: Request,
    context: AppContextDep,
    username: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    csrf: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002 (the name in the form)
) -> Response:
    """Sign in and open the wanted page; else return the form, without the password."""
    back = local_path(next)
    kept_token = request.cookies.get(FORM_COOKIE, "")
    filled = FilledForm({"username": username}, _errors(username, password))
    if not kept_token or not compare_digest(kept_token.encode(), csrf.encode()):
        return _form(request, context, back=back, form=filled, wrong="sign_in_expired", status=HTTPStatus.FORBIDDEN)
    if filled.errors:
        return _form(request, context, back=back, form=filled, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        opened = open_session(request, context, username, password)
    except (TooManyAttempts, NotSignedIn) as error:
        wrong = "problem.too_many" if isinstance(error, TooManyAttempts) else "sign_in_wrong"
        return _form(request, context, back=back, form=filled, wrong=wrong, status=HTTPStatus(problem_of(error).status))
    answer = RedirectResponse(back, HTTPStatus.SEE_OTHER)
    keep_session(answer, context, opened)
    answer.delete_cookie(FORM_COOKIE)
    return answer


@router.post("/sign-out", dependencies=[Depends(signed_in_principal)])
def sign_out(request: Request, context: AppContextDep) -> Response:
    """End the session."""
    end_session(request, context)
    answer = RedirectResponse("/sign-in", HTTPStatus.SEE_OTHER)
    forget_session(answer, context)
    return answer


def _errors(username: str, password: str) -> Mapping[str, str]:
    """Return what is wrong with each field, before any query of the records."""
    texts = (("username", username, LONGEST_NAME, is_plain(username)), ("password", password, LONGEST_PASSWORD, True))
    return {
        name: error_in(text, longest)
        for name, text, longest, plain in texts
        if not text.strip() or len(text) > longest or not plain
    }


def _form(
    request: Request,
    context: AppContext,
    *,
    back: str,
    form: FilledForm | None = None,
    wrong: str = "",
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    token = token_urlsafe(24)
    answer = page(request, "sign_in.html", status=status, csrf=token, next=back, form=form or FilledForm(), wrong=wrong)
    answer.set_cookie(FORM_COOKIE, token, max_age=3600, httponly=True, samesite="strict", secure=context.behind_tls)
    return answer
