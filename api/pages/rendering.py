"""How a page is made: a template, the words of the reader's language, and who is signed in."""

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from api.form_tokens import masked
from api.pages import assets
from api.pages.words import LANGUAGES, Words, chosen, words

LANGUAGE_COOKIE = "cc_lang"
A_YEAR_S = 365 * 86_400


@cache
def templates() -> Environment:
    """Return the templates; everything put into them is escaped, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("api.pages"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = assets.address
    return environment


def words_for(request: Request) -> Words:
    """Return the words of the language that this reader wants."""
    return words(
        chosen(
            request.query_params.get("lang"),
            request.cookies.get(LANGUAGE_COOKIE),
            request.headers.get("accept-language"),
        )
    )


def page(
    request: Request,
    template: str,
    /,
    *,
    status: int = HTTPStatus.OK,
    **values: Any,  # noqa: ANN401 (whatever the template shows)
) -> Response:
    """Render a page; `?lang=` is remembered in a cookie."""
    said = words_for(request)
    session = getattr(request.state, "session", None)
    context: Mapping[str, Any] = {
        "words": said,
        "request_id": request.state.request_id,
        "here": request.url.path,
        "session": session,
        "csrf": masked(session.csrf) if session else "",
        **values,
    }
    answer = HTMLResponse(templates().get_template(template).render(context), status)
    if request.query_params.get("lang") in LANGUAGES:
        answer.set_cookie(LANGUAGE_COOKIE, said.language, max_age=A_YEAR_S, httponly=True, samesite="lax")
    answer.headers["Content-Language"] = said.language
    answer.headers["Vary"] = "Accept-Language, Cookie"
    return answer


def sign_in_address(request: Request) -> str:
    """Return where to sign in, and come back from to this page."""
    return f"/sign-in?next={quote(request.url.path, safe='/')}"


def local_path(given: str | None) -> str:
    """Return where to go after signing in: a path of ours, never another host."""
    ok = given is not None and given.startswith("/") and not given.startswith(("//", "/\\")) and given.isprintable()
    return given if given is not None and ok else "/"


@cache
def zone_info(name: str) -> ZoneInfo:
    """Return a time zone by its name."""
    return ZoneInfo(name)
