"""Query parameters: which ones a route takes, and the refusal of every other, and of characters that nobody sees.

A parameter that is silently ignored answers another question than the one that was asked (`/alarms?from=` showed all
alarms). One dependency of the whole app compares what was sent with what the matched route declares, so that no route
can forget it (tests/integration/test_api_parameters.py walks all of them).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel

from config.characters import forbidden_character

PAGE_LANGUAGE = "lang"
APPENDED_BY_WECHAT: Mapping[str, Collection[str]] = {
    "from": ("singlemessage", "groupmessage", "timeline"),
    "isappinstalled": ("0", "1"),
}
"""What WeChat appends to the address of a page that somebody shares. It is told apart from a parameter by its value."""


class UnknownParameters(RequestValidationError):
    """A request carries query parameters that its route doesn't take. `known` are those that it does."""

    def __init__(self, unknown: Collection[str], known: Collection[str]) -> None:
        self.unknown = unknown
        self.known = known
        listed = ", ".join(known) or "none"
        super().__init__(
            [
                {"type": "unknown_parameter", "loc": ("query", name), "msg": f"unknown parameter; known: {listed}"}
                for name in unknown
            ]
        )


def page_language(lang: Annotated[str | None, Query(alias=PAGE_LANGUAGE, description="zh-CN or en")] = None) -> None:
    """Declare `?lang=`, which every page takes; `api.pages.rendering` reads it."""


def any_parameters() -> None:
    """Mark a route that takes whatever is appended to its address.

    Links in messages: an alarm must open whatever WeChat or another program appends. Health: monitors add their own.
    """


def refuse_unknown_parameters(request: Request) -> None:
    """Let a request pass whose query parameters the matched route takes; a dependency of the whole app.

    Raises: UnknownParameters, with all of them at once.
    """
    if not request.query_params:
        return
    accepted: Mapping[int, Collection[str] | None] = request.app.state.parameters
    known = accepted.get(id(request.scope["route"]), ())
    if known is None:
        return
    appended = APPENDED_BY_WECHAT if PAGE_LANGUAGE in known else {}
    sent = [(name, value) for name, value in request.query_params.multi_items() if name not in known]
    unknown = sorted({name for name, value in sent if value not in appended.get(name, ())})
    if unknown:
        raise UnknownParameters(unknown, known)


def refuse_forbidden_characters(request: Request) -> None:
    """Let a request pass whose path and query have no character that no kept text may have; of the whole app as well.

    PostgreSQL refuses a NUL in what it is asked, and nobody sees the others. Bodies are held to the same where they are
    used (`core.text`). What WeChat appends to a link is not looked at.
    Raises: RequestValidationError, with all of them at once.
    """
    accepted: Mapping[int, Collection[str] | None] = request.app.state.parameters
    given = [("path", name, str(value)) for name, value in request.path_params.items()]
    if accepted.get(id(request.scope["route"]), ()) is not None:
        given += [("query", name, value) for name, value in request.query_params.multi_items()]
    found = [(place, name, forbidden_character(value)) for place, name, value in given]
    wrong = [
        {"type": "forbidden_character", "loc": (place, name), "msg": f"has {bad.name} as character {bad.position + 1}"}
        for place, name, bad in found
        if bad is not None
    ]
    if wrong:
        raise RequestValidationError(wrong)


def accepted_parameters(app: FastAPI) -> Mapping[int, Collection[str] | None]:
    """Return the names that each route takes by the id of the route's object; None for any."""
    return {
        id(context.original_route): _accepted_by(context.dependant)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
    }


def _accepted_by(dependant: Dependant) -> Collection[str] | None:
    parts = list(_with_dependencies(dependant))
    if any(part.call is any_parameters for part in parts):
        return None
    return sorted({name for part in parts for name in _names(part)})


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _with_dependencies(one)


def _names(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        shape = parameter.field_info.annotation
        if isinstance(shape, type) and issubclass(shape, BaseModel):
            yield from (field.alias or name for name, field in shape.model_fields.items())
        else:
            yield parameter.alias
