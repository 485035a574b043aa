"""Holder of a port of this machine: an installation of ours, and which, or another program."""

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

_LISTENS = "0A"


class Holder(msgspec.Struct, frozen=True):
    """Process that listens on a port; of another user's, neither its number nor its folder is to be known."""

    pid: int = 0
    name: str = ""
    data_dir: str = ""
    """Data folder of the installation that it belongs to, by the lock file that it has open; empty for others."""

    def __str__(self) -> str:
        return f"{self.name}, process {self.pid}" if self.pid else "a program of another user"

    def is_of(self, data_dir: str) -> bool:
        """Whether it is a process of the installation with this data folder."""
        return bool(self.data_dir) and Path(self.data_dir).resolve() == Path(data_dir).resolve()


def foreign_holder(host: str, port: int, data_dir: str) -> Holder | None:
    """Return who holds a port that isn't free, unless it is a process of the same installation.

    One of an earlier generation may still be ending there; whoever wants the port waits for its lock.
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
    for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        with suppress(OSError):  # ended meanwhile, or another user's
            held = [_link(descriptor) for descriptor in (process / "fd").iterdir()]
            if inodes.intersection(held):
                return Holder(int(process.name), (process / "comm").read_text().strip(), _data_dir(held))
    return Holder()


def _data_dir(held: list[str]) -> str:
    for path in held:
        found = re.fullmatch(r"(/.+)/run/[^/]+\.lock", path)
        if found:
            return found[1]
    return ""


def _link(held: Path) -> str:
    try:
        return str(held.readlink())
    except OSError:  # closed meanwhile
        return ""


def _listening(port: int) -> Iterator[str]:
    """Yield the sockets that listen on a port, as links of processes name them."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _number, local, _remote, state, *_counts, inode = line.split()[:10]
            if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
                yield f"socket:[{inode}]"
