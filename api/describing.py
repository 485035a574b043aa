"""The OpenAPI document: what the framework writes of itself, and what each route answers when something is wrong.

The framework describes errors in a form that this API doesn't use, and knows of one status alone. Which others a route
has follows from what it takes: who asks, something that a path names, a body, a key. A test provokes each of them.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from api.asking import SAFE, signed_in
from api.problems import Problem

MEDIA = "application/problem+json"
MEANING = {
    HTTPStatus.UNAUTHORIZED: "nobody is signed in, or not any longer; name and password, or the token, don't fit",
    HTTPStatus.FORBIDDEN: "the asker may not do this there, or a change came without the session's form token",
    HTTPStatus.NOT_FOUND: "there is no such thing, or none that the asker may see",
    HTTPStatus.CONFLICT: "it contradicts what is there",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is larger than 128 KiB",
    HTTPStatus.UNPROCESSABLE_ENTITY: "values can't be used, or parameters aren't known; `errors` names each",
    HTTPStatus.TOO_MANY_REQUESTS: "too many tries",
    HTTPStatus.SERVICE_UNAVAILABLE: "a store can't be reached at the moment; try again after `Retry-After`",
}
_BODY = {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_FRAMEWORKS = ("HTTPValidationError", "ValidationError")


class DescribedApp(FastAPI):
    """A FastAPI whose document is true of errors too."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, made at the first call."""
        if self.openapi_schema is None:
            made = get_openapi(title=self.title, version=self.version, description=self.description, routes=self.routes)
            _complete(made, _routes(self))
            self.openapi_schema = made
        return self.openapi_schema


def _routes(app: FastAPI) -> Mapping[tuple[str, str], APIRoute]:
    """Return the routes by method and whole path."""
    return {
        (method, context.path or ""): context.original_route
        for context in iter_route_contexts(app.routes)
        if isinstance(context.original_route, APIRoute)
        for method in context.methods or ()
    }


def _complete(document: dict[str, Any], routes: Mapping[tuple[str, str], APIRoute]) -> None:
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            said["responses"].pop("422", None)
            for status in _wrong(method.upper(), path, said, routes[method.upper(), path]):
                said["responses"][str(int(status))] = {"description": MEANING[status], "content": _BODY}
    shapes = document["components"]["schemas"]
    for name in _FRAMEWORKS:
        shapes.pop(name, None)
    shapes.update(msgspec.json.schema_components((Problem,), ref_template="#/components/schemas/{name}")[1])


def _wrong(method: str, path: str, said: Mapping[str, Any], route: APIRoute) -> Sequence[HTTPStatus]:
    """Return the statuses with a problem that a route may answer, beside 500."""
    guarded = _asks_who(route.dependant)
    signs_in = path == "/api/v1/session" and method == "POST"
    if path == "/metrics":
        return [HTTPStatus.FORBIDDEN]
    if "documentation" in route.tags:
        return [HTTPStatus.UNPROCESSABLE_ENTITY]
    if not guarded and not signs_in:
        return []
    names = "{" in path
    parameters = {one["name"] for one in said.get("parameters", ())}
    body = "requestBody" in said
    holds = {
        HTTPStatus.UNAUTHORIZED: True,
        HTTPStatus.FORBIDDEN: guarded and (method not in SAFE or "intake" in route.tags),
        HTTPStatus.NOT_FOUND: names,
        HTTPStatus.CONFLICT: "Idempotency-Key" in parameters,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: body,
        HTTPStatus.UNPROCESSABLE_ENTITY: True,
        HTTPStatus.TOO_MANY_REQUESTS: signs_in,
        HTTPStatus.SERVICE_UNAVAILABLE: True,
    }
    return [status for status, so in holds.items() if so]


def _asks_who(dependant: Dependant) -> bool:
    return dependant.call is signed_in or any(_asks_who(one) for one in dependant.dependencies)
