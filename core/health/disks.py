"""How much room is left where something is kept, and can it be written there?"""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from config.settings import Settings
from core.db.engine import url_for
from core.runtime.clock import real_now
from core.runtime.trouble import Kind, Trouble
from core.telemetry.open import embedded_folder

FULL = 2**20
"""Bytes: with less than that nothing can be kept any more."""
LOW = 256 * 2**20
_SQLITE = re.compile(r"^sqlite(\+\w+)?:///")


class Disk(msgspec.Struct, frozen=True):
    """A disk on which something of ours is kept."""

    parts: list[str]
    folder: str
    free: int
    """Bytes that we may use."""
    read_only: bool

    def trouble(self) -> Trouble | None:
        """Return what is wrong with it."""
        kind = self._kind()
        part = "intake log" if "intake log" in self.parts else self.parts[0]  # what is there says most of the rest
        return Trouble(part, kind, real_now(), self.folder, f"{self.free >> 20} MiB free") if kind else None

    def _kind(self) -> Kind | None:
        if self.read_only:
            return Kind.READ_ONLY
        if self.free < FULL:
            return Kind.DISK_FULL
        return Kind.DISK_LOW if self.free < LOW else None


class DiskSeen(msgspec.Struct, frozen=True):
    """What the disk of one part says of itself."""

    device: int
    """Of two parts on one disk it is the same."""
    disk: Disk


def files(settings: Settings) -> Mapping[str, Path]:
    """Return the SQLite files that the settings name."""
    data, found = Path(settings.data_dir), {}
    records = url_for(settings.records.url, settings.data_dir)
    if _SQLITE.match(records):
        found["records"] = Path(_SQLITE.sub("", records))
    intake = settings.intake.url
    if not intake or _SQLITE.match(intake):
        found["intake log"] = data / (_SQLITE.sub("", intake) or "intake.db")
    return found


def places(settings: Settings) -> Mapping[str, Path]:
    """Return where on this machine the settings keep what; a store behind a network isn't here."""
    data = Path(settings.data_dir)
    kept = {"data folder": data, **{part: file.parent for part, file in files(settings).items()}}
    if settings.telemetry.store == "embedded":
        kept["telemetry"] = embedded_folder(settings)
    if settings.agent.gateways:
        kept["spool"] = Path(settings.agent.folder or data / "spool")
    return kept


def look_at_disk(part: str, folder: Path) -> DiskSeen:
    """Ask for the disk of a folder, which may hang; of one that isn't there yet, for its nearest parent's."""
    there = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path("/"))
    flags = os.statvfs(there).f_flag
    disk = Disk([part], str(folder), shutil.disk_usage(there).free, bool(flags & os.ST_RDONLY))
    return DiskSeen(there.stat().st_dev, disk)


def together(seen: Iterable[DiskSeen]) -> list[Disk]:
    """Return each disk once with all parts on it, most specific part first."""
    found: dict[int, Disk] = {}
    for device, disk in sorted(((one.device, one.disk) for one in seen), key=lambda one: "data folder" in one[1].parts):
        first = found.get(device)
        found[device] = msgspec.structs.replace(first, parts=[*first.parts, *disk.parts]) if first else disk
    return list(found.values())
