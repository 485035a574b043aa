"""What pages load besides themselves: a style sheet, an icon, a script. All of it is ours and comes from here."""

import mimetypes
from functools import cache
from importlib import resources

from fastapi import APIRouter
from fastapi.responses import Response

from core.errors import NotFound

router = APIRouter(tags=["pages"])
KEPT_S = 300


@router.get("/assets/{file}")
def asset(file: str) -> Response:
    """Return a file that pages load."""
    if file not in files():
        raise NotFound(what="file", name=file)
    kind = mimetypes.guess_type(file)[0]
    return Response(files()[file], media_type=kind, headers={"Cache-Control": f"public, max-age={KEPT_S}"})


@cache
def files() -> dict[str, bytes]:
    """Return every file by its name."""
    folder = resources.files("api.pages") / "assets"
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
