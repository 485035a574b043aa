"""Page rendering: a template, the words of the reader's language, and the session."""

from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from api.csrf_tokens import masked
from api.pages import assets
from api.pages.forms import LABELS
from api.pages.navigation import current, destinations
from api.pages.texts import LANGUAGES, Texts, chosen, words
from core.runtime.instant import Instant, local_day, rfc3339

LANGUAGE_COOKIE = "cc_lang"
A_YEAR_S = 365 * 86_400
SHOWN_BY = ("all", "below", "cursor", "kind", "next", "own", "since", "span", "state", "unit", "until")
"""Parameters that select what a page shows, each of a fixed form; no other is repeated in a page (ADR 13)."""
RENEWED_S = 15
"""Seconds after which a page of live figures is renewed."""


@cache
def templates() -> Environment:
    """Return the templates; inserted values are escaped, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("api.pages"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = assets.address
    environment.globals["field_labels"] = LABELS
    return environment


class SiteClock:
    """Clock of a site: writes moments for the page that is made at `now`."""

    def __init__(self, request: Request, timezone: str, now: Instant) -> None:
        self._words = words_for(request)
        self._zone = zone_info(timezone)
        self._now = now

    def __call__(self, when: Instant) -> str:
        """Write a moment to the minute."""
        return self._words.clock(when, self._zone, self._now)

    def exact(self, when: Instant) -> str:
        """Write a moment to the second: when a figure was measured, when a page was made."""
        return self._words.clock(when, self._zone, self._now, seconds=True)

    def dated(self, when: Instant) -> str:
        """Write a moment to the minute with its full date, for what is kept for years."""
        return f"{local_day(when, self._zone).isoformat()} {self._words.clock(when, self._zone, when)}"

    def iso(self, when: Instant) -> str:
        """Write a moment for programs."""
        return rfc3339(when, self._zone)


def words_for(request: Request) -> Texts:
    """Return the words of the reader's language."""
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
    every: int = 0,
    address: str = "",
    **values: Any,  # noqa: ANN401 (whatever the template shows)
) -> Response:
    """Render a page; `?lang=` is remembered in a cookie.

    `every`: a page of live figures is renewed after so many seconds (`assets/watch.js`). `address`: the address that
    renews the page, if it isn't the requested one: for the answer to a form.
    """
    reader_words = words_for(request)
    session = getattr(request.state, "session", None)
    context: Mapping[str, Any] = {
        "words": reader_words,
        "request_id": request.state.request_id,
        "in_language": _shown_at(request, address, lang=reader_words("other_language_code")),
        "address": _shown_at(request, address),
        "every": every,
        "session": session,
        "destinations": destinations(session.actor) if session else (),
        "destination": current(request.url.path),
        "csrf": masked(session.csrf) if session else "",
        **values,
    }
    answer = HTMLResponse(templates().get_template(template).render(context), status)
    if request.query_params.get("lang") in LANGUAGES:
        answer.set_cookie(LANGUAGE_COOKIE, reader_words.language, max_age=A_YEAR_S, httponly=True, samesite="lax")
    answer.headers["Content-Language"] = reader_words.language
    answer.headers["Vary"] = "Accept-Language, Cookie"
    return answer


def _shown_at(request: Request, address: str, **extra: str) -> str:
    """Return the address that shows this page again with the same selection; in another language with `lang`."""
    selection = {} if address else {name: value for name, value in request.query_params.items() if name in SHOWN_BY}
    query = urlencode({**selection, **extra})
    return f"{address or request.url.path}?{query}" if query else address or request.url.path


def sign_in_address(request: Request) -> str:
    """Return the address that signs in and then returns to this page."""
    return f"/sign-in?next={quote(_shown_at(request, ''), safe='/')}"


def local_path(given: str | None) -> str:
    """Return the path to open after signing in: a local one, never another host."""
    is_local = (
        given is not None and given.startswith("/") and not given.startswith(("//", "/\\")) and given.isprintable()
    )
    return given if given is not None and is_local else "/"


@cache
def zone_info(name: str) -> ZoneInfo:
    """Return a time zone by its name."""
    return ZoneInfo(name)
