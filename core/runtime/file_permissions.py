"""File privacy of an installation: only the user who runs it may read its files, whatever the umask was.

The files hold the WeChat token, password hashes, phone numbers and openids. A Coldchain process creates folders of mode
0700 and files of mode 0600 (`only_ours`, inherited by its children). Files that others may read are closed when a
service starts (`close_to_others`). tests/integration/test_file_permissions.py checks every file that an installation
creates.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from config.settings import Settings

_OTHERS = 0o077


def only_ours() -> None:
    """Set the umask of this process, and of those that it starts, so that only the owner may use new files."""
    os.umask(_OTHERS)


def private_places(settings: Settings) -> list[Path]:
    """Return the existing folders and files of the installation: the data folder, and those outside of it.

    Of a SQLite file outside the data folder these are the file itself and its -wal and -shm files, not its folder.
    """
    data = Path(settings.data_dir)
    paths = [data, *(data / folder for folder in (settings.telemetry.folder, settings.agent.folder) if folder)]
    for url in (settings.records.url, settings.intake.url):
        file = re.match(r"sqlite(?:\+\w+)?:///(.+)", url)
        paths += [data / f"{file[1]}{suffix}" for suffix in ("", "-wal", "-shm")] if file else []
    return [path for path in dict.fromkeys(paths) if path.exists() and (path == data or data not in path.parents)]


def open_to_others(places: Iterable[Path]) -> Iterator[Path]:
    """Yield the folders and files, at and below the places, that users other than the owner may access."""
    for place in sorted(set(places)):
        for path in (place, *_below(place)):
            with suppress(OSError):  # deleted meanwhile
                mode = path.lstat().st_mode
                if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & _OTHERS:
                    yield path


def close_to_others(places: Iterable[Path]) -> list[Path]:
    """Remove the permissions of other users at and below the places; return the paths that were changed.

    A file of another owner stays as it is; `coldchain check` reports it.
    """
    closed = []
    for path in open_to_others(places):
        with suppress(OSError):
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~_OTHERS)
            closed.append(path)
    return closed


def _below(place: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            yield Path(folder, name)
