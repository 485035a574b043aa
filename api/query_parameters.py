"""Query parameters: refusal of unknown and repeated ones, and of invisible characters.

A parameter that is silently ignored gives the answer to another question (`/alarms?from=` showed all alarms). One
dependency of the whole app compares the request's parameters with those that the matched route declares, so that no
route can forget it (tests/integration/test_api_parameters.py requests all of them).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, get_origin

from fastapi import Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel
from starlette.routing import BaseRoute

from config.characters import forbidden_character

PAGE_LANGUAGE = "lang"
APPENDED_BY_WECHAT: Mapping[str, Collection[str]] = {
    "from": ("singlemessage", "groupmessage", "timeline"),
    "isappinstalled": ("0", "1"),
}
"""Parameters that WeChat appends to the address of a shared page. Their values tell them from parameters of the page.
"""


class UnknownParameters(RequestValidationError):
    """Error: query parameters that the route doesn't take. `known` are those that it takes."""

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
    """Mark a route that accepts any parameters.

    Links in messages: an alarm must open whatever WeChat or another program appends. Health: monitors add their own.
    """


def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the matched route doesn't take; a dependency of the whole app.

    A parameter that is given twice, to a route that takes one value, is refused too: all but its last value would be
    ignored.
    Raises: UnknownParameters, RequestValidationError; each names all wrong parameters at once.
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
    repeated = [name for name, is_list in known.items() if counts[name] > 1 and not is_list]
    if repeated:
        raise RequestValidationError(
            [{"type": "repeated_parameter", "loc": ("query", name), "msg": "give it once"} for name in repeated]
        )


def refuse_forbidden_characters(request: Request) -> None:
    """Refuse a path or query with a character that no stored text may have; a dependency of the whole app.

    PostgreSQL refuses a NUL in a query, and nobody sees the others. Bodies are checked where they are used
    (`core.plain_text`). Parameters that WeChat appends to a link are not checked.
    Raises: RequestValidationError, with all of them at once.
    """
    accepted: Mapping[int, Mapping[str, bool] | None] = request.app.state.parameters
    texts = [("path", name, str(value)) for name, value in request.path_params.items()]
    if accepted.get(id(request.scope["route"]), {}) is not None:
        texts += [("query", name, value) for name, value in request.query_params.multi_items()]
    forbidden = [(location, name, forbidden_character(value)) for location, name, value in texts]
    errors = [
        {
            "type": "forbidden_character",
            "loc": (location, name),
            "msg": f"has {character.name} as character {character.position + 1}",
        }
        for location, name, character in forbidden
        if character is not None
    ]
    if errors:
        raise RequestValidationError(errors)


def accepted_parameters(routes: Sequence[BaseRoute]) -> Mapping[int, Mapping[str, bool] | None]:
    """Return the parameters of each route by the id of its object: names, and whether they are lists; None for any."""
    return {
        id(context.original_route): _accepted_by(context.dependant)
        for context in iter_route_contexts(routes)
        if isinstance(context.original_route, APIRoute)
    }


def _accepted_by(dependant: Dependant) -> Mapping[str, bool] | None:
    dependants = list(_with_dependencies(dependant))
    if any(inner.call is any_parameters for inner in dependants):
        return None
    return dict(sorted({name: is_list for inner in dependants for name, is_list in _parameters(inner)}.items()))


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for inner in dependant.dependencies:
        yield from _with_dependencies(inner)


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    for parameter in dependant.query_params:
        shape = parameter.field_info.annotation
        if isinstance(shape, type) and issubclass(shape, BaseModel):
            yield from ((field.alias or name, _is_list(field.annotation)) for name, field in shape.model_fields.items())
        else:
            yield parameter.alias, _is_list(shape)


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) in (list, Sequence)
