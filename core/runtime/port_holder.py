"""Detection of the process that holds a TCP port: one of a Coldchain installation, or another program."""

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

_LISTENS = "0A"


class Holder(msgspec.Struct, frozen=True):
    """Process that listens on a port. If it belongs to another user, its number and folder are unknown."""

    pid: int = 0
    name: str = ""
    data_dir: str = ""
    """Data folder of its installation, known by the lock file that it has open; empty for another program."""

    def __str__(self) -> str:
        return f"{self.name}, process {self.pid}" if self.pid else "a program of another user"

    def is_of(self, data_dir: str) -> bool:
        """Return whether it is a process of the installation with this data folder."""
        return bool(self.data_dir) and Path(self.data_dir).resolve() == Path(data_dir).resolve()


def foreign_holder(host: str, port: int, data_dir: str) -> Holder | None:
    """Return the holder of a port that isn't free, unless it is a process of the same installation.

    A process of the same installation may still be ending; the caller waits for its lock.
    """
    if port == 0:
        return None
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            holder = holder_of(port)
            return None if holder.is_of(data_dir) else holder
    return None


def holder_of(port: int) -> Holder:
    """Return the process that listens on a port."""
    inodes = set(_listening(port))
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):  # it has ended meanwhile, or belongs to another user
            open_files = [_link_target(descriptor) for descriptor in (process / "fd").iterdir()]
            if inodes.intersection(open_files):
                return Holder(int(process.name), (process / "comm").read_text().strip(), _data_dir(open_files))
    return Holder()


def _data_dir(open_files: list[str]) -> str:
    for path in open_files:
        lock = re.fullmatch(r"(/.+)/run/[^/]+\.lock", path)
        if lock:
            return lock[1]
    return ""


def _link_target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # closed meanwhile
        return ""


def _listening(port: int) -> Iterator[str]:
    """Yield the sockets that listen on a port, in the form that links in /proc/<pid>/fd have."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _number, local, _remote, state, *_counts, inode = line.split()[:10]
            if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
                yield f"socket:[{inode}]"
