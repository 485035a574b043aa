"""Query parameters: which ones a route takes, and the refusal of every other, and of characters that nobody sees.

A parameter that is silently ignored answers another question than the one that was asked (`/alarms?from=` showed all
alarms). One dependency of the whole app compares what was sent with what the matched route declares, so that no route
can forget it (tests/integration/test_api_parameters.py walks all of them).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, get_origin

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

    One that is given twice, where the route takes one value, would be ignored but for the last, and is refused too.
    Raises: UnknownParameters, RequestValidationError; with all of them at once.
    """
    if not request.query_params:
        return
    accepted: Mapping[int, Mapping[str, bool] | None] = request.app.state.parameters
    known = accepted.get(id(request.scope["route"]), {})
    if known is None:
        return
    appended = APPENDED_BY_WECHAT if PAGE_LANGUAGE in known else {}
    sent = [(name, value) for name, value in request.query_params.multi_items() if name not in known]
    unknown = sorted({name for name, value in sent if value not in appended.get(name, ())})
    if unknown:
        raise UnknownParameters(unknown, list(known))
    counts = Counter(name for name, _ in request.query_params.multi_items())
    repeated = [name for name, several in known.items() if counts[name] > 1 and not several]
    if repeated:
        raise RequestValidationError(
            [{"type": "repeated_parameter", "loc": ("query", name), "msg": "give it once"} for name in repeated]
        )


def refuse_forbidden_characters(request: Request) -> None:
    """Let a request pass whose path and query have no character that no kept text may have; of the whole app as well.

    PostgreSQL refuses a NUL in what it is asked, and nobody sees the others. Bodies are held to the same where they are
    used (`core.text`). What WeChat appends to a link is not looked at.
    Raises: RequestValidationError, with all of them at once.
    """
    accepted: Mapping[int, Mapping[str, bool] | None] = request.app.state.parameters
    given = [("path", name, str(value)) for name, value in request.path_params.items()]
    if accepted.get(id(request.scope["route"]), {}) is not None:
        given += [("query", name, value) for name, value in request.query_params.multi_items()]
    found = [(place, name, forbidden_character(value)) for place, name, value in given]
    wrong = [
        {"type": "forbidden_character", "loc": (place, name), "msg": f"has {bad.name} as character {bad.position + 1}"}
        for place, name, bad in found
        if bad is not None
    ]
    if wrong:
        raise RequestValidationError(wrong)


def accepted_parameters(app: FastAPI) -> Mapping[int, Mapping[str, bool] | None]:
    """Return what each route takes by the id of its object: names, and whether several values; None for anything."""
    return {
        id(context.original_route): _accepted_by(context.dependant)
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
    }


def _accepted_by(dependant: Dependant) -> Mapping[str, bool] | None:
    parts = list(_with_dependencies(dependant))
    if any(part.call is any_parameters for part in parts):
        return None
    return dict(sorted({name: several for part in parts for name, several in _parameters(part)}.items()))


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _with_dependencies(one)


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for parameter in dependant.query_params:
        shape = parameter.field_info.annotation
        if isinstance(shape, type) and issubclass(shape, BaseModel):
            yield from ((field.alias or name, _several(field.annotation)) for name, field in shape.model_fields.items())
        else:
            yield parameter.alias, _several(shape)


def _several(annotation: object) -> bool:
    return get_origin(annotation) in (list, Sequence)
