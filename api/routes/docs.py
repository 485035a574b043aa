"""The API's description: the OpenAPI document, and a page made from it that needs no script and no other host."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from api.pages.rendering import page
from api.problems import BY_STATUS, KINDS

router = APIRouter(tags=["documentation"])
DOCUMENT = "/api/v1/openapi.json"


class Operation(msgspec.Struct, frozen=True):
    """One route as the page shows it."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    parameters: Sequence[Mapping[str, Any]]
    body: str
    answers: Sequence[tuple[str, str, str]]
    """Status, meaning, shape."""


@router.get(DOCUMENT)
def openapi(request: Request) -> JSONResponse:
    """The OpenAPI 3.1 document of this API."""
    return JSONResponse(request.app.openapi())


@router.get("/api/v1/docs")
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
        shapes=document.get("components", {}).get("schemas", {}),
        shape_of=_shape,
        problems=codes,
    )


def operations(document: Mapping[str, Any]) -> Iterable[tuple[str, Operation]]:
    """Yield every operation of an OpenAPI document with its tag."""
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            yield (
                said.get("tags", [""])[0],
                Operation(
                    id=said["operationId"],
                    method=method,
                    path=path,
                    summary=said.get("summary", ""),
                    description=said.get("description", ""),
                    parameters=said.get("parameters", ()),
                    body=_content(said.get("requestBody", {})),
                    answers=[
                        (status, answer.get("description", ""), _content(answer))
                        for status, answer in said.get("responses", {}).items()
                    ],
                ),
            )


def _by_tag(found: Iterable[tuple[str, Operation]]) -> Mapping[str, Sequence[Operation]]:
    groups: dict[str, list[Operation]] = {}
    for tag, operation in found:
        groups.setdefault(tag, []).append(operation)
    return groups


def _content(part: Mapping[str, Any]) -> str:
    return ", ".join(_shape(content.get("schema", {})) or kind for kind, content in part.get("content", {}).items())


def _shape(schema: Mapping[str, Any]) -> str:
    """Write a JSON schema in a few words: `Page_AlarmOut_`, `integer`, `string (date-time)`, `list of Check`."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_shape(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = str(schema.get("type", ""))
    if kind == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    return f"{kind} ({schema['format']})" if "format" in schema else kind
