"""Disk checks: free space and read-only state of the disks that hold Coldchain's files."""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from config.settings import Settings
from core.db.engine import url_for
from core.runtime.clock import real_now
from core.runtime.trouble import Trouble, TroubleKind
from core.telemetry.factory import embedded_folder

FULL = 2**20
"""Bytes. With less free space nothing can be stored any more."""
LOW = 256 * 2**20
"""Bytes. With less free space the disk will soon be full."""
_SQLITE = re.compile(r"^sqlite(\+\w+)?:///")


class Disk(msgspec.Struct, frozen=True):
    """A disk that holds some parts of the installation."""

    parts: list[str]
    folder: str
    free: int
    """Bytes available to the process."""
    read_only: bool

    def trouble(self) -> Trouble | None:
        """Return the trouble of the disk, or None."""
        kind = self._kind()
        part = "intake log" if "intake log" in self.parts else self.parts[0]  # its trouble matters most
        return Trouble(part, kind, real_now(), self.folder, f"{self.free >> 20} MiB free") if kind else None

    def _kind(self) -> TroubleKind | None:
        if self.read_only:
            return TroubleKind.READ_ONLY
        if self.free < FULL:
            return TroubleKind.DISK_FULL
        return TroubleKind.DISK_LOW if self.free < LOW else None


class DiskStatus(msgspec.Struct, frozen=True):
    """Disk of one part, with its device number."""

    device: int
    """The same for all parts on one disk."""
    disk: Disk


def files(settings: Settings) -> Mapping[str, Path]:
    """Return the SQLite files that the settings name."""
    data, files_by_part = Path(settings.data_dir), {}
    records = url_for(settings.records.url, settings.data_dir)
    if _SQLITE.match(records):
        files_by_part["records"] = Path(_SQLITE.sub("", records))
    intake = settings.intake.url
    if not intake or _SQLITE.match(intake):
        files_by_part["intake log"] = data / (_SQLITE.sub("", intake) or "intake.db")
    return files_by_part


def places(settings: Settings) -> Mapping[str, Path]:
    """Return the folder of each part on this machine. Stores on servers have none."""
    data = Path(settings.data_dir)
    folders = {"data folder": data, **{part: file.parent for part, file in files(settings).items()}}
    if settings.telemetry.store == "embedded":
        folders["telemetry"] = embedded_folder(settings)
    if settings.agent.gateways:
        folders["spool"] = Path(settings.agent.folder or data / "spool")
    return folders


def check_disk(part: str, folder: Path) -> DiskStatus:
    """Return the disk of a folder, or of its nearest existing parent. This may hang."""
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), Path("/"))
    flags = os.statvfs(existing).f_flag
    disk = Disk([part], str(folder), shutil.disk_usage(existing).free, bool(flags & os.ST_RDONLY))
    return DiskStatus(existing.stat().st_dev, disk)


def together(seen: Iterable[DiskStatus]) -> list[Disk]:
    """Return each disk once with all its parts, the data folder last."""
    disks: dict[int, Disk] = {}
    for device, disk in sorted(
        ((item.device, item.disk) for item in seen), key=lambda item: "data folder" in item[1].parts
    ):
        known_disk = disks.get(device)
        disks[device] = (
            msgspec.structs.replace(known_disk, parts=[*known_disk.parts, *disk.parts]) if known_disk else disk
        )
    return list(disks.values())
