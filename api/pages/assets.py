"""Assets of the pages: style sheet, icon and script. All are part of this package and served from here.

A page names each file with the hash of its content, so that a browser keeps it for a year and loads the new one at once
after an upgrade. Without the hash, or with an old one, it is kept for minutes and then checked by its ETag.
"""

import hashlib
import mimetypes
from functools import cache
from http import HTTPStatus
from importlib import resources

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from core.errors import NotFound

router = APIRouter(tags=["pages"])
KEPT_S = 300
KEPT_BY_HASH_S = 365 * 86_400


class Asset(msgspec.Struct, frozen=True):
    """Content of a file, and the start of its SHA-256."""

    content: bytes
    hash: str

    @property
    def etag(self) -> str:
        """Entity tag: weak, since the answer may be compressed or not."""
        return f'W/"{self.hash}"'


@router.get("/assets/{file}")
def asset(request: Request, file: str, v: str = "") -> Response:
    """Return an asset."""
    requested = files().get(file)
    if requested is None:
        raise NotFound(what="file", name=file)
    cache_control = (
        f"public, max-age={KEPT_BY_HASH_S}, immutable" if v == requested.hash else f"public, max-age={KEPT_S}"
    )
    headers = {"Cache-Control": cache_control, "ETag": requested.etag}
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if requested.etag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(requested.content, media_type=mimetypes.guess_type(file)[0], headers=headers)


@cache
def files() -> dict[str, Asset]:
    """Return all assets by name."""
    folder = resources.files("api.pages") / "assets"
    contents = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    return {name: Asset(content, hashlib.sha256(content).hexdigest()[:12]) for name, content in contents.items()}


def address(file: str) -> str:
    """Return the address from which a page loads an asset."""
    return f"/assets/{file}?v={files()[file].hash}"
