"""What pages load besides themselves: a style sheet, an icon, a script. All of it is ours and comes from here.

A page names each file with the hash of its content, so that a browser keeps it for a year and has the new one at once
after an upgrade. Without the hash, or with an old one, it is kept for minutes and then asked for by its ETag.
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
    """A file's content, and the start of its SHA-256."""

    content: bytes
    hash: str

    @property
    def etag(self) -> str:
        """Its entity tag: weak, since the answer may be compressed or not."""
        return f'W/"{self.hash}"'


@router.get("/assets/{file}")
def asset(request: Request, file: str, v: str = "") -> Response:
    """Return a file that pages load."""
    found = files().get(file)
    if found is None:
        raise NotFound(what="file", name=file)
    kept = f"public, max-age={KEPT_BY_HASH_S}, immutable" if v == found.hash else f"public, max-age={KEPT_S}"
    headers = {"Cache-Control": kept, "ETag": found.etag}
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    if found.etag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(found.content, media_type=mimetypes.guess_type(file)[0], headers=headers)


@cache
def files() -> dict[str, Asset]:
    """Return every file by its name."""
    folder = resources.files("api.pages") / "assets"
    contents = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    return {name: Asset(content, hashlib.sha256(content).hexdigest()[:12]) for name, content in contents.items()}


def address(file: str) -> str:
    """Return where a page loads a file from."""
    return f"/assets/{file}?v={files()[file].hash}"
