"""Privacy of what an installation keeps: nobody but the user who runs it may read its files, whatever the umask was.

They hold the WeChat token, password hashes, phone numbers and openids. A process of ours makes folders of mode 0700 and
files of 0600 (`only_ours`, which its children inherit); what was made otherwise is closed when a service starts
(`close_to_others`). tests/integration/test_private.py looks at everything that an installation makes.
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
    """Let this process, and those that it starts, make nothing that others may read or enter."""
    os.umask(_OTHERS)


def private_places(settings: Settings) -> list[Path]:
    """Return the folders and files of ours that are there: the data folder, and what the settings put elsewhere.

    Of a folder elsewhere that holds an SQLite file, only that file and what SQLite keeps beside it are ours.
    """
    data = Path(settings.data_dir)
    found = [data, *(data / folder for folder in (settings.telemetry.folder, settings.agent.folder) if folder)]
    for url in (settings.records.url, settings.intake.url):
        file = re.match(r"sqlite(?:\+\w+)?:///(.+)", url)
        found += [data / f"{file[1]}{end}" for end in ("", "-wal", "-shm")] if file else []
    return [path for path in dict.fromkeys(found) if path.exists() and (path == data or data not in path.parents)]


def open_to_others(places: Iterable[Path]) -> Iterator[Path]:
    """Yield the folders and files, at and below the places, that others than their owner may use."""
    for place in sorted(set(places)):
        for path in (place, *_below(place)):
            with suppress(OSError):  # gone meanwhile
                mode = path.lstat().st_mode
                if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & _OTHERS:
                    yield path


def close_to_others(places: Iterable[Path]) -> list[Path]:
    """Take from others what they may do with the places and all below; returns what was open.

    What belongs to somebody else stays as it is: `coldchain check` names it.
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
