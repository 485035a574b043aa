"""API documentation: the OpenAPI document, and a page made from it that needs no script and no other host."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute

from api.pages.rendering import page
from api.problems import BY_STATUS, KINDS
from api.query_parameters import page_language

router = APIRouter(tags=["documentation"])
DOCUMENT = "/api/v1/openapi.json"


class Field(msgspec.Struct, frozen=True):
    """Parameter of a route, or member of a shape. `place`: path, query, header, body."""

    name: str
    kind: str
    needed: bool
    meaning: str = ""
    place: str = ""


class Operation(msgspec.Struct, frozen=True):
    """Route as the page shows it."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: Sequence[Field]
    answers: Sequence[tuple[str, str, str]]
    """Status, meaning, shape."""


@router.get(DOCUMENT)
def openapi(request: Request) -> JSONResponse:
    """The OpenAPI 3.1 document of this API."""
    return JSONResponse(request.app.openapi())


@router.get("/api/v1/docs", dependencies=[Depends(page_language)])
def documentation(request: Request) -> Response:
    """This page."""
    document = request.app.openapi()
    codes = sorted(
        {(code, int(status)) for code, status in KINDS.values()} | {(c, int(s)) for s, c in BY_STATUS.items()}
    )
    return page(
        request,
        "docs.html",
        document=document,
        groups=_by_tag(operations(document)),
        shapes=list(_shapes(document)),
        pages=sorted(_pages(request.app.routes)),
        problems=sorted({*codes, ("internal", 500)}),
    )


def operations(document: Mapping[str, Any]) -> Iterable[tuple[str, Operation]]:
    """Yield every operation of an OpenAPI document with its tag."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield (
                operation.get("tags", [""])[0],
                Operation(
                    id=operation["operationId"],
                    method=method,
                    path=path,
                    summary=operation.get("summary", ""),
                    description=operation.get("description", ""),
                    parameters=[*_parameters(operation), *_body(operation)],
                    answers=[
                        (status, answer.get("description", ""), _content(answer))
                        for status, answer in operation.get("responses", {}).items()
                    ],
                ),
            )


def _parameters(operation: Mapping[str, Any]) -> Iterable[Field]:
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        meaning = parameter.get("description") or schema.get("description", "")
        yield Field(parameter["name"], _shape(schema), parameter.get("required", False), meaning, parameter["in"])


def _body(operation: Mapping[str, Any]) -> Iterable[Field]:
    if "requestBody" in operation:
        yield Field("body", _content(operation["requestBody"]), needed=True, place="body")


def _shapes(document: Mapping[str, Any]) -> Iterable[tuple[str, str, Sequence[Field]]]:
    for name, schema in document["components"]["schemas"].items():
        needed = schema.get("required", ())
        members = schema.get("properties", {}).items()
        fields = [
            Field(key, _shape(member_schema), key in needed, member_schema.get("description", ""))
            for key, member_schema in members
        ]
        meaning = schema.get("description", "")
        yield name, f"{meaning} {_shape(schema)}" if "enum" in schema else meaning, fields


def _pages(routes: Sequence[BaseRoute]) -> Iterable[tuple[str, str, str]]:
    """Yield path, method and meaning of the pages for people."""
    for route in iter_route_contexts(routes):
        if isinstance(route.original_route, APIRoute) and not route.include_in_schema:
            meaning = route.original_route.description.partition("\n")[0]
            yield route.path or "", ", ".join(sorted(route.methods or ())), meaning


def _by_tag(operations: Iterable[tuple[str, Operation]]) -> Mapping[str, Sequence[Operation]]:
    groups: dict[str, list[Operation]] = {}
    for tag, operation in operations:
        groups.setdefault(tag, []).append(operation)
    return groups


def _content(part: Mapping[str, Any]) -> str:
    return ", ".join(_shape(content.get("schema", {})) or kind for kind, content in part.get("content", {}).items())


def _shape(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in a few words: `Page_AlarmOut_`, `integer`, `string (date-time)`, `list of Check`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_shape(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", ""))
    if kind == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    return f"{kind} ({schema['format']})" if "format" in schema else kind
