"""Checks of the data folder: write access, free space, and files that other users may read."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from coldchain.checks.finding import Finding, bad, good, say
from config.settings import Settings
from core.runtime.file_permissions import open_to_others, private_places

ENOUGH_DISK = 2**30
_NAMED = 3
"""Number of readable files that a finding names; the remedy is the same for all."""


def folder(data_dir: str) -> Finding:
    """Check the data folder, or its nearest parent if it doesn't exist yet."""
    path, what = Path(data_dir), say("what.folder")
    existing = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        mend = say("folder.chown", user=os.getuid()) if existing == path else say("folder.set")
        return bad(what, say("folder.not_writable", path=existing), mend)
    free = shutil.disk_usage(existing).free
    if free < ENOUGH_DISK:
        return bad(what, say("folder.full", path=path, mib=free >> 20), say("folder.make_room"))
    state = say("folder.good", path=path, gib=free >> 30)
    return good(what, state if existing == path else state + say("folder.later"))


def privacy(settings: Settings) -> Iterator[Finding]:
    """Check that nobody but the owner may read the private files."""
    readable = list(open_to_others(private_places(settings)))
    if readable:
        names = ", ".join(map(str, readable[:_NAMED])) + (" …" if len(readable) > _NAMED else "")
        mend = say("privacy.mend", paths=" ".join(map(str, private_places(settings))))
        yield bad(say("what.privacy"), say("privacy.open", count=len(readable), named=names), mend)
    elif Path(settings.data_dir).exists():
        yield good(say("what.privacy"), say("privacy.good"))
