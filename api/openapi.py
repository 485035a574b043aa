"""OpenAPI document: the framework's own, completed by the errors that each route can answer.

The framework describes errors in a form that this API doesn't use, and knows only one status. The others follow from
what a route takes (a principal, something that a path names, a body, a key) and from what its declaration adds. A test
provokes each of them.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from api.auth import signed_in_principal
from api.problems import Problem

MEDIA = "application/problem+json"
MEANING = {
    HTTPStatus.UNAUTHORIZED: "nobody is signed in, or not any longer; name and password, or the token, don't fit",
    HTTPStatus.FORBIDDEN: "the caller may not do this there, must change their password first (`password_expired`), "
    "or sent a change without the session's form token",
    HTTPStatus.NOT_FOUND: "there is no such thing, or none that the caller may see",
    HTTPStatus.CONFLICT: "it contradicts what is there",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the body is larger than 128 KiB",
    HTTPStatus.UNPROCESSABLE_ENTITY: "values can't be used, or parameters aren't known; `errors` names each",
    HTTPStatus.TOO_MANY_REQUESTS: "too many tries",
    HTTPStatus.SERVICE_UNAVAILABLE: "a store can't be reached at the moment; try again after `Retry-After`",
}
_BODY = {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_FRAMEWORKS = ("HTTPValidationError", "ValidationError")


class DocumentedApp(FastAPI):
    """FastAPI application whose OpenAPI document describes errors correctly too."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, generated at the first call."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title, version=self.version, description=self.description, routes=self.routes
            )
            _complete(document, _routes(self))
            self.openapi_schema = document
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
        for method, operation in methods.items():
            operation["responses"].pop("422", None)
            route = routes[method.upper(), path]
            declared = [HTTPStatus(int(status)) for status in route.responses if int(status) >= HTTPStatus.BAD_REQUEST]
            for status in dict.fromkeys([*_error_statuses(method.upper(), path, operation, route), *declared]):
                operation["responses"][str(int(status))] = {"description": MEANING[status], "content": _BODY}
    schemas = document["components"]["schemas"]
    for name in _FRAMEWORKS:
        schemas.pop(name, None)
    schemas.update(msgspec.json.schema_components((Problem,), ref_template="#/components/schemas/{name}")[1])


def _error_statuses(method: str, path: str, operation: Mapping[str, Any], route: APIRoute) -> Sequence[HTTPStatus]:
    """Return the error statuses that a route may answer, beside 500."""
    is_guarded = _requires_sign_in(route.dependant)
    is_sign_in = path == "/api/v1/session" and method == "POST"
    checks_password = is_sign_in or path == "/api/v1/session/password"
    if path == "/metrics":
        return [HTTPStatus.FORBIDDEN]
    if "documentation" in route.tags:
        return [HTTPStatus.UNPROCESSABLE_ENTITY]
    if not is_guarded and not is_sign_in:
        return []
    names_something = "{" in path or "404" in operation["responses"]
    parameters = {parameter["name"] for parameter in operation.get("parameters", ())}
    has_body = "requestBody" in operation
    applies = {
        HTTPStatus.UNAUTHORIZED: True,
        HTTPStatus.FORBIDDEN: is_guarded,
        HTTPStatus.NOT_FOUND: names_something,
        HTTPStatus.CONFLICT: ("Idempotency-Key" in parameters and "{" in path) or "409" in operation["responses"],
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: has_body,
        HTTPStatus.UNPROCESSABLE_ENTITY: True,
        HTTPStatus.TOO_MANY_REQUESTS: checks_password,
        HTTPStatus.SERVICE_UNAVAILABLE: True,
    }
    return [status for status, does_apply in applies.items() if does_apply]


def _requires_sign_in(dependant: Dependant) -> bool:
    return dependant.call is signed_in_principal or any(_requires_sign_in(inner) for inner in dependant.dependencies)
