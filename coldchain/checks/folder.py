"""Checks of the data folder: can it be written, is there room, and who else may read what is in it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from coldchain.checks.finding import Finding, bad, good, say
from config.settings import Settings
from core.runtime.private import open_to_others, private_places

ENOUGH_DISK = 2**30
_NAMED = 3
"""So many of the open files are named; the remedy is the same for all."""


def folder(data_dir: str) -> Finding:
    """Look at the data folder, or at the nearest that is there."""
    path, what = Path(data_dir), say("what.folder")
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        mend = say("folder.chown", user=os.getuid()) if there == path else say("folder.set")
        return bad(what, say("folder.not_writable", path=there), mend)
    free = shutil.disk_usage(there).free
    if free < ENOUGH_DISK:
        return bad(what, say("folder.full", path=path, mib=free >> 20), say("folder.make_room"))
    seen = say("folder.good", path=path, gib=free >> 30)
    return good(what, seen if there == path else seen + say("folder.later"))


def privacy(settings: Settings) -> Iterator[Finding]:
    """Name what others than its owner may read."""
    found = list(open_to_others(private_places(settings)))
    if found:
        named = ", ".join(map(str, found[:_NAMED])) + (" …" if len(found) > _NAMED else "")
        mend = say("privacy.mend", paths=" ".join(map(str, private_places(settings))))
        yield bad(say("what.privacy"), say("privacy.open", count=len(found), named=named), mend)
    elif Path(settings.data_dir).exists():
        yield good(say("what.privacy"), say("privacy.good"))
